"""Poison records, each mixed into good ones, with the ids that they have in tests/unit/test_faults.py (P1 to P20).

All cases of one kind run as one batch; each test then looks at its own record.
"""

import json
from datetime import UTC, datetime
from itertools import product
from typing import NamedTuple

import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from jobs.pipeline.batch import PreparedPipeline, SparkBatch
from jobs.pipeline.commit import commit_batch
from jobs.pipeline.lease import hold_lease
from jobs.pipeline.prepare import open_tables
from jobs.pipeline.sinks import ensure_target
from jobs.pipeline.sources.text_values import is_plain_text
from jobs.pipeline.stages import compile_stages

DDL = """id INT, name STRING, share DOUBLE, ratio FLOAT, small TINYINT, amount DECIMAL(10,2), on_day DATE,
at TIMESTAMP, flag BOOLEAN, blob BINARY, customer STRUCT<id: BIGINT, ratio: FLOAT, since: DATE>, tags ARRAY<INT>,
rates ARRAY<DOUBLE>, limits ARRAY<STRUCT<price: DECIMAL(10,2) NOT NULL, level: TINYINT NOT NULL>>, attrs MAP<STRING,DOUBLE>"""

NOT_JSON = "not valid JSON, or a field does not fit its type"
TWO_VALUES = "more than one JSON value in one record"
NOT_UTF8 = "not valid UTF-8"
SURROGATE = "half of a surrogate pair"
DECIMAL_COMMA = "a comma in a DECIMAL, which Spark would leave out"
SECONDS = "a number too large for a TIMESTAMP, which takes seconds"
JAVAS = "a DOUBLE or FLOAT as Java writes it, such as 12D or 0x1p3"
OUT_OF_RANGE = "number out of range"
ENDLESS = 30_000_000


class Case(NamedTuple):
    fault: str
    name: str
    raw: bytes | None
    reason: str | None = None
    """Why it is malformed; None for a record that is good, however odd."""


def number(field):
    return f"{field}: number out of range"


def time(field):
    return f"{field}: day or time out of range"


