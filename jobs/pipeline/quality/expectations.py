"""One small function per Great Expectations row expectation: checked parameters -> Spark Column.

A function returns whether a value is as expected; NULL counts as not expected, for a NULL value never
reaches the question (see `compile_row_check`). Semantics: GX's own Spark metrics
(great_expectations.expectations.metrics), except where a comment says otherwise.
"""

import secrets
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from operator import and_, or_
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.types import StructType

from jobs.pipeline.columns import combine, quote
from jobs.pipeline.model import Check
from jobs.pipeline.quality.strftime import compile_format

Kwargs = dict[str, Any]
Columns = dict[str, T.DataType]


@dataclass(frozen=True, slots=True)
class RowRule:
    """Two Boolean Columns, neither ever NULL: rows the check looks at, and those of them that break it."""

    considered: Column
    failed: Column


def compile_row_check(check: Check, schema: StructType) -> RowRule:
    """Compile one row check; starts no Spark job. Column names are taken literally, dots included."""
    columns = [column(name) for name in check.columns]
    considered = _considered(check, columns)
    expected = ROW_EXPECTATIONS[check.type](*columns, _with_moments(check, schema))
    return RowRule(considered, considered & ~F.coalesce(expected, F.lit(False)))


def _with_moments(check: Check, schema: StructType) -> Kwargs:
    """The parameters, with bounds of more than a day as TIMESTAMP.

    Text Spark would cast to the type of the column, DATE or TIMESTAMP_NTZ, and drop the time of day or the offset.
    """
    if check.type != "expect_column_values_to_be_between":
        return check.kwargs
    if not isinstance(schema[check.columns[0]].dataType, T.DateType | T.TimestampType | T.TimestampNTZType):
        return check.kwargs
    return {key: _moment(value) if isinstance(value, str) else value for key, value in check.kwargs.items()}


def _moment(text: str) -> Column:
    return F.lit(text).cast("timestamp") if len(text) > len("yyyy-mm-dd") else F.lit(text)


def column(name: str) -> Column:
    """The column of exactly this name: dots and backticks have no meaning."""
    return F.col(quote(name))


def _considered(check: Check, columns: list[Column]) -> Column:
    terms = [] if check.row_condition is None else [F.coalesce(compile_condition(check.row_condition), F.lit(False))]
    if check.type not in LOOKS_AT_NULL:
        terms.append(_not_ignored(columns, check.kwargs))
    return combine(and_, terms or [F.lit(True)])


def _not_ignored(columns: list[Column], kwargs: Kwargs) -> Column:
    """GX ignores NULL in one-column checks; for pairs `ignore_row_if` says which rows."""
    match kwargs.get("ignore_row_if"):
        case None | "either_value_is_missing":
            return combine(and_, [value.isNotNull() for value in columns])
        case "both_values_are_missing":
            return combine(or_, [value.isNotNull() for value in columns])
        case _:
            return F.lit(True)


def compile_condition(condition: str | Kwargs) -> Column:
    """GX's row_condition -> Column: condition objects as GX writes them, or a SQL predicate (already vetted)."""
    if isinstance(condition, str):
        return F.expr(condition)
    match condition["type"]:
        case "pass_through":
            return F.expr(condition["pass_through_filter"])
        case "and" | "or":
            operator = and_ if condition["type"] == "and" else or_
            return combine(operator, [compile_condition(part) for part in condition["conditions"]])
        case "nullity":
            value = column(condition["column"]["name"])
            return value.isNull() if condition["is_null"] else value.isNotNull()
        case "comparison":
            return _compare(column(condition["column"]["name"]), condition["operator"], condition["parameter"])
        case other:
            message = f"row_condition of type '{other}' is not known"
            raise ValueError(message)


def _compare(value: Column, operator: str, parameter: Any) -> Column:
    comparisons: dict[str, Callable[[], Column]] = {
        "==": lambda: value == _literal(parameter),
        "!=": lambda: value != _literal(parameter),
        "<": lambda: value < _literal(parameter),
        "<=": lambda: value <= _literal(parameter),
        ">": lambda: value > _literal(parameter),
        ">=": lambda: value >= _literal(parameter),
        "IN": lambda: value.isin(_literals(parameter)),
        "NOT_IN": lambda: ~value.isin(_literals(parameter)),
    }
    return comparisons[operator]()


def _literal(value: Any) -> Column:
    return F.lit(_beyond_long(value))


