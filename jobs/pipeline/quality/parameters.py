"""What a suite may say of each type of expectation: its parameters, as Great Expectations names them.

Sources of the parameter names and their defaults: great_expectations.expectations.core.
"""

import re
import warnings
from dataclasses import dataclass
from reprlib import repr as shorten
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from jobs.pipeline.model import Scope
from jobs.pipeline.quality.conditions import RowCondition
from jobs.pipeline.quality.strftime import UnsupportedFormatError, compile_format

_BROKEN_IN_JAVA_TOO = (
    "missing ), unterminated subpattern",
    "unterminated character set",
    "unbalanced parenthesis",
    "bad escape (end of pattern)",
)
_SET_IN_A_SET = re.compile(r"\[[^\]]*\[")
"""In which Java reads brackets and parentheses otherwise than Python."""


def _check_scalar(value: Any) -> Any:
    is_scalar = value is None or isinstance(value, str | bool | int | float)
    if not is_scalar or value in {float("inf"), float("-inf")}:
        message = f"must be text, a number, true, false or null, not {shorten(value)}"
        raise ValueError(message)
    return value


def _check_bound(value: Any) -> Any:
    if isinstance(value, bool):
        message = f"must be text or a number, not {value!r}"
        raise ValueError(message)  # noqa: TRY004 - pydantic collects ValueErrors
    return _check_scalar(value)


# One validator instead of a union of types: pydantic reports a union's fault once for each member.
Scalar = Annotated[Any, AfterValidator(_check_scalar)]
Bound = Annotated[Any, AfterValidator(_check_bound)]