JSON_CASES = [
    # malformed and truncated
    Case("P1", "words", b"hello", NOT_JSON),
    Case("P2", "truncated", b'{"id": 1, "na', NOT_JSON),
    Case("P2", "truncated in an escape", b'{"name": "\\u12', NOT_JSON),
    Case("P1", "trailing comma", b'{"id": 1,}', NOT_JSON),
    Case("P1", "trailing words", b'{"id": 1} trailing', NOT_JSON),
    Case("P1", "unquoted key", b"{id: 1}", NOT_JSON),
    Case("P1", "comment", b'/* c */ {"id": 1}', NOT_JSON),
    Case("P1", "leading zero", b'{"id": 007}', NOT_JSON),
    Case("P1", "plus sign", b'{"id": +1}', NOT_JSON),
    Case("P1", "byte order mark", b'\xef\xbb\xbf{"id": 1}', NOT_JSON),
    Case("P1", "two objects", b'{"id": 1}{"id": 2}', NOT_JSON),
    Case("P1", "two objects and a comma", b'{"id": 1},{"id": 2}', TWO_VALUES),
    # text that would close the parser's frame by itself
    Case("P1", "closes the frame", b'{"id": 1}]} rest', NOT_JSON),
    Case("P1", "closes the frame well", b'{"id": 1}]}', NOT_JSON),
    Case("P1", "opens another array", b'{"id": 1}],"x":[{"id": 2}', NOT_JSON),
    Case("P1", "opens the frame again", b'{"id": 1}],"v":[{"id": 2}', NOT_JSON),
    Case("P1", "brings its own frame", b'{"id": 1}]},{"v":[{"id": 2}', NOT_JSON),
    # the wrong shape
    Case("P3", "array", b'[{"id": 1}]', NOT_JSON),
    Case("P3", "empty array", b"[]", NOT_JSON),
    Case("P3", "number", b"7", NOT_JSON),
    Case("P3", "string", b'"text"', NOT_JSON),
    Case("P3", "boolean", b"true", NOT_JSON),
    Case("P3", "null", b"null", "JSON null, not an object"),
    # bytes that are not UTF-8
    Case("P4", "invalid byte", b'{"name": "\xff"}', NOT_UTF8),
    Case("P4", "overlong slash", b'{"name": "\xc0\xaf"}', NOT_UTF8),
    Case("P4", "surrogate as bytes", b'{"name": "\xed\xa0\x80"}', NOT_UTF8),
    Case("P4", "truncated character", b'{"name": "\xe2\x82', NOT_UTF8),
    Case("P4", "latin-1", "{'name': 'é'}".encode("latin-1"), NOT_UTF8),
    Case("P4", "UTF-16", '{"id": 1}'.encode("utf-16"), NOT_UTF8),
    # NUL, surrogates, directions, control characters
    Case("P5", "NUL byte", b'{"name": "a\x00b"}', NOT_JSON),
    Case("P5", "escaped NUL", b'{"name": "a\\u0000b"}'),
    Case("P5", "high surrogate", b'{"name": "\\ud800"}', SURROGATE),
    Case("P5", "low surrogate", b'{"name": "a\\uDC00b"}', SURROGATE),
    Case("P5", "surrogates in the wrong order", b'{"name": "\\udc00\\ud800"}', SURROGATE),
    Case("P5", "high surrogate twice", b'{"name": "\\ud83d\\ud83d\\ude00"}', SURROGATE),
    Case("P5", "surrogate pair", b'{"name": "\\ud83d\\ude00"}'),
    Case("P5", "escaped backslash before ud800", b'{"name": "\\\\ud800"}'),
    Case("P5", "right to left", '{"name": "\u202eabc\u202c"}'.encode()),
    Case("P5", "tab in a string", b'{"name": "a\tb"}', NOT_JSON),
    Case("P5", "line break in a string", b'{"name": "a\nb"}', NOT_JSON),
    Case("P5", "line break between fields", b'{"id": 1,\r\n "name": "a"}'),
    # nothing there
    Case("P6", "tombstone", None, "null value (tombstone)"),
    Case("P7", "empty", b"", "empty value"),
    Case("P7", "white space", b" \t ", "empty value"),
    Case("P7", "empty object", b"{}"),
    Case("P7", "nulls", b'{"id": null, "customer": null}'),
    # size and depth
    Case("P8", "1 MB string", b'{"id": 1, "name": "' + b"x" * 1_000_000 + b'"}'),
    Case("P8", "10 MB string", b'{"id": 1, "name": "' + b"x" * 10_000_000 + b'"}'),
    Case("P8", "10 MB of nothing", b"x" * 10_000_000, NOT_JSON),
    Case("P9", "depth 100", b'{"id": 1, "x": ' + b"[" * 100 + b"]" * 100 + b"}"),
    Case("P9", "depth 1,000", b'{"id": 1, "x": ' + b"[" * 1_000 + b"]" * 1_000 + b"}", NOT_JSON),
    Case("P9", "depth 10,000", b'{"id": 1, "x": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}", NOT_JSON),
    Case("P9", "depth 10,000, never closed", b"[" * 10_000, NOT_JSON),
    Case("P10", "10,000 fields", b"{" + b",".join(b'"c%d": 1' % index for index in range(10_000)) + b"}"),
    Case("P10", "1 MB key", b'{"' + b"k" * 1_000_000 + b'": 1}', NOT_JSON),
    # numbers
    Case("P12", "letters for INT", b'{"id": "12a"}', NOT_JSON),
    Case("P12", "text for INT", b'{"id": "12"}', NOT_JSON),
    Case("P12", "empty text for INT", b'{"id": ""}', NOT_JSON),
    Case("P12", "fraction for INT", b'{"id": 1.5}', NOT_JSON),
    Case("P12", "exponent for INT", b'{"id": 1e2}', NOT_JSON),
    Case("P12", "boolean for INT", b'{"id": true}', NOT_JSON),
    Case("P12", "INT overflow", b'{"id": 2147483648}', NOT_JSON),
    Case("P12", "BIGINT overflow", b'{"customer": {"id": 9223372036854775808}}', NOT_JSON),
    Case("P12", "400 digits for INT", b'{"id": ' + b"9" * 400 + b"}", NOT_JSON),
    Case("P12", "2,000 digits", b'{"share": ' + b"9" * 2_000 + b"}", NOT_JSON),
    Case("P12", "TINYINT 200", b'{"small": 200}', number("small")),
    Case("P12", "TINYINT 256", b'{"small": 256}', number("small")),
    Case("P12", "TINYINT 40,000", b'{"small": 40000}', NOT_JSON),
    Case("P12", "TINYINT -56", b'{"id": 1, "small": -56, "name": "x-56"}'),
    Case("P12", "TINYINT 200 beside its negative twin", b'{"id": -56, "small": 200}', number("small")),
    Case("P12", "TINYINT 200 deep inside", b'{"limits": [{"level": 1}, {"level": 200}]}', number("limits")),
    Case("P12", "DOUBLE overflow", b'{"share": 1e400}', number("share")),
    Case("P12", "DOUBLE overflow beside the word inf", b'{"share": -1e400, "name": "info"}', number("share")),
    Case("P12", "DOUBLE of 400 digits", b'{"share": ' + b"9" * 400 + b"}", number("share")),
    Case("P12", "FLOAT overflow", b'{"ratio": 1e39}', number("ratio")),
    Case("P12", "FLOAT overflow inside", b'{"customer": {"ratio": 1e39}}', number("customer")),
    Case("P12", "DOUBLE overflow in an array", b'{"rates": [1, 1e400]}', number("rates")),
    Case("P12", "DOUBLE overflow in a map", b'{"attrs": {"a": 1e400}}', number("attrs")),
    Case("P12", "Infinity as such", b'{"share": Infinity}'),
    Case(
        "P12",
        "Infinity beside an id like an exponent",
        b'{"name": "1e5f", "share": -Infinity, "rates": ["INF"]}',
        NOT_JSON,
    ),
    Case("P12", "Infinities beside an id like an exponent", b'{"name": "1e5f", "share": -Infinity, "rates": ["+INF"]}'),
    Case("P12", "Infinity in words beside one", b'{"name": "1e5, Infinity, \\": Infinity}", "share": Infinity}'),
    Case("P12", "FLOAT overflow beside Infinity", b'{"share": Infinity, "ratio": 1e39}', OUT_OF_RANGE),
    Case("P12", "overflow in an array with Infinity", b'{"rates": [ Infinity , "INF", 1e400]}', NOT_JSON),
    Case(
        "P12", "overflow deep beside Infinity", b"{'rates': [ 'Infinity' ], 'customer': {'ratio': 1e39}}", OUT_OF_RANGE
    ),
    Case("P12", "NaN as such", b'{"share": NaN}'),
    Case("P12", "NaN for INT", b'{"id": NaN}', NOT_JSON),
    Case("P12", "NaN for DECIMAL", b'{"amount": NaN}', NOT_JSON),
    Case("P12", "DECIMAL overflow", b'{"amount": 123456789.99}', NOT_JSON),
    Case("P12", "DECIMAL of 400 digits", b'{"amount": ' + b"9" * 400 + b"}", NOT_JSON),
    Case("P12", "endless DECIMAL", b'{"amount": 1e%d}' % ENDLESS, NOT_JSON),
    Case("P12", "endless DECIMAL as text", b'{"amount": "1e30000000"}', NOT_JSON),
    Case("P12", "endless DECIMAL under an escaped key", b'{"\\u0061mount": "1e30000000"}', NOT_JSON),
    Case("P12", "endless small DECIMAL", b'{"amount": 1e-30000000}', NOT_JSON),
    Case("P12", "DECIMAL with a decimal comma", b'{"amount": "19,90"}', DECIMAL_COMMA),
    Case("P12", "DECIMAL with a comma between thousands", b'{"id": 1, "amount": " 1,234.50"}', DECIMAL_COMMA),
    Case("P12", "DECIMAL with an escaped comma", b'{"amount": "19\\u002c90"}', DECIMAL_COMMA),
    Case("P12", "DECIMAL with a comma in single quotes", b"{'amount': '19,90'}", DECIMAL_COMMA),
    Case("P12", "DECIMAL with nothing before its comma", b'{"amount": ",5"}', DECIMAL_COMMA),
    Case("P12", "DECIMAL of wide digits with a comma", '{"amount": "\uff11,\uff15"}'.encode(), DECIMAL_COMMA),
    Case("P12", "endless DECIMAL beside text with a comma", b'{"amount": 1e30000000, "name": "1, 2"}', NOT_JSON),
    Case("P12", "DECIMAL with a comma deep inside", b'{"limits": [{"price": 1}, {"price": "1,5"}]}', DECIMAL_COMMA),
    Case("P12", "DECIMAL as text", b'{"amount": "19.90"}'),
    Case("P12", "DECIMAL beside text with a comma", b'{"amount": 0.0, "name": "1,5", "tags": [1,2]}'),
    Case("P12", "endless DECIMAL deep inside", b'{"limits": [{"price": 1}, {"price": 1e30000000}]}', NOT_JSON),
    Case("P12", "hash like a long exponent", b'{"id": 1, "name": "12e34567", "amount": 1.50}'),
    # days and times
    Case("P12", "30 February", b'{"on_day": "2026-02-30"}', NOT_JSON),
    Case("P12", "year 0000", b'{"on_day": "0000-01-01"}', time("on_day")),
    Case("P12", "year 9999", b'{"on_day": "9999-12-31", "at": "9999-12-31T23:59:59.999999Z"}'),
    Case("P12", "year +10000", b'{"on_day": "+10000-01-01"}', time("on_day")),
    Case("P12", "year +10000 inside", b'{"customer": {"since": "+10000-01-01"}}', time("customer")),
    Case("P12", "hour 25", b'{"at": "2026-01-01T25:00:00Z"}', NOT_JSON),
    Case("P12", "epoch seconds", b'{"at": 1764000000}'),
    Case("P12", "epoch milliseconds", b'{"at": 1764000000000}', time("at")),
    Case("P12", "epoch microseconds", b'{"at": 1764000000000000}', time("at")),
    Case("P12", "epoch microseconds that start anew in 1970", b'{"at": 1770887431076117}', SECONDS),
    Case("P12", "epoch microseconds before 1970", b'{"at": -1770887431076117, "id": 1}', SECONDS),
    Case("P12", "a long number beside a time", b'{"name": "1770887431076117", "at": 1764000000}'),
    Case("P12", "number for DATE", b'{"on_day": 20000}', NOT_JSON),
    Case("P12", "digits for DATE", b'{"on_day": "01022026"}', NOT_JSON),
    Case("P12", "digits for DATE inside", b'{"customer": {"since": "5"}}', NOT_JSON),
    # a field twice, too many, too few
    Case("P11", "a key twice: the last holds", b'{"id": 1, "id": 2}'),
    Case("P11", "keys that differ by case", b'{"id": 1, "ID": 2, "NAME": "x"}'),
    Case("P13", "a field that the schema does not name", b'{"id": 1, "colour": "red"}'),
    Case("P13", "all fields but one missing", b'{"name": "a"}'),
    # types inside
    Case("P14", "text for STRUCT", b'{"customer": "x"}', NOT_JSON),
    Case("P14", "array for STRUCT", b'{"customer": [{"id": 1}]}', NOT_JSON),
    Case("P14", "wrong type in a STRUCT", b'{"customer": {"id": "x"}}', NOT_JSON),
    Case("P14", "STRUCT for an array", b'{"tags": {"a": 1}}', NOT_JSON),
    Case("P14", "number for an array", b'{"tags": 5}', NOT_JSON),
    Case("P14", "text in an array of INT", b'{"tags": [1, "x"]}', NOT_JSON),
    Case("P14", "text in a map of DOUBLE", b'{"attrs": {"a": "x"}}', NOT_JSON),
    Case("P14", "text for BOOLEAN", b'{"flag": "true"}', NOT_JSON),
    Case("P14", "no base64", b'{"blob": "!!!"}', NOT_JSON),
    # what other systems might run
    Case("P17", "formula", b'{"name": "=cmd|\' /C calc\'!A0"}'),
    Case("P17", "SQL", b'{"name": "\'; DROP TABLE p; --"}'),
    Case("P17", "markup", b'{"name": "<script>alert(1)</script>{{7*7}}"}'),
    Case("P17", "lookup", b'{"name": "${jndi:ldap://127.0.0.1/a} ${secret:HOME}"}'),
    Case("P17", "log line", b'{"name": "a\\n2026-01-01 00:00:00 ERROR owned"}'),
    Case("P17", "log line, malformed", b"\x1b[31m\n2026-01-01 00:00:00 ERROR owned", NOT_JSON),
]


class Outcome(NamedTuple):
    """What became of one batch: rows by position, and its ledger row."""

    target: dict
    quarantine: dict
    ledger: dict


@pytest.fixture(scope="module")
def topic(new_bench):
    """One batch of records as Kafka gives them: every case, and a good record before each."""
    bench = new_bench()
    source = "{type: kafka, schema: p, options: {kafka.bootstrap.servers: 'x:1', subscribe: t}}"
    sql = "SELECT id, name, _record.offset AS position FROM input"
    bench.define(source=source, ddl=DDL, rest=f"transforms:\n  - sql: {sql}")
    records = [(2 * index + 1, case.raw) for index, case in enumerate(JSON_CASES)]
    records += [(2 * index, b'{"id": %d, "name": "good"}' % index) for index in range(len(JSON_CASES))]
    commit(bench, as_topic(bench.spark, records))
    position = {row["position"]: row for row in bench.target()}
    return Outcome(position, {row["source"]["offset"]: row for row in bench.quarantine()}, bench.ledger()[-1])


def as_topic(spark, records):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        (None if offset % 2 else b"k", None if raw is None else bytearray(raw), "t", 0, offset, at, 0)
        for offset, raw in sorted(records)
    ]
    schema = (
        "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, timestampType INT"
    )
    return spark.createDataFrame(rows, schema)


