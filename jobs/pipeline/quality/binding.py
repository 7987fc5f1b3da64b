"""checks x schema -> problems: what would only fail on the first row is found before the first batch."""

import difflib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pyspark.errors import AnalysisException, IllegalArgumentException
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from jobs.pipeline.errors import Problem
from jobs.pipeline.hints import did_you_mean
from jobs.pipeline.jvm import jvm_class
from jobs.pipeline.model import Check, Scope
from jobs.pipeline.quality.expectations import LOOKS_AT_NULL, SPARK_TYPES, compile_row_check, list_columns, named_types
from jobs.pipeline.sql_guard import UnsafeSqlError, check_predicate, find_unrepeatable

_FAMILIES: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("number", (T.NumericType,)),
    ("text", (T.StringType, T.CharType, T.VarcharType)),
    ("boolean", (T.BooleanType,)),
    ("time", (T.DateType, T.TimestampType, T.TimestampNTZType)),
)
_MOST_DIGITS = 38
"""Of a DECIMAL."""
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?(Z|[+-](0\d|1[0-7])(:?[0-5]\d)?)?)?)?", re.ASCII)
"""What both Spark and Python read; Spark wants seconds before an offset, and takes one of 18 hours at most."""
_NEEDS_TEXT = frozenset(
    {
        "expect_column_values_to_match_strftime_format",
        "expect_column_values_to_be_json_parseable",
        "expect_column_values_to_match_regex",
        "expect_column_values_to_not_match_regex",
        "expect_column_values_to_match_regex_list",
        "expect_column_values_to_not_match_regex_list",
    }
)


def find_problems(checks: tuple[Check, ...], schema: T.StructType, spark: SparkSession) -> list[Problem]:
    """Every check that cannot be evaluated over this schema, with its line in the suite; starts no Spark job."""
    return [
        Problem(check.file, check.line, f"check {check.name}", message)
        for check in checks
        for message in _problems_of(check, schema, spark)
    ]


def _problems_of(check: Check, schema: T.StructType, spark: SparkSession) -> Iterator[str]:
    names = [name for name, _ in list_columns(schema)] if check.scope is Scope.SCHEMA else schema.fieldNames()
    if check.type != "expect_column_to_exist":
        missing = [name for name in check.columns if name not in names]
        yield from (_no_such_column(name, names) for name in missing)
        if missing:
            return
    if check.scope is Scope.ROW:
        types = [schema[name].dataType for name in check.columns]
        problems = [
            *_type_problems(check, types),
            *_regex_problems(check, spark),
            *_condition_problems(check, schema, spark),
        ]
        yield from problems or _unforeseen_problems(check, schema, spark)
    elif check.scope is Scope.SCHEMA:
        yield from _unknown_types(check)


def _no_such_column(name: str, names: list[str]) -> str:
    guess = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {guess[0]}" if guess else ""
    return f"there is no column '{name}' after the transforms{hint}; columns: {', '.join(names)}"


def _type_problems(check: Check, types: list[T.DataType]) -> Iterator[str]:
    family = _family(types[0])
    if check.type in _NEEDS_TEXT and family != "text":
        yield f"column '{check.columns[0]}' is {types[0].simpleString()}; this check needs text"
    if len(types) == 2 and _family(types[1]) != family:  # noqa: PLR2004 - a pair
        yield f"{types[0].simpleString()} and {types[1].simpleString()} cannot be compared"
    yield from _misfits(check.columns[0], types[0], _literals(check))


def _regex_problems(check: Check, spark: SparkSession) -> Iterator[str]:
    """Spark's regular expressions are Java's, in which `(?P<name>…)`, for one, is none."""
    pattern = jvm_class(spark, "java.util.regex.Pattern")
    for regex in [check.kwargs["regex"]] if "regex" in check.kwargs else check.kwargs.get("regex_list", []):
        try:
            pattern.compile(regex)
        except IllegalArgumentException as error:
            yield f"Java, and so Spark, cannot read the regular expression '{regex}': {str(error).splitlines()[0]}"


def _literals(check: Check) -> list[Any]:
    if "length" in check.type:
        return []
    return [check.kwargs.get("min_value"), check.kwargs.get("max_value"), *check.kwargs.get("value_set", [])]


def _misfits(column: str, type_: T.DataType, values: list[Any]) -> Iterator[str]:
    for value in values:
        if value is not None and not _fits(value, _family(type_)):
            yield f"column '{column}' is {type_.simpleString()}; {value!r} cannot be compared with it"


def _family(data_type: T.DataType) -> str:
    return next((name for name, types in _FAMILIES if isinstance(data_type, types)), "other")


def _fits(value: Any, family: str) -> bool:
    match value:
        case bool():
            return family == "boolean"
        case int():
            return family == "number" and abs(value) < 10**_MOST_DIGITS
        case float():
            return family == "number"
        case str() if family == "time":
            return _is_iso(value)
        case str():
            return family == "text"
        case _:
            return False


def _is_iso(text: str) -> bool:
    """Whether Spark takes the text for a day or a time as Python does; of ISO 8601 it knows less (no 20130601)."""
    if not _MOMENT.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _condition_problems(check: Check, schema: T.StructType, spark: SparkSession) -> Iterator[str]:
    condition = check.row_condition
    if isinstance(condition, dict):
        for leaf in _leaves(condition):
            yield from (f"row_condition: {problem}" for problem in _leaf_problems(leaf, schema))
        condition = condition.get("pass_through_filter")
    if isinstance(condition, str):
        try:
            check_predicate(spark, condition)
            reason = find_unrepeatable(spark.createDataFrame([], schema).where(condition))
        except (UnsafeSqlError, AnalysisException) as error:
            reason = str(error).strip().splitlines()[0]
        if reason:
            yield f"row_condition: {reason}"


def _leaves(condition: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The conditions that others are combined of."""
    if "conditions" not in condition:
        yield condition
    for part in condition.get("conditions", []):
        yield from _leaves(part)


def _leaf_problems(condition: dict[str, Any], schema: T.StructType) -> Iterator[str]:
    names, name = schema.fieldNames(), condition.get("column", {}).get("name")
    if name is not None and name not in names:
        yield _no_such_column(name, names)
    elif condition["type"] == "comparison":
        parameter = condition["parameter"]
        yield from _misfits(name, schema[name].dataType, parameter if isinstance(parameter, list) else [parameter])


def _unforeseen_problems(check: Check, schema: T.StructType, spark: SparkSession) -> Iterator[str]:
    """What Spark itself says of arrays, maps and the like; of other types all is known above, in no time."""
    families = {_family(schema[name].dataType) for name in check.columns}
    if "other" not in families or check.type in LOOKS_AT_NULL:
        return
    try:
        spark.createDataFrame([], schema).select(compile_row_check(check, schema).failed)
    except AnalysisException as error:
        yield str(error).strip().splitlines()[0]


def _unknown_types(check: Check) -> Iterator[str]:
    named = named_types(check)
    if named and SPARK_TYPES.keys().isdisjoint(named):
        hint = did_you_mean(named[0], SPARK_TYPES)
        yield f"there is no Spark type {' or '.join(named)}{hint}; allowed: {', '.join(sorted(SPARK_TYPES))}"
