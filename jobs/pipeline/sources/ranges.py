"""Values that Spark's parsers take but change on the way: what they are, as tests over typed columns of any nesting."""

from collections.abc import Callable, Iterator
from functools import reduce
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

Test = Callable[[Column], Column]
"""A value -> whether it is so; NULL counts as no."""

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


def out_of_range(value: Column, schema: StructType, text: Column) -> Iterator[tuple[str, Column]]:
    """Reasons: a number that became Infinity though the text does not say so; a time outside of years 1 to 9999.

    No other engine takes such years, and they are what epoch milliseconds become when they are read as seconds.
    """

    def is_infinite(number: Column) -> Column:
        return (F.abs(number) == F.lit(float("inf"))) & text.rlike(_NUMBER_WITH_EXPONENT_OR_LONG)

    def number(type_: DataType) -> Test | None:
        return is_infinite if isinstance(type_, FloatType | DoubleType) else None

    yield from _reasons(value, schema, "number out of range", number)
    yield from _reasons(value, schema, "day or time out of range", _time)


def narrowed_bytes(value: Column, schema: StructType, text: Column) -> Iterator[tuple[str, Column]]:
    """Reasons: a TINYINT of 128 to 255, which Spark's JSON parser takes for a negative number."""

    def is_narrowed(number: Column) -> Column:
        return (number < 0) & ~F.rlike(text, F.concat(F.lit(r"[:\[,]\s*"), number.cast("string"), F.lit(r"\b")))

    yield from _reasons(
        value, schema, "number out of range", lambda type_: is_narrowed if isinstance(type_, ByteType) else None
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
    return (lambda value: reduce(or_, (test(value[name]) for name, test in found.items()))) if found else None


def _time(type_: DataType) -> Test | None:
    if not isinstance(type_, DateType | TimestampType | TimestampNTZType):
        return None
    first, beyond = (F.lit(text).cast(type_) for text in ("0001-01-01", "+10000-01-01"))
    return lambda value: (value < first) | (value >= beyond)