def commit(bench, unparsed):
    pipeline = bench.load()
    stages = compile_stages(bench.spark, unparsed, pipeline)
    ensure_target(bench.spark, pipeline, stages.target)
    with hold_lease(bench.spark, pipeline.name, pipeline.lease_path) as lease:
        prepared = PreparedPipeline(stages, "q", "f", *open_tables(bench.spark, pipeline), lease)
        commit_batch(SparkBatch(prepared, unparsed, 0, source_range="{}", lag=None), frozenset())


@pytest.mark.fault("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11", "P12", "P13", "P14", "P17")
@pytest.mark.parametrize("index", range(len(JSON_CASES)), ids=[case.name for case in JSON_CASES])
def test_json_record_is_set_apart_exactly_if_it_is_bad(topic, index):
    case, offset = JSON_CASES[index], 2 * index + 1
    if case.reason is None:
        assert offset not in topic.quarantine
        assert offset in topic.target
        return
    assert offset not in topic.target
    row = topic.quarantine[offset]
    assert row["raw"] == case.raw
    assert row["_errors"] == [{"check": "malformed", "column": None, "message": case.reason}]
    assert (row["source"]["topic"], row["source"]["partition"], row["source"]["key"]) == ("t", 0, None)


def test_good_records_beside_poison_are_unaffected(topic):
    good = {offset: row for offset, row in topic.target.items() if offset % 2 == 0}
    assert {offset: (row["id"], row["name"]) for offset, row in good.items()} == {
        2 * index: (index, "good") for index in range(len(JSON_CASES))
    }
    bad = sum(case.reason is not None for case in JSON_CASES)
    assert (topic.ledger["rows_read"], topic.ledger["rows_malformed"]) == (2 * len(JSON_CASES), bad)


