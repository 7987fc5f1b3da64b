"""Text of one record -> typed columns plus the reason why it is malformed. Shared by files and Kafka."""

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import and_, or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DecimalType, DoubleType, FloatType, StructField, StructType, TimestampType

from jobs.pipeline.columns import Instead, column_list, combine, type_text
from jobs.pipeline.record import MALFORMED, RECORD
from jobs.pipeline.sources.json_files import allows_comments
from jobs.pipeline.sources.ranges import (
    WIDENED,
    Test,
    beyond_byte,
    for_floats,
    is_infinite,
    leaf_test,
    may_be_out_of_range,
    out_of_range,
)

CORRUPT = "_esclusa_corrupt"
_PARSED = "_esclusa_parsed"
_PLAIN = "_esclusa_plain"
_VALUE = "_esclusa_value"
_OPTIONS = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
_NOT_UTF8 = "not valid UTF-8"
_NUL = "NUL byte in text"
_NOT_JSON = "not valid JSON, or a field does not fit its type"
_QUOTE = '"'
_MOST_CSV_COLUMNS = "20480"
"""Spark's default of `maxColumns`."""
_DECIMAL_COMMA = "a comma in a DECIMAL, which Spark would leave out"
_LONG_EXPONENT = r"[0-9.][eE][+-]?[0-9]{5}"
_LONG_NUMBER = "[0-9]{13}"
"""Seconds that may be too many for Spark to count in microseconds, modulo 2^64: the time could be any."""
_SECONDS = "a number too large for a TIMESTAMP, which takes seconds"
_JSON_INFINITY = r"""([\[:,]\s*)(["']?)[-+]?(?:Infinity|INF)\2(?=\s*[,\]}])"""
_JAVA_NUMBER = r"[dDfFxX](?:(?<=[0-9.][dDfF])(?![0-9A-Za-z])|(?<=0[xX]))"
"""The rare letters first, for each line is searched for them."""
_JAVAS = "a DOUBLE or FLOAT as Java writes it, such as 12D or 0x1p3"
_ESCAPED_DIGIT_OR_COMMA = r"\\u00[23]"
_LONE_SURROGATE = (
    r"\\u[dD][89aAbB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89aAbB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


Parser = Callable[[DataFrame], DataFrame]
"""Unparsed rows -> `_record`, `_malformed` (the reason, or NULL), then the data columns.

A parser holds Columns that are built once a run, for building them costs more than parsing a small batch.
"""


def compile_json(record: Column, raw: Column, schema: StructType, options: dict[str, str]) -> Parser:
    """Parser of one JSON object a record; `record` is the `_record` struct, `raw` the bytes.

    The text is parsed inside `{"K":[…,{"K":true}]}`: Spark's parser stops at the end of the first value, and what
    stands behind it would be lost without a word. K is random, so that no text can close the frame by itself. A line
    break keeps the frame's end out of a comment.
    """
    key = f"_esclusa_{secrets.token_hex(4)}"
    line_break = "\n" if allows_comments(options) else ""
    head, tail = f"{key} array<struct<{key}: boolean, ", f">>, {CORRUPT} string"
    parsing = {
        **options,
        **_OPTIONS,
        "enableDateTimeParsingFallback": "false",
    }  # it takes "01022026" for days since 1970

    def frame(text: Column) -> Column:
        return F.concat(F.lit(f'{{"{key}":['), text, F.lit(f'{line_break},{{"{key}":true}}]}}'))

    def read(framed: Column, instead: Instead) -> Column:
        return F.from_json(framed, head + column_list(schema, instead) + tail, parsing)

    framed = frame(raw.cast("string"))
    comma = None if "locale" in options else _number_with_comma("[\"']")
    misread = _Misread(schema, lambda: read(framed, {DecimalType: "string"})[key][0], comma)
    values, value, text = F.col(f"{_PARSED}.{key}"), F.col(_VALUE), F.col(f"{RECORD}.raw").cast("string")
    is_corrupt = F.col(f"{_PARSED}.{CORRUPT}").isNotNull()
    reason = first_reason(
        ("null value (tombstone)", F.col(_PLAIN).isNull()),
        (_NOT_UTF8, ~F.col(_PLAIN) & ~F.is_valid_utf8(text)),
        *misread.reasons(F.col(_PARSED), text),
        ("empty value", is_corrupt & text.rlike(r"^\s*$")),
        (_NOT_JSON, is_corrupt),
        ("more than one JSON value in one record", F.size(values) > 2),  # noqa: PLR2004 - the value and the frame's end
        (_NOT_JSON, ~F.coalesce(F.get(values, F.lit(1))[key], F.lit(False))),
        ("JSON null, not an object", value.isNull()),
        ("half of a surrogate pair", ~F.col(_PLAIN) & _has_lone_surrogate(text)),
        *out_of_range(value, schema, text, _JSON_INFINITY),
        *beyond_byte(value, schema),
        *_json_second_looks(value, schema, text, lambda other, instead: read(frame(other), instead)[key][0]),
    )
    parsed = read(misread.unless(framed), WIDENED)
    is_plain = is_plain_text(raw.cast("string"), "\\u")
    first = (record, is_plain.alias(_PLAIN), parsed.alias(_PARSED))
    second = (F.col(RECORD), F.col(_PLAIN), F.col(_PARSED), F.get(values, F.lit(0)).alias(_VALUE))
    third = (F.col(RECORD), reason.alias(MALFORMED), *_fields(schema))
    return lambda unparsed: unparsed.select(*first).select(*second).select(*third)


def compile_csv(record: Column, line: Column, schema: StructType, options: dict[str, str]) -> Parser:
    """Parser of one CSV line a record; `record` is the `_record` struct, `line` the text."""
    parsing = {**options, **_OPTIONS}

    def read(text: Column, instead: Instead) -> Column:
        return F.from_csv(text, F.lit(f"{column_list(schema, instead)}, {CORRUPT} string"), parsing)

    comma = None if "locale" in options else _csv_number_with_comma(options)
    misread = _Misread(schema, lambda: read(line, {DecimalType: "string"}), comma)
    value, text = F.col(_VALUE), F.col(f"{RECORD}.raw").cast("string")
    reason = first_reason(
        (_NOT_UTF8, ~F.col(_PLAIN) & ~F.is_valid_utf8(text)),
        (_NUL, ~F.col(_PLAIN) & text.contains("\0")),
        *misread.reasons(value, text),
        (f"not {len(schema)} columns, or a column does not fit its type", value[CORRUPT].isNotNull() | value.isNull()),
        ("unbalanced quotes", ~F.col(_PLAIN) & _has_open_quote(text, options)),
        *out_of_range(value, schema, text, "|".join(map(re.escape, _csv_infinities(options)))),
        *_csv_second_looks(value, schema, text, read(text, dict.fromkeys((DoubleType, FloatType), "string")), options),
    )
    parsable = F.when(~_has_too_many_columns(line, options), misread.unless(line))
    parsed = read(parsable, {})
    is_plain = is_plain_text(line, "\0", *filter(None, [options.get("quote", _QUOTE)]))
    first = (record, is_plain.alias(_PLAIN), parsed.alias(_VALUE))
    second = (F.col(RECORD), reason.alias(MALFORMED), *_fields(schema))
    return lambda unparsed: unparsed.select(*first).select(*second)


def first_reason(*reasons: tuple[str, Column]) -> Column:
    """Text of the first condition that holds; NULL if none does."""
    (first, is_first), *others = reasons
    result = F.when(is_first, F.lit(first))
    for text, is_so in others:
        result = result.when(is_so, F.lit(text))
    return result


def text_reason(text: Column) -> Column:
    """Why text is none: bytes that are not UTF-8, or a NUL, as of UTF-16 or of the hole that a crash left in a file."""
    reason = F.when(F.is_valid_utf8(text), F.lit(_NUL)).otherwise(F.lit(_NOT_UTF8))
    return F.when(~is_plain_text(text, "\0"), reason)


def is_plain_text(text: Column, *suspects: str) -> Column:
    """Whether text is valid UTF-8 and holds none of the suspects; NULL for NULL."""
    return combine(and_, [F.is_valid_utf8(text), *(~F.contains(text, F.lit(suspect)) for suspect in suspects)])


def _json_second_looks(
    value: Column, schema: StructType, text: Column, read: Callable[[Column, Instead], Column]
) -> Iterator[tuple[str, Column]]:
    """Reasons that are found by parsing a record once more, which few records need."""
    is_suspect = may_be_out_of_range(value, schema, text)
    still_infinite = leaf_test(schema, for_floats(is_infinite))
    if is_suspect is not None and still_infinite:
        without = read(F.regexp_replace(text, _JSON_INFINITY, "$1null"), {})
        yield "number out of range", is_suspect & _test_once(without, still_infinite)
    may_have_wrapped = leaf_test(schema, _for_times(_may_have_wrapped))
    is_long = leaf_test(schema, _for_times(lambda number: number.rlike(f"^-?{_LONG_NUMBER}")))
    if may_have_wrapped and is_long:
        as_text = read(text, {TimestampType: "string"})
        yield _SECONDS, may_have_wrapped(value) & text.rlike(_LONG_NUMBER) & _test_once(as_text, is_long)


def _for_times(test: Test) -> Callable[[DataType], Test | None]:
    return lambda type_: test if isinstance(type_, TimestampType) else None


def _may_have_wrapped(time: Column) -> Column:
    """Microseconds modulo 2^64 are divisible by 64, but not by a million.

    They are by both where 2^64 was taken off 15,625 times: of nanoseconds in a few minutes of 2024 and of 2033.
    """
    micros = F.unix_micros(time)
    return (micros % 64 == 0) & (micros % 1_000_000 != 0)


def _csv_second_looks(
    value: Column, schema: StructType, text: Column, as_text: Column, options: dict[str, str]
) -> Iterator[tuple[str, Column]]:
    """The same for CSV; `as_text` is the record with text for DOUBLE and FLOAT."""

    def overflows(type_: DataType) -> Test | None:
        test = for_floats(
            lambda number: is_infinite(number.try_cast(type_)) & ~F.trim(number).isin(_csv_infinities(options))
        )
        return test(type_)

    is_suspect, is_overflow = may_be_out_of_range(value, schema, text), leaf_test(schema, overflows)
    is_javas = leaf_test(schema, for_floats(lambda number: number.rlike(_JAVA_NUMBER)))
    if is_suspect is not None and is_overflow and is_javas:
        yield "number out of range", is_suspect & _test_once(as_text, is_overflow)
        yield _JAVAS, text.rlike(_java_number_at_end(options)) & _test_once(as_text, is_javas)


def _java_number_at_end(options: dict[str, str]) -> str:
    """The same where a value of the line ends with it, as the hex digits of an id seldom do."""
    end = f"{re.escape(separator_of(options))}|{re.escape(options.get('quote', _QUOTE) or _QUOTE)}|$"
    return rf"[dDfFxX](?:(?<=[0-9.][dDfF])(?=\s*(?:{end}))|(?<=\b0[xX]))"


def _csv_infinities(options: dict[str, str]) -> list[str]:
    """Infinity as CSV may have it: Java's spellings, and those of the options."""
    own = [options.get("positiveInf", "Inf"), options.get("negativeInf", "-Inf")]
    return ["Infinity", "+Infinity", "-Infinity", *own]


def _test_once(value: Column, test: Test) -> Column:
    """The test of a value that is dear to compute: a test names its value once for each leaf."""
    return F.coalesce(F.exists(F.array(value), test), F.lit(False))


def _fields(schema: StructType) -> list[Column]:
    return [_as_declared(F.col(_VALUE)[field.name], field).alias(field.name) for field in schema.fields]


def _as_declared(value: Column, field: StructField) -> Column:
    """A value that may have been parsed as a wider type (`WIDENED`); those that do not fit are malformed already."""
    declared = type_text(field.dataType, {})
    return value.try_cast(declared) if declared != type_text(field.dataType, WIDENED) else value


@dataclass(frozen=True, slots=True)
class _Misread:
    """DECIMALs that Spark's parsers must not see: 1e30000000 keeps them busy for minutes, "19,90" becomes 1990.

    `as_text` parses the same text with text for decimals; it runs for the few rows that have such an exponent, or a
    number with a comma, anywhere, perhaps in a column where it means nothing.
    """

    schema: StructType
    as_text: Callable[[], Column]
    comma: str | None
    """What a record matches that may hold a number with a comma; None where such numbers are meant."""

    def unless(self, text: Column) -> Column:
        """The text, or NULL where it holds such a DECIMAL."""
        tests = list(self._tests())
        if not tests:
            return text
        may_be = text.rlike("|".join(trigger for trigger, _ in tests))
        is_so = [text.rlike(trigger) & F.coalesce(test(self.as_text()), F.lit(False)) for trigger, test in tests]
        return F.when(may_be, F.when(~combine(or_, is_so), text)).otherwise(text)

    def reasons(self, parsed: Column, text: Column) -> list[tuple[str, Column]]:
        """What to say of records of which nothing was parsed."""
        return [
            (_DECIMAL_COMMA, parsed.isNull() & text.rlike(trigger) & ~text.rlike(_LONG_EXPONENT))
            for trigger, _ in self._tests()
            if trigger == self.comma
        ]

    def _tests(self) -> Iterator[tuple[str, Test]]:
        """What a record matches that may hold such a DECIMAL, and whether one of its decimals is so."""
        for trigger, leaf in ((_LONG_EXPONENT, _is_endless), (self.comma, _has_comma)):
            test = leaf_test(self.schema, _for_decimals(leaf))
            if trigger and test:
                yield trigger, test


def _for_decimals(test: Test) -> Callable[[DataType], Test | None]:
    return lambda type_: test if isinstance(type_, DecimalType) else None


def _number_with_comma(quote: str) -> str:
    """What begins like a number with a comma in it, behind an opening quote."""
    return rf"{quote}\s*(?:[-+.eE]*\p{{Nd}}[-+\p{{Nd}}.eE]*,|[-+]?,\p{{Nd}})|{_ESCAPED_DIGIT_OR_COMMA}"


def _csv_number_with_comma(options: dict[str, str]) -> str:
    if separator_of(options) != ",":
        return "[0-9],|,[0-9]"
    return _number_with_comma(rf"(?:^|,)\s*{re.escape(options.get('quote', _QUOTE) or _QUOTE)}")


def _is_endless(number: Column) -> Column:
    """Spark shows JSON numbers beyond DOUBLE as Infinity or 0.0 when it takes them for text."""
    return number.rlike(f"{_LONG_EXPONENT}|Infinity|^-?0\\.0$")


def _has_comma(number: Column) -> Column:
    return number.contains(",")


def _has_lone_surrogate(text: Column) -> Column:
    r"""Such as "\ud800": Spark would put a question mark in its place."""
    return text.contains("\\u") & F.replace(text, F.lit("\\\\"), F.lit("")).rlike(_LONE_SURROGATE)


def separator_of(options: dict[str, str]) -> str:
    """The CSV separator, a tab where it is written as an escape."""
    separator = options.get("sep", options.get("delimiter", ","))
    return "\t" if separator == "\\t" else separator


def _has_too_many_columns(line: Column, options: dict[str, str]) -> Column:
    """Whether Spark's parser would give up on the line, and the stream with it."""
    most = int(options.get("maxColumns", _MOST_CSV_COLUMNS))
    separator = separator_of(options)
    quote = re.escape(options.get("quote", _QUOTE) or _QUOTE)
    unquoted = F.regexp_replace(line, f"{quote}[^{quote}]*+{quote}", "")
    columns = F.length(unquoted) - F.length(F.replace(unquoted, F.lit(separator), F.lit("")))
    return (F.octet_length(line) > most) & (columns / len(separator) >= most)


def _has_open_quote(line: Column, options: dict[str, str]) -> Column:
    """Spark takes an unclosed quote to the end of the line; a quoted line break is for `multiLine`."""
    quote = options.get("quote", _QUOTE)
    if not quote:
        return F.lit(False)
    escape = options.get("escape", "\\")
    of_escape = options.get("charToEscapeQuoteEscaping", escape if escape != quote else "")
    unescaped = line
    for sequence in [of_escape and of_escape + escape, escape and escape + quote]:
        unescaped = F.replace(unescaped, F.lit(sequence), F.lit("")) if sequence else unescaped
    count = F.length(unescaped) - F.length(F.replace(unescaped, F.lit(quote), F.lit("")))
    return line.contains(quote) & (count % 2 != 0)