class Parameters(BaseModel):
    """What every expectation takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    mostly: float = Field(default=1.0, ge=0, le=1)
    row_condition: RowCondition | None = None
    condition_parser: Literal["spark", "great_expectations", "great_expectations__experimental__", "pandas"] | None = (
        None
    )


class _Column(Parameters):
    column: str = Field(min_length=1)


class _ValueSet(_Column):
    value_set: list[Scalar]


class _Between(_Column):
    min_value: Bound = None
    max_value: Bound = None
    strict_min: bool = False
    strict_max: bool = False

    @model_validator(mode="after")
    def _bounds_agree(self) -> "_Between":
        if self.min_value is None and self.max_value is None:
            message = "min_value and max_value cannot both be missing"
            raise ValueError(message)
        if self.min_value is None or self.max_value is None:
            return self
        if isinstance(self.min_value, str) != isinstance(self.max_value, str):
            message = "min_value and max_value must be of one kind: both text or both numbers"
            raise ValueError(message)
        if self.min_value > self.max_value:
            message = f"min_value {self.min_value} is greater than max_value {self.max_value}"
            raise ValueError(message)
        return self


class _LengthsBetween(_Between):
    @model_validator(mode="after")
    def _bounds_are_whole(self) -> "_LengthsBetween":
        for bound in (self.min_value, self.max_value):
            if isinstance(bound, str) or (isinstance(bound, float) and not bound.is_integer()):
                message = f"a length must be a whole number, not {bound!r}"
                raise ValueError(message)
        return self


class _LengthEqual(_Column):
    value: int


def _check_regex(regex: str) -> None:
    """Report what neither Python nor Java can read; what only Java knows is left to Spark."""
    try:
        with warnings.catch_warnings():
            # What Java reads as a set operation, such as &&, Python warns that it may one day read so too.
            warnings.simplefilter("ignore", FutureWarning)
            re.compile(regex)
    except (re.error, OverflowError, RecursionError) as error:
        if not isinstance(error, re.error) or _is_broken_in_java_too(regex, error):
            message = f"not a regular expression: {error}"
            raise ValueError(message) from error


def _is_broken_in_java_too(regex: str, error: re.error) -> bool:
    begins_with_repeat = (error.msg, error.pos) == ("nothing to repeat", 0)  # further on, as in ^*, Java takes it
    return (begins_with_repeat or error.msg in _BROKEN_IN_JAVA_TOO) and not _SET_IN_A_SET.search(regex)


class _Regex(_Column):
    regex: str

    @model_validator(mode="after")
    def _regex_is_valid(self) -> "_Regex":
        _check_regex(self.regex)
        return self


class _NotRegexList(_Column):
    regex_list: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _regexes_are_valid(self) -> "_NotRegexList":
        for regex in self.regex_list:
            _check_regex(regex)
        return self


class _RegexList(_NotRegexList):
    match_on: Literal["any", "all"] = "any"


class _Strftime(_Column):
    strftime_format: str

    @model_validator(mode="after")
    def _format_compiles(self) -> "_Strftime":
        try:
            compile_format(self.strftime_format)
        except UnsupportedFormatError as error:
            raise ValueError(str(error)) from error
        return self


class _OfType(_Column):
    type_: str


class _InTypeList(_Column):
    type_list: list[str] = Field(min_length=1)


class _Pair(Parameters):
    column_A: str = Field(min_length=1)
    column_B: str = Field(min_length=1)
    ignore_row_if: Literal["both_values_are_missing", "either_value_is_missing", "neither"] = "both_values_are_missing"


class _PairGreater(_Pair):
    or_equal: bool | None = None


class _RowCount(Parameters):
    min_value: Annotated[int, Field(ge=0)] | None = None
    max_value: Annotated[int, Field(ge=0)] | None = None
    strict_min: bool = False
    strict_max: bool = False


class _ColumnExists(Parameters):
    column: str = Field(min_length=1)
    column_index: int | None = None


class _ColumnsMatchSet(Parameters):
    column_set: list[str] | None
    exact_match: bool | None = True


@dataclass(frozen=True, slots=True)
class Kind:
    """What a suite may say of one type of expectation."""

    scope: Scope
    parameters: type[Parameters]


COMPILED: dict[str, Kind] = {
    "expect_column_values_to_not_be_null": Kind(Scope.ROW, _Column),
    "expect_column_values_to_be_null": Kind(Scope.ROW, _Column),
    "expect_column_values_to_be_in_set": Kind(Scope.ROW, _ValueSet),
    "expect_column_values_to_not_be_in_set": Kind(Scope.ROW, _ValueSet),
    "expect_column_values_to_be_between": Kind(Scope.ROW, _Between),
    "expect_column_value_lengths_to_be_between": Kind(Scope.ROW, _LengthsBetween),
    "expect_column_value_lengths_to_equal": Kind(Scope.ROW, _LengthEqual),
    "expect_column_values_to_match_regex": Kind(Scope.ROW, _Regex),
    "expect_column_values_to_not_match_regex": Kind(Scope.ROW, _Regex),
    "expect_column_values_to_match_regex_list": Kind(Scope.ROW, _RegexList),
    "expect_column_values_to_not_match_regex_list": Kind(Scope.ROW, _NotRegexList),
    "expect_column_values_to_match_strftime_format": Kind(Scope.ROW, _Strftime),
    "expect_column_values_to_be_json_parseable": Kind(Scope.ROW, _Column),
    "expect_column_pair_values_to_be_equal": Kind(Scope.ROW, _Pair),
    "expect_column_pair_values_a_to_be_greater_than_b": Kind(Scope.ROW, _PairGreater),
    "expect_column_values_to_be_of_type": Kind(Scope.SCHEMA, _OfType),
    "expect_column_values_to_be_in_type_list": Kind(Scope.SCHEMA, _InTypeList),
    "expect_column_to_exist": Kind(Scope.SCHEMA, _ColumnExists),
    "expect_table_columns_to_match_set": Kind(Scope.SCHEMA, _ColumnsMatchSet),
    "expect_table_row_count_to_be_between": Kind(Scope.BATCH, _RowCount),
}
