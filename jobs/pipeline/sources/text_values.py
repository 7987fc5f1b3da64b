"""Text of one record -> typed columns plus the reason why it is malformed. Shared by files and Kafka."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, FloatType, StructType

from jobs.pipeline.record import MALFORMED, RECORD

CORRUPT = "_esclusa_corrupt"
_PARSED = "_esclusa_parsed"
_OPTIONS = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}


def parse_json(rows: DataFrame, raw: Column, schema: StructType, options: dict[str, str]) -> DataFrame:
    """Rows with `_record` and binary JSON -> `_record`, `_malformed`, the schema's columns.

    The text is parsed inside `{"v":[…]}`: Spark's parser stops at the end of the first value, and what stands
    behind it would be lost without a word.
    """
    wrapped = F.concat(F.lit('{"v":['), raw.cast("string"), F.lit("]}"))
    ddl = f"v array<{schema.simpleString()}>, {CORRUPT} string"
    parsed = rows.select(RECORD, raw.alias("_raw"), F.from_json(wrapped, ddl, {**options, **_OPTIONS}).alias(_PARSED))
    values = F.col(f"{_PARSED}.v")
    value = F.get(values, F.lit(0))
    reason = _first_reason(
        ("null value (tombstone)", F.col("_raw").isNull()),
        ("not valid UTF-8", ~F.is_valid_utf8(F.col("_raw").cast("string"))),
        ("not valid JSON, or a field does not fit its type", F.col(f"{_PARSED}.{CORRUPT}").isNotNull()),
        ("empty value", F.size(values) == 0),
        ("more than one JSON value in one record", F.size(values) > 1),
        ("JSON null, not an object", value.isNull()),
        ("number out of range", _overflows(value, schema, F.col("_raw").cast("string"))),
    )
    return rows_with_columns(parsed, value, reason, schema)


def parse_csv(rows: DataFrame, line: Column, schema: StructType, options: dict[str, str]) -> DataFrame:
    """Rows with `_record` and one CSV line as text -> `_record`, `_malformed`, the schema's columns."""
    ddl = f"{column_list(schema)}, {CORRUPT} string"
    parsed = rows.select(
        RECORD, line.alias("_line"), F.from_csv(line, F.lit(ddl), {**options, **_OPTIONS}).alias(_PARSED)
    )
    value = F.col(_PARSED)
    reason = _first_reason(
        ("not valid UTF-8", ~F.is_valid_utf8(F.col("_line"))),
        (f"not {len(schema)} columns, or a column does not fit its type", value[CORRUPT].isNotNull() | value.isNull()),
        ("unbalanced quotes", _has_open_quote(F.col("_line"), options)),
        ("number out of range", _overflows(value, schema, F.col("_line"))),
    )
    return rows_with_columns(parsed, value, reason, schema)


def rows_with_columns(parsed: DataFrame, value: Column, reason: Column, schema: StructType) -> DataFrame:
    """`_record`, `_malformed`, and the fields of `value` as columns."""
    fields = [value[field.name].alias(field.name) for field in schema.fields]
    return parsed.select(RECORD, reason.alias(MALFORMED), *fields)


def column_list(schema: StructType) -> str:
    """The schema as DDL text, names quoted, NOT NULL left out: missing values are for checks to judge."""
    return ", ".join(f"`{field.name.replace('`', '``')}` {field.dataType.simpleString()}" for field in schema.fields)


def _first_reason(*reasons: tuple[str, Column]) -> Column:
    result = F.lit(None).cast("string")
    for text, is_so in reversed(reasons):
        result = F.when(is_so, F.lit(text)).otherwise(result)
    return result


def _overflows(value: Column, schema: StructType, text: Column) -> Column:
    """A number such as 1e999 became Infinity, which the text does not say."""
    floating = [field.name for field in schema.fields if isinstance(field.dataType, FloatType | DoubleType)]
    overflow = F.lit(False)
    for name in floating:
        overflow = overflow | (F.abs(value[name]) == F.lit(float("inf")))
    return (overflow & ~F.lower(text).contains("inf")) if floating else overflow


def _has_open_quote(line: Column, options: dict[str, str]) -> Column:
    """Spark takes an unclosed quote to the end of the line; a quoted line break is for `multiLine`."""
    quote = options.get("quote", '"')
    if not quote:
        return F.lit(False)
    unescaped = F.replace(line, F.lit(options.get("escape", "\\") + quote), F.lit(""))
    count = F.length(unescaped) - F.length(F.replace(unescaped, F.lit(quote), F.lit("")))
    return line.contains(quote) & (count % 2 != 0)