def test_odd_but_good_values_arrive_as_they_were_sent(topic):
    for index, case in enumerate(JSON_CASES):
        if case.reason is None and case.raw:
            sent, row = json.loads(case.raw), topic.target[2 * index + 1]
            assert row["name"] == sent.get("name"), case.name
            assert row["id"] == sent.get("id"), case.name


# CSV over files, one line a case. id, name, share, small, amount, on_day, at
CSV_DDL = "id INT, name STRING, share DOUBLE, small TINYINT, amount DECIMAL(10,2), on_day DATE, at TIMESTAMP"
NOT_CSV = "not 7 columns, or a column does not fit its type"
NUL = "NUL byte in text"

CSV_CASES = [
    Case("P4", "invalid byte", b"1,a\xff,,,,,", NOT_UTF8),
    Case("P5", "NUL byte", b"1,a\x00b,,,,,", NUL),
    Case("P5", "nothing but NUL bytes", b"\x00" * 4096, NUL),
    Case("P4", "UTF-16 without a mark", "1,a,,,,,".encode("utf-16-le"), NUL),
    Case("P10", "25,000 columns", b"," * 25_000, NOT_CSV),
    Case("P10", "10,000 columns", b"," * 10_000, NOT_CSV),
    Case("P10", "25,000 commas in one text", b'1,"' + b"," * 25_000 + b'",,,,,'),
    Case("P8", "1 MB text", b"1," + b"x" * 1_000_000 + b",,,,,"),
    Case("P11", "header with a column twice", b"id,id,share,small,amount,on_day,at", NOT_CSV),
    Case("P12", "letters for INT", b"12a,a,,,,,", NOT_CSV),
    Case("P12", "hexadecimal", b"0x1,a,,,,,", NOT_CSV),
    Case("P12", "leading space", b" 1,a,,,,,", NOT_CSV),
    Case("P12", "INT overflow", b"2147483648,a,,,,,", NOT_CSV),
    Case("P12", "TINYINT 200", b"1,a,,200,,,", NOT_CSV),
    Case("P12", "TINYINT -56", b"1,a,,-56,,,"),
    Case("P12", "DOUBLE overflow", b"1,a,1e400,,,,", number("share")),
    Case("P12", "DOUBLE overflow beside the word inf", b"1,info,-1e400,,,,", number("share")),
    Case("P12", "Infinity as such", b"1,a,Infinity,,,,"),
    Case("P12", "Infinity beside an id like an exponent", b"1,1e5f,-Infinity,,,,"),
    Case("P12", "DOUBLE overflow beside Infinity in words", b"1,Infinity,1e400,,,,", OUT_OF_RANGE),
    Case("P12", "DOUBLE with Java's suffix", b"1,a,12D,,,,", JAVAS),
    Case("P12", "DOUBLE with Java's suffix in quotes", b'1,a,"1.f ",,,,', JAVAS),
    Case("P12", "DOUBLE in Java's hexadecimal", b"1,a,-0x1p3,,,,", JAVAS),
    Case("P12", "text like Java's numbers", b"1,12D 7f 0x1p3,1.5e3,,,,"),
    Case("P12", "NaN as such", b"1,a,NaN,,,,"),
    Case("P12", "DECIMAL overflow", b"1,a,,,123456789.99,,", NOT_CSV),
    Case("P12", "endless DECIMAL", b"1,a,,,1e%d,," % ENDLESS, NOT_CSV),
    Case("P12", "DECIMAL with a decimal comma", b'1,a,,,"19,90",,', DECIMAL_COMMA),
    Case("P12", "DECIMAL with a comma between thousands", b'1,"a, b",,,"1,234.50",,', DECIMAL_COMMA),
    Case("P12", "DECIMAL beside text with a comma", b'1,"1,5",,,0.0,,'),
    Case("P12", "endless small DECIMAL", b"1,a,,,1e-30000000,,", NOT_CSV),
    Case("P12", "hash like a long exponent", b"1,12e34567,,,1.50,,"),
    Case("P12", "30 February", b"1,a,,,,2026-02-30,", NOT_CSV),
    Case("P12", "year 0000", b"1,a,,,,0000-01-01,", time("on_day")),
    Case("P12", "year +10000", b"1,a,,,,+10000-01-01,", time("on_day")),
    Case("P12", "epoch seconds", b"1,a,,,,,1764000000", NOT_CSV),
    Case("P15", "a column too many", b"1,a,,,,,,", NOT_CSV),
    Case("P15", "a column too few", b"1,a,,,,", NOT_CSV),
    Case("P15", "one column", b"1", NOT_CSV),
    Case("P15", "another separator", b"1;a;;;;;", NOT_CSV),
    Case("P15", "open quote", b'1,"a,,,,,', NOT_CSV),
    Case("P15", "open quote at the end", b'1,a,,,,,"2026-01-01T00:00:00Z', "unbalanced quotes"),
    Case("P15", "quote inside", b'1,a"b,,,,,', "unbalanced quotes"),
    Case("P15", "escaped backslash before a closing quote", b'1,"C:\\\\dir\\\\",,,,,'),
    Case("P15", "escaped backslash before an escaped quote", b'1,"a\\\\\\"b",,,,,'),
    Case("P15", "escaped quote at the end", b'1,"C:\\dir\\",,,,,', NOT_CSV),
    Case("P15", "escaped quote at the end of the line", b'1,a,,,,,"2026-01-01T00:00:00Z\\"', NOT_CSV),
    Case("P15", "comment sign", b"#1,a,,,,,", NOT_CSV),
    Case("P15", "separators only", b",,,,,,"),
    Case("P17", "formula for INT", b"=1+1,a,,,,,", NOT_CSV),
    Case("P17", "formula", b'1,=HYPERLINK(""),,,,,'),
    Case("P17", "log line", b"1,a 2026-01-01 00:00:00 ERROR \x1b[31mowned,,,,,"),
    Case("P17", "lookup", b"1,${jndi:ldap://127.0.0.1/a}{{7*7}},,,,,"),
]


