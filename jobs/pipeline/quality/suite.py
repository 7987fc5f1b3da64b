"""A Great Expectations suite (GX's own JSON) -> bound checks. Needs no JVM and no great_expectations.

Sources of the parameter names and their defaults: great_expectations.expectations.core.
"""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.pipeline.errors import Problem
from jobs.pipeline.model import Check, OnFailure, Scope
from jobs.pipeline.quality.strftime import UnsupportedFormatError, compile_format
from jobs.pipeline.yaml_text import Document, YamlError, parse_yaml

Scalar = str | int | float | bool | None
Bound = str | int | float | None
JAVA_ONLY_REGEX = re.compile(r"\\[pPQhHRvVXzG]|\(\?<[a-zA-Z]|&&|\[\^?\[")


class _Kwargs(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    mostly: float = Field(default=1.0, ge=0, le=1)
    row_condition: str | dict[str, Any] | None = None
    condition_parser: Literal["spark", "great_expectations", "pandas"] | None = None


class _Column(_Kwargs):
    column: str = Field(min_length=1)


class _ValueSet(_Column):
    value_set: list[Scalar]


class _Between(_Column):
    min_value: Bound = None
    max_value: Bound = None
    strict_min: bool = False
    strict_max: bool = False

    @model_validator(mode="after")
    def _has_a_bound(self) -> "_Between":
        if self.min_value is None and self.max_value is None:
            message = "min_value and max_value cannot both be missing"
            raise ValueError(message)
        if isinstance(self.min_value, str) != isinstance(self.max_value, str) and None not in {
            self.min_value,
            self.max_value,
        }:
            message = "min_value and max_value must be of one kind: both text or both numbers"
            raise ValueError(message)
        if self.min_value is not None and self.max_value is not None and self.min_value > self.max_value:  # type: ignore[operator]
            message = f"min_value {self.min_value} is greater than max_value {self.max_value}"
            raise ValueError(message)
        return self


class _LengthsBetween(_Between):
    @model_validator(mode="after")
    def _bounds_are_whole(self) -> "_LengthsBetween":
        for bound in (self.min_value, self.max_value):
            if bound is not None and (isinstance(bound, str) or float(bound) != int(bound)):
                message = f"a length must be a whole number, not {bound!r}"
                raise ValueError(message)
        return self


class _LengthEqual(_Column):
    value: int


def _check_regex(regex: str) -> None:
    """Report what Python cannot read either; what only Java knows is left to Spark."""
    try:
        re.compile(regex)
    except re.error as error:
        if not JAVA_ONLY_REGEX.search(regex):
            message = f"not a regular expression: {error}"
            raise ValueError(message) from error


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


class _Pair(_Kwargs):
    column_A: str = Field(min_length=1)
    column_B: str = Field(min_length=1)
    ignore_row_if: Literal["both_values_are_missing", "either_value_is_missing", "neither"] = "both_values_are_missing"


class _PairGreater(_Pair):
    or_equal: bool | None = None


class _RowCount(_Kwargs):
    min_value: Annotated[int, Field(ge=0)] | None = None
    max_value: Annotated[int, Field(ge=0)] | None = None
    strict_min: bool = False
    strict_max: bool = False


class _ColumnExists(_Kwargs):
    column: str = Field(min_length=1)
    column_index: int | None = None


class _ColumnsMatchSet(_Kwargs):
    column_set: list[str] | None
    exact_match: bool | None = True


@dataclass(frozen=True, slots=True)
class Kind:
    """What a suite may say of one type of expectation."""

    scope: Scope
    kwargs: type[_Kwargs]


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
_COLUMN_KEYS = ("column", "column_A", "column_B")
_SHARED_KEYS = {"mostly", "row_condition", "condition_parser", *_COLUMN_KEYS}
_GX_ONLY_KEYS = {"batch_id", "result_format", "catch_exceptions", "table"}
_META_KEYS = {"name", "on_failure"}


class SuiteError(ValueError):
    """A suite that cannot be used; `problems` names every fault with its line."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def parse_suite(text: str, file: str, default: OnFailure) -> tuple[Check, ...]:
    """Bind a suite's expectations; `default` is what breaking a row check means unless its meta says otherwise.

    Raises SuiteError with every problem found. Check names are unique: `meta.esclusa.name`, or type and column.
    """
    document = _load(text, file)
    entries = document.data.get("expectations")
    if not isinstance(entries, list):
        raise SuiteError([Problem(file, 1, "expectations", "missing; a GX suite has a list of expectations")])
    checks: list[Check] = []
    problems: list[Problem] = []
    for index, entry in enumerate(entries):
        line = document.line_of(("expectations", index))
        try:
            checks.append(_bind(entry, file, line, default))
        except ValueError as error:
            messages = _messages(error)
            problems += [Problem(file, line, f"expectations[{index}]", message) for message in messages]
    if problems:
        raise SuiteError(problems)
    return tuple(_with_unique_names(checks))


def _load(text: str, file: str) -> Document:
    try:
        data = json.loads(text, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise SuiteError([Problem(file, error.lineno, "", f"not valid JSON: {error.msg}")]) from error
    except ValueError as error:
        raise SuiteError([Problem(file, 1, "", str(error))]) from error
    if not isinstance(data, dict):
        raise SuiteError([Problem(file, 1, "", "not a GX suite: the file must hold one JSON object")])
    try:
        return Document(data, parse_yaml(text).lines)
    except YamlError:
        return Document(data, {})


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            message = f"key '{key}' stands twice in one object"
            raise ValueError(message)
        result[key] = value
    return result


def _refuse_constant(text: str) -> float:
    message = f"{text} is not JSON"
    raise ValueError(message)


def _messages(error: ValueError) -> list[str]:
    if not isinstance(error, ValidationError):
        return [str(error)]
    return [_one_message(item) for item in error.errors()]


def _one_message(item: Any) -> str:
    where = "kwargs." + ".".join(map(str, item["loc"])) if item["loc"] else "kwargs"
    return f"{where}: {item['msg'].removeprefix('Value error, ')}"


def _bind(entry: Any, file: str, line: int, default: OnFailure) -> Check:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        message = "an expectation is an object with 'type' and 'kwargs'"
        raise ValueError(message)
    kind = _kind_of(entry["type"])
    given = {key: value for key, value in (entry.get("kwargs") or {}).items() if key not in _GX_ONLY_KEYS}
    kwargs = kind.kwargs.model_validate(given)
    _check_condition(kwargs)
    meta = _own_meta(entry)
    values = kwargs.model_dump()
    columns = tuple(values[key] for key in _COLUMN_KEYS if key in values)
    return Check(
        name=meta.get("name") or ":".join([entry["type"].removeprefix("expect_"), *columns]),
        type=entry["type"],
        scope=kind.scope,
        columns=columns,
        kwargs={key: value for key, value in values.items() if key not in _SHARED_KEYS},
        mostly=kwargs.mostly,
        row_condition=kwargs.row_condition,
        on_failure=_on_failure(meta.get("on_failure"), kind.scope, default),
        file=file,
        line=line,
    )


def _kind_of(expectation: str) -> Kind:
    if expectation in COMPILED:
        return COMPILED[expectation]
    guess = difflib.get_close_matches(expectation, COMPILED, n=1)
    hint = f"; did you mean {guess[0]}" if guess else ""
    message = f"expectation '{expectation}' cannot be compiled yet{hint}; allowed: {', '.join(sorted(COMPILED))}"
    raise ValueError(message)


def _check_condition(kwargs: _Kwargs) -> None:
    if isinstance(kwargs.row_condition, str) and kwargs.condition_parser != "spark":
        message = (
            "row_condition as text needs condition_parser 'spark' (a SQL predicate); "
            "or use GX's condition objects, as GX itself writes them"
        )
        raise ValueError(message)


def _own_meta(entry: dict[str, Any]) -> dict[str, Any]:
    meta = (entry.get("meta") or {}).get("esclusa", {})
    unknown = set(meta) - _META_KEYS
    if unknown:
        message = f"meta.esclusa: unknown key {', '.join(sorted(unknown))}; allowed: {', '.join(sorted(_META_KEYS))}"
        raise ValueError(message)
    return dict(meta)


def _on_failure(given: str | None, scope: Scope, default: OnFailure) -> OnFailure:
    if given is None:
        return default if scope is Scope.ROW or default is OnFailure.FAIL else OnFailure.EXPECT
    if given not in set(OnFailure):
        guess = difflib.get_close_matches(given, list(OnFailure), n=1)
        hint = f"; did you mean {guess[0]}" if guess else ""
        message = f"meta.esclusa.on_failure: '{given}' is not known{hint}; allowed: {', '.join(OnFailure)}"
        raise ValueError(message)
    choice = OnFailure(given)
    if scope is not Scope.ROW and choice in {OnFailure.DROP, OnFailure.QUARANTINE}:
        message = f"meta.esclusa.on_failure: {choice} sets rows apart, this check has none; use expect or expect_or_fail"
        raise ValueError(message)
    return choice


def _with_unique_names(checks: list[Check]) -> Iterator[Check]:
    seen: dict[str, int] = {}
    for check in checks:
        seen[check.name] = seen.get(check.name, 0) + 1
        number = seen[check.name]
        yield check if number == 1 else check.model_copy(update={"name": f"{check.name}#{number}"})
