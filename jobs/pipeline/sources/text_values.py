"""Text of one record -> typed columns plus the reason why it is malformed. Shared by files and Kafka."""

from collections.abc import Callable, Iterator

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, FloatType, StructType

from jobs.pipeline.columns import column_list
from jobs.pipeline.record import MALFORMED, RECORD

CORRUPT = "_esclusa_corrupt"
_PARSED = "_esclusa_parsed"
_VALUE = "_esclusa_value"
_OPTIONS = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}


Parser = Callable[[DataFrame], DataFrame]
"""Unparsed rows -> `_record`, `_malformed` (the reason, or NULL), then the data columns.

A parser holds Columns that are built once a run, for building them costs more than parsing a small batch.
"""


def compile_json(record: Column, raw: Column, schema: StructType, options: dict[str, str]) -> Parser:
    """Parser of one JSON object a record; `record` is the `_record` struct, `raw` the bytes.

    The text is parsed inside `{"v":[…]}`: Spark's parser stops at the end of the first value, and what stands
    behind it would be lost without a word.
    """
    wrapped = F.concat(F.lit('{"v":['), raw.cast("string"), F.lit("]}"))
    ddl = f"v array<{schema.simpleString()}>, {CORRUPT} string"
    values, value, text = F.col(f"{_PARSED}.v"), F.col(_VALUE), F.col(f"{RECORD}.raw").cast("string")
    reason = first_reason(
        ("null value (tombstone)", text.isNull()),
        ("not valid UTF-8", ~F.is_valid_utf8(text)),
        ("not valid JSON, or a field does not fit its type", F.col(f"{_PARSED}.{CORRUPT}").isNotNull()),
        ("empty value", F.size(values) == 0),
        ("more than one JSON value in one record", F.size(values) > 1),
        ("JSON null, not an object", value.isNull()),
        *_overflow(value, schema, text),
    )
    first = (record, F.from_json(wrapped, ddl, {**options, **_OPTIONS}).alias(_PARSED))
    second = (F.col(RECORD), F.col(_PARSED), F.get(values, F.lit(0)).alias(_VALUE))
    third = (F.col(RECORD), reason.alias(MALFORMED), *_fields(schema))
    return lambda unparsed: unparsed.select(*first).select(*second).select(*third)


def compile_csv(record: Column, line: Column, schema: StructType, options: dict[str, str]) -> Parser:
    """Parser of one CSV line a record; `record` is the `_record` struct, `line` the text."""
    ddl = f"{column_list(schema)}, {CORRUPT} string"
    value, text = F.col(_VALUE), F.col(f"{RECORD}.raw").cast("string")
    reason = first_reason(
        ("not valid UTF-8", ~F.is_valid_utf8(text)),
        (f"not {len(schema)} columns, or a column does not fit its type", value[CORRUPT].isNotNull() | value.isNull()),
        ("unbalanced quotes", _has_open_quote(text, options)),
        *_overflow(value, schema, text),
    )
    first = (record, F.from_csv(line, F.lit(ddl), {**options, **_OPTIONS}).alias(_VALUE))
    second = (F.col(RECORD), reason.alias(MALFORMED), *_fields(schema))
    return lambda unparsed: unparsed.select(*first).select(*second)


def first_reason(*reasons: tuple[str, Column]) -> Column:
    """Text of the first condition that holds; NULL if none does."""
    result = F.lit(None).cast("string")
    for text, is_so in reversed(reasons):
        result = F.when(is_so, F.lit(text)).otherwise(result)
    return result


def _fields(schema: StructType) -> list[Column]:
    return [F.col(_VALUE)[field.name].alias(field.name) for field in schema.fields]


def _overflow(value: Column, schema: StructType, text: Column) -> Iterator[tuple[str, Column]]:
    """A number such as 1e999 became Infinity, which the text does not say."""
    for field in schema.fields:
        if isinstance(field.dataType, FloatType | DoubleType):
            is_infinite = F.abs(value[field.name]) == F.lit(float("inf"))
            yield f"{field.name}: number out of range", is_infinite & ~F.lower(text).contains("inf")


def _has_open_quote(line: Column, options: dict[str, str]) -> Column:
    """Spark takes an unclosed quote to the end of the line; a quoted line break is for `multiLine`."""
    quote = options.get("quote", '"')
    if not quote:
        return F.lit(False)
    unescaped = F.replace(line, F.lit(options.get("escape", "\\") + quote), F.lit(""))
    count = F.length(unescaped) - F.length(F.replace(unescaped, F.lit(quote), F.lit("")))
    return line.contains(quote) & (count % 2 != 0)