def _literals(values: list[Any]) -> list[Any]:
    return list(map(_beyond_long, values))


def _beyond_long(value: Any) -> Any:
    """A whole number of more than 64 bits as a decimal: as a number it does not reach the JVM."""
    return Decimal(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def _not_null(value: Column, _: Kwargs) -> Column:
    return value.isNotNull()


def _null(value: Column, _: Kwargs) -> Column:
    return value.isNull()


def _in_set(value: Column, kwargs: Kwargs) -> Column:
    # A NULL in the set would make every other value's answer NULL; NULL values are ignored anyway.
    return value.isin(_literals([item for item in kwargs["value_set"] if item is not None]))


def _not_in_set(value: Column, kwargs: Kwargs) -> Column:
    return ~_in_set(value, kwargs)


def _between(value: Column, kwargs: Kwargs) -> Column:
    tests = []
    if kwargs["min_value"] is not None:
        low = _literal(kwargs["min_value"])
        tests.append(value > low if kwargs["strict_min"] else value >= low)
    if kwargs["max_value"] is not None:
        high = _literal(kwargs["max_value"])
        tests.append(value < high if kwargs["strict_max"] else value <= high)
    return combine(and_, tests)


def _lengths_between(value: Column, kwargs: Kwargs) -> Column:
    return _between(F.length(value), kwargs)


def _length_equal(value: Column, kwargs: Kwargs) -> Column:
    return F.length(value) == F.lit(kwargs["value"])


def _match_regex(value: Column, kwargs: Kwargs) -> Column:
    return value.rlike(kwargs["regex"])


def _not_match_regex(value: Column, kwargs: Kwargs) -> Column:
    return ~value.rlike(kwargs["regex"])


def _match_regex_list(value: Column, kwargs: Kwargs) -> Column:
    operator = or_ if kwargs["match_on"] == "any" else and_
    return combine(operator, [value.rlike(regex) for regex in kwargs["regex_list"]])


def _not_match_regex_list(value: Column, kwargs: Kwargs) -> Column:
    return combine(and_, [~value.rlike(regex) for regex in kwargs["regex_list"]])


def _match_strftime(value: Column, kwargs: Kwargs) -> Column:
    """`datetime.strptime(value, format)` succeeds: the text matches, the day exists in its month, the second at all."""
    compiled = compile_format(kwargs["strftime_format"])
    parts = {name: F.regexp_extract(value, compiled.regex, group) for name, group in compiled.groups.items()}
    tests = [value.rlike(compiled.regex)]
    if "year" in parts:
        tests.append(parts["year"] != "0000")
    if "second" in parts:
        tests.append(~parts["second"].isin("60", "61"))
    if "day" in parts and "month" in parts:
        year, month, day = (F.try_to_number(F.trim(part), F.lit("9999")) for part in _date_parts(parts))
        first = F.make_date(F.greatest(year.cast("int"), F.lit(1)), month.cast("int"), F.lit(1))
        tests.append(day <= F.dayofmonth(F.last_day(first)))
    return combine(and_, tests)


def _date_parts(parts: dict[str, Column]) -> tuple[Column, Column, Column]:
    return parts.get("year", F.lit("1900")), parts["month"], parts["day"]


_SPARKS_INFINITY = r"[+-]INF|\+Infinity"


def _json_parseable(value: Column, _: Kwargs) -> Column:
    """`json.loads(value)` succeeds. Framed, for Spark's parser stops at the end of the first value.

    Spark reads NaN and Infinity as json.loads does, and other spellings of them besides. The frame's key is random, so
    that no text can close it by itself.
    """
    key = f"_esclusa_{secrets.token_hex(4)}"
    end = f'{{"{key}":true}}'
    framed = F.concat(F.lit(f'{{"{key}":['), value, F.lit(f",{end}]}}"))
    parsed: Column = F.from_json(framed, f"{key} array<string>", {"allowSingleQuotes": "false"})[key]
    is_one = (F.size(parsed) == 2) & (F.get(parsed, F.lit(1)) == end)  # noqa: PLR2004 - the value and the frame's end
    outside_of_text = F.regexp_replace(F.regexp_replace(value, r"(?s)\\.", ""), '"[^"]*"', "")
    return is_one & ~(value.rlike(_SPARKS_INFINITY) & outside_of_text.rlike(_SPARKS_INFINITY))


def _pair_equal(first: Column, second: Column, _: Kwargs) -> Column:
    return first.eqNullSafe(second)


def _pair_greater(first: Column, second: Column, kwargs: Kwargs) -> Column:
    # A NULL on one side only fails the row, as in GX's pandas engine; GX's Spark engine lets it pass.
    if kwargs["or_equal"]:
        return (first >= second) | first.eqNullSafe(second)
    return first > second


LOOKS_AT_NULL = frozenset({"expect_column_values_to_not_be_null", "expect_column_values_to_be_null"})

ROW_EXPECTATIONS: dict[str, Callable[..., Column]] = {
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_be_null": _null,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_in_set": _not_in_set,
    "expect_column_values_to_be_between": _between,
    "expect_column_value_lengths_to_be_between": _lengths_between,
    "expect_column_value_lengths_to_equal": _length_equal,
    "expect_column_values_to_match_regex": _match_regex,
    "expect_column_values_to_not_match_regex": _not_match_regex,
    "expect_column_values_to_match_regex_list": _match_regex_list,
    "expect_column_values_to_not_match_regex_list": _not_match_regex_list,
    "expect_column_values_to_match_strftime_format": _match_strftime,
    "expect_column_values_to_be_json_parseable": _json_parseable,
    "expect_column_pair_values_to_be_equal": _pair_equal,
    "expect_column_pair_values_a_to_be_greater_than_b": _pair_greater,
}


SPARK_TYPES: dict[str, type[T.DataType]] = {
    name: one for name, one in vars(T).items() if isinstance(one, type) and issubclass(one, T.DataType)
}
"""Types by their names in pyspark.sql.types, which has modules and functions among them."""


def schema_fault(check: Check, columns: Columns) -> str | None:
    """What a schema check finds instead of what it wants, None if it holds; reads no data.

    Types are PySpark's names, as in GX's Spark engine; columns are those of `list_columns`.
    """
    return None if _holds(check, columns) else ", ".join(_faults(check, columns))


def _holds(check: Check, columns: Columns) -> bool:
    match check.type:
        case "expect_column_to_exist":
            return _column_exists(check.columns[0], check.kwargs["column_index"], list(columns))
        case "expect_table_columns_to_match_set":
            return _columns_match(check.kwargs, columns.keys())
        case "expect_column_values_to_be_of_type" | "expect_column_values_to_be_in_type_list":
            # As in GX, names that are none, such as those of another backend, count for nothing beside others.
            known = tuple(SPARK_TYPES[name] for name in named_types(check) if name in SPARK_TYPES)
            return isinstance(columns.get(check.columns[0]), known)
        case other:
            message = f"{other} does not look at the schema"
            raise ValueError(message)


def _faults(check: Check, columns: Columns) -> Iterator[str]:
    """Of a check that does not hold."""
    if "column_set" in check.kwargs:
        expected = check.kwargs["column_set"] or []
        yield from (f"no {name}" for name in expected if name not in columns)
        if check.kwargs["exact_match"]:
            yield from (f"{name} besides" for name in columns if name not in expected)
        return
    [name] = check.columns
    if name not in columns:
        yield f"no {name}"
    elif named_types(check):
        yield f"{name} as {type(columns[name]).__name__}"
    else:
        yield f"{name} in place {list(columns).index(name)}"


def list_columns(schema: StructType, parent: str = "") -> Iterator[tuple[str, T.DataType]]:
    """Names and types as GX lists them: fields of structs are columns too (`customer.id`), a dotted name is quoted."""
    for field in schema.fields:
        yield parent + (quote(field.name) if "." in field.name else field.name), field.dataType
        if isinstance(field.dataType, StructType):
            yield from list_columns(field.dataType, f"{parent}{field.name}.")


def named_types(check: Check) -> list[str]:
    """The names of types that a check of types gives; none for other checks."""
    return [check.kwargs["type_"]] if "type_" in check.kwargs else check.kwargs.get("type_list", [])


def _column_exists(name: str, index: int | None, names: list[str]) -> bool:
    """As GX: an index of 0 says nothing, a negative one counts from the end."""
    if not index:
        return name in names
    return -len(names) <= index < len(names) and names[index] == name


def _columns_match(kwargs: Kwargs, names: AbstractSet[str]) -> bool:
    expected = set(kwargs["column_set"] or [])
    return expected == names if kwargs["exact_match"] else expected <= names