@pytest.fixture(scope="module")
def landing(new_bench):
    """One batch of two CSV files, every case between good lines."""
    bench = new_bench()
    bench.define_files("csv", ddl=CSV_DDL, rest="transforms:\n  - sql: SELECT id, name, _record.raw AS line FROM input")
    lines = [line for index, case in enumerate(CSV_CASES) for line in (b"%d,good,,,,," % (1000 + index), case.raw)]
    bench.write("landing/a.csv", b"\n".join(lines[:30]) + b"\n")
    bench.write("landing/b.csv", b"\r\n".join(lines[30:]))
    bench.run()
    by_line = {row["line"]: row for row in bench.target()}
    return Outcome(by_line, {row["raw"]: row for row in bench.quarantine()}, bench.ledger()[-1])


@pytest.mark.fault("P4", "P5", "P8", "P10", "P11", "P12", "P15", "P17")
@pytest.mark.parametrize("index", range(len(CSV_CASES)), ids=[case.name for case in CSV_CASES])
def test_csv_line_is_set_apart_exactly_if_it_is_bad(landing, index):
    case = CSV_CASES[index]
    if case.reason is None:
        assert case.raw not in landing.quarantine
        assert case.raw in landing.target
        return
    assert case.raw not in landing.target
    row = landing.quarantine[case.raw]
    assert row["_errors"] == [{"check": "malformed", "column": None, "message": case.reason}]
    assert row["source"]["path"].endswith("/a.csv" if index < 15 else "/b.csv")


