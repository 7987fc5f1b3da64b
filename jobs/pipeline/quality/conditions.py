"""GX's condition objects: which rows a check looks at.

Source of the keys and operators: great_expectations.expectations.row_conditions.
"""

from reprlib import repr as shorten
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator


class _Part(BaseModel):
    """Base of the condition types: GX's keys and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Column(_Part):
    name: str = Field(min_length=1)


class Nullity(_Part):
    """Rows where the column is NULL, or where it is not."""

    type: Literal["nullity"]
    column: _Column
    is_null: bool


def _kind_of(value: Any) -> type | None:
    if isinstance(value, str | bool):
        return type(value)
    is_number = isinstance(value, int | float) and abs(value) != float("inf")
    return float if is_number else None


def _check_parameter(value: Any) -> Any:
    kinds = {_kind_of(item) for item in (value if isinstance(value, list) else [value])}
    if None in kinds or len(kinds) > 1:
        message = f"must be text, a number, true or false, or a list of one kind of these, not {shorten(value)}"
        raise ValueError(message)
    return value


class Comparison(_Part):
    """Rows where the column compares to the parameter: one value, or for IN and NOT_IN a list of one kind."""

    type: Literal["comparison"]
    column: _Column
    operator: Literal["==", "!=", "<", "<=", ">", ">=", "IN", "NOT_IN"]
    parameter: Annotated[Any, AfterValidator(_check_parameter)]

    @model_validator(mode="after")
    def _parameter_fits_operator(self) -> "Comparison":
        needs_list = self.operator in {"IN", "NOT_IN"}
        if isinstance(self.parameter, list) != needs_list:
            message = f"operator {self.operator} compares with {'a list' if needs_list else 'one value'}"
            raise ValueError(message)
        return self


class Combination(_Part):
    """Rows that all of the conditions choose, or any of them."""

    type: Literal["and", "or"]
    conditions: list["Condition"] = Field(min_length=1)


class PassThrough(_Part):
    """GX's form of a condition given as text: a SQL predicate. Stands alone: only there is its SQL vetted."""

    type: Literal["pass_through"]
    pass_through_filter: str = Field(min_length=1)


Condition = Annotated[Nullity | Comparison | Combination, Field(discriminator="type")]


def _form_of(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    type_ = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "pass_through" if type_ == "pass_through" else "condition"


RowCondition = Annotated[
    Annotated[str, Field(min_length=1), Tag("text")]
    | Annotated[PassThrough, Tag("pass_through")]
    | Annotated[Condition, Tag("condition")],
    Discriminator(_form_of),
]
"""A SQL predicate as text, the same as GX writes it, or condition objects."""
