"""Values that Spark's parsers take but change on the way: what they are, as tests over typed columns of any nesting."""

from collections.abc import Callable, Iterator
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    ByteType,
    DataType,
    DateType,
    DoubleType,
    FloatType,
    MapType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from jobs.pipeline.columns import combine

Test = Callable[[Column], Column]
"""A value -> whether it is so; NULL counts as no."""

WIDENED: dict[type[DataType], str] = {ByteType: "smallint"}
"""As what JSON is parsed, for `beyond_byte` to see what is there."""
_NUMBER_WITH_EXPONENT_OR_LONG = r"[0-9.][eE]\+?[0-9]|[0-9]{39}"


def leaf_test(type_: DataType, leaf: Callable[[DataType], Test | None]) -> Test | None:
    """A test of whether some leaf of a value of this type fails; None if `leaf` has no test for any of them."""
    match type_:
        case StructType():
            return _any_field(type_, leaf)
        case ArrayType():
            return _any_item(leaf_test(type_.elementType, leaf), lambda value: value)
        case MapType():
            return _any_item(leaf_test(type_.valueType, leaf), F.map_values)
        case _:
            return leaf(type_)


def out_of_range(value: Column, schema: StructType, text: Column, infinity: str) -> Iterator[tuple[str, Column]]:
    """Reasons: a number that became Infinity though the text does not say so; a time that `beyond_calendar` finds.

    A text that matches `infinity`, as it may be written, needs a closer look: see `may_be_out_of_range`.
    """

    def is_said(number: Column) -> Column:
        return is_infinite(number) & text.rlike(_NUMBER_WITH_EXPONENT_OR_LONG) & ~text.rlike(infinity)

    yield from _reasons(value, schema, "number out of range", for_floats(is_said))
    yield from beyond_calendar(value, schema)


def may_be_out_of_range(value: Column, schema: StructType, text: Column) -> Column | None:
    """Whether some number is Infinity, and the text has one that may have become so; None without such columns."""
    test = leaf_test(schema, for_floats(is_infinite))
    return test(value) & text.rlike(_NUMBER_WITH_EXPONENT_OR_LONG) if test else None


def is_infinite(number: Column) -> Column:
    """Whether a DOUBLE or FLOAT is Infinity or -Infinity."""
    return F.abs(number) == F.lit(float("inf"))


def for_floats(test: Test) -> Callable[[DataType], Test | None]:
    """The test for the leaves that are DOUBLE or FLOAT."""
    return lambda type_: test if isinstance(type_, FloatType | DoubleType) else None


def beyond_calendar(value: Column, schema: StructType) -> Iterator[tuple[str, Column]]:
    """Reasons: a time outside of years 1 to 9999.

    No other engine takes such years, and they are what epoch milliseconds become when they are read as seconds.
    """
    yield from _reasons(value, schema, "day or time out of range", _time)


def beyond_byte(value: Column, schema: StructType) -> Iterator[tuple[str, Column]]:
    """Reasons: a number beyond TINYINT, for values that were parsed as SMALLINT (`WIDENED`).

    Spark's JSON parser takes 128 to 255 for negative TINYINTs, and refuses what is beyond SMALLINT.
    """

    def is_beyond(number: Column) -> Column:
        return (number < F.lit(-128)) | (number > F.lit(127))

    yield from _reasons(
        value, schema, "number out of range", lambda type_: is_beyond if isinstance(type_, ByteType) else None
    )


def _reasons(
    value: Column, schema: StructType, what: str, leaf: Callable[[DataType], Test | None]
) -> Iterator[tuple[str, Column]]:
    for field in schema.fields:
        test = leaf_test(field.dataType, leaf)
        if test:
            yield f"{field.name}: {what}", test(value[field.name])


def _any_item(test: Test | None, items: Callable[[Column], Column]) -> Test | None:
    return (lambda value: F.exists(items(value), test)) if test else None


def _any_field(type_: StructType, leaf: Callable[[DataType], Test | None]) -> Test | None:
    tests = {field.name: leaf_test(field.dataType, leaf) for field in type_.fields}
    found = {name: test for name, test in tests.items() if test}
    return (lambda value: combine(or_, [test(value[name]) for name, test in found.items()])) if found else None


def _time(type_: DataType) -> Test | None:
    if not isinstance(type_, DateType | TimestampType | TimestampNTZType):
        return None
    first, beyond = (F.lit(text).cast(type_) for text in ("0001-01-01", "+10000-01-01"))
    return lambda value: (value < first) | (value >= beyond)