def test_good_lines_beside_poison_are_unaffected(landing):
    good = {row["id"] for row in landing.target.values() if row["name"] == "good"}
    assert good == {1000 + index for index in range(len(CSV_CASES))}
    assert landing.ledger["rows_read"] == 2 * len(CSV_CASES)


def test_each_mark_has_its_cases():
    tests = {
        test_json_record_is_set_apart_exactly_if_it_is_bad: JSON_CASES,
        test_csv_line_is_set_apart_exactly_if_it_is_bad: CSV_CASES,
    }
    for test, cases in tests.items():
        [mark] = [one for one in test.pytestmark if one.name == "fault"]
        assert {case.fault for case in cases} == set(mark.args)


UTF8_EDGES = bytes.fromhex("00 22 41 7f 80 8f 90 9f a0 bf c1 c2 df e0 ed ef f0 f4 f5 ff")


def is_utf8(text):
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_text_is_plain_exactly_if_it_is_utf8_and_not_suspect(spark):
    texts = [bytes(found) for length in range(4) for found in product(UTF8_EDGES, repeat=length)]
    texts += [bytes(found) for found in product(b"\xf0\xf1\xf4", *[UTF8_EDGES[4:10]] * 3)]
    df = spark.createDataFrame(pa.table({"text": texts}))
    plain = df.select(is_plain_text(F.col("text").cast("string"), "\0").alias("plain")).toArrow()["plain"].to_pylist()
    assert plain == [is_utf8(text) and b"\0" not in text for text in texts]
    assert 0 < sum(plain) < len(plain)
    null = spark.range(1).select(is_plain_text(F.lit(None).cast("string"), "x").alias("plain")).first()
    assert null.plain is None


@pytest.mark.fault("P19")
def test_batch_of_nothing_but_poison_goes_to_the_quarantine_whole(bench):
    """P19; a limit on its share is `halt_when`."""
    bench.define_files("csv", ddl="id INT, name STRING")
    bench.write("landing/a.csv", b"".join(b"%d;x\n" % number for number in range(5_000)))
    [batch] = bench.run()
    assert (batch.rows_written, batch.verdict.rows_quarantined) == (0, 5_000)
    assert {row["raw"] for row in bench.quarantine()} == {b"%d;x" % number for number in range(5_000)}


@pytest.mark.fault("P20")
def test_partition_values_stay_inside_the_table(bench):
    """P20; Delta keeps an empty text in a partition column as NULL."""
    values = ["", "..", "../x", "a/b", "a=b", "%2F", "a b", "ü", "{x}", "__HIVE_DEFAULT_PARTITION__", "x" * 200]
    values += [f"v{number}" for number in range(20)]
    sink = f"sink: {{type: delta, path: {bench.folder}/lake/p, partition_by: [name]}}"
    bench.define_files("json", ddl="id INT, name STRING", rest=sink)
    bench.write("landing/a.json", "".join(json.dumps({"id": 1, "name": value}) + "\n" for value in values))
    bench.run()
    found = [row.name for row in bench.spark.read.format("delta").load(f"{bench.folder}/lake/p").collect()]
    lost_by_delta = {"", "__HIVE_DEFAULT_PARTITION__"}
    assert sorted(filter(None, found)) == sorted(set(values) - lost_by_delta)
    assert len(found) == len(values)
    assert {entry.name for entry in (bench.folder / "lake").iterdir()} == {"p", "p_quarantine"}
