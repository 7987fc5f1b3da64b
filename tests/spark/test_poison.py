"""Poison records, each mixed into good ones: the ids in comments are those of the fault catalogue (P1 to P20).

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
from jobs.pipeline.runner import open_tables
from jobs.pipeline.sinks import ensure_target
from jobs.pipeline.sources.text_values import is_plain_text
from jobs.pipeline.stages import compile_stages

DDL = """id INT, name STRING, share DOUBLE, ratio FLOAT, small TINYINT, amount DECIMAL(10,2), on_day DATE,
at TIMESTAMP, flag BOOLEAN, blob BINARY, customer STRUCT<id: BIGINT, ratio: FLOAT, since: DATE>, tags ARRAY<INT>,
rates ARRAY<DOUBLE>, limits ARRAY<STRUCT<price: DECIMAL(10,2), level: TINYINT>>, attrs MAP<STRING,DOUBLE>"""

NOT_JSON = "not valid JSON, or a field does not fit its type"
TWO_VALUES = "more than one JSON value in one record"
NOT_UTF8 = "not valid UTF-8"
SURROGATE = "half of a surrogate pair"
ENDLESS = 30_000_000


class Case(NamedTuple):
    name: str
    raw: bytes | None
    reason: str | None = None
    """Why it is malformed; None for a record that is good, however odd."""


def number(field):
    return f"{field}: number out of range"


def time(field):
    return f"{field}: day or time out of range"


JSON_CASES = [
    # P1, P2: malformed and truncated
    Case("words", b"hello", NOT_JSON),
    Case("truncated", b'{"id": 1, "na', NOT_JSON),
    Case("truncated in an escape", b'{"name": "\\u12', NOT_JSON),
    Case("trailing comma", b'{"id": 1,}', NOT_JSON),
    Case("trailing words", b'{"id": 1} trailing', NOT_JSON),
    Case("unquoted key", b"{id: 1}", NOT_JSON),
    Case("comment", b'/* c */ {"id": 1}', NOT_JSON),
    Case("leading zero", b'{"id": 007}', NOT_JSON),
    Case("plus sign", b'{"id": +1}', NOT_JSON),
    Case("byte order mark", b'\xef\xbb\xbf{"id": 1}', NOT_JSON),
    Case("two objects", b'{"id": 1}{"id": 2}', NOT_JSON),
    Case("two objects and a comma", b'{"id": 1},{"id": 2}', TWO_VALUES),
    # P1: text that would close the parser's frame by itself
    Case("closes the frame", b'{"id": 1}]} rest', NOT_JSON),
    Case("closes the frame well", b'{"id": 1}]}', NOT_JSON),
    Case("opens another array", b'{"id": 1}],"x":[{"id": 2}', NOT_JSON),
    Case("opens the frame again", b'{"id": 1}],"v":[{"id": 2}', NOT_JSON),
    Case("brings its own frame", b'{"id": 1}]},{"v":[{"id": 2}', NOT_JSON),
    # P3: the wrong shape
    Case("array", b'[{"id": 1}]', NOT_JSON),
    Case("empty array", b"[]", NOT_JSON),
    Case("number", b"7", NOT_JSON),
    Case("string", b'"text"', NOT_JSON),
    Case("boolean", b"true", NOT_JSON),
    Case("null", b"null", "JSON null, not an object"),
    # P4, bytes that are not UTF-8
    Case("invalid byte", b'{"name": "\xff"}', NOT_UTF8),
    Case("overlong slash", b'{"name": "\xc0\xaf"}', NOT_UTF8),
    Case("surrogate as bytes", b'{"name": "\xed\xa0\x80"}', NOT_UTF8),
    Case("truncated character", b'{"name": "\xe2\x82', NOT_UTF8),
    Case("latin-1", "{'name': 'é'}".encode("latin-1"), NOT_UTF8),
    Case("UTF-16", '{"id": 1}'.encode("utf-16"), NOT_UTF8),
    # P5: NUL, surrogates, directions, control characters
    Case("NUL byte", b'{"name": "a\x00b"}', NOT_JSON),
    Case("escaped NUL", b'{"name": "a\\u0000b"}'),
    Case("high surrogate", b'{"name": "\\ud800"}', SURROGATE),
    Case("low surrogate", b'{"name": "a\\uDC00b"}', SURROGATE),
    Case("surrogates in the wrong order", b'{"name": "\\udc00\\ud800"}', SURROGATE),
    Case("high surrogate twice", b'{"name": "\\ud83d\\ud83d\\ude00"}', SURROGATE),
    Case("surrogate pair", b'{"name": "\\ud83d\\ude00"}'),
    Case("escaped backslash before ud800", b'{"name": "\\\\ud800"}'),
    Case("right to left", '{"name": "\u202eabc\u202c"}'.encode()),
    Case("tab in a string", b'{"name": "a\tb"}', NOT_JSON),
    Case("line break in a string", b'{"name": "a\nb"}', NOT_JSON),
    Case("line break between fields", b'{"id": 1,\r\n "name": "a"}'),
    # P6, P7: nothing there
    Case("tombstone", None, "null value (tombstone)"),
    Case("empty", b"", "empty value"),
    Case("white space", b" \t ", "empty value"),
    Case("empty object", b"{}"),
    Case("nulls", b'{"id": null, "customer": null}'),
    # P8, P9, P10: size and depth
    Case("1 MB string", b'{"id": 1, "name": "' + b"x" * 1_000_000 + b'"}'),
    Case("10 MB string", b'{"id": 1, "name": "' + b"x" * 10_000_000 + b'"}'),
    Case("10 MB of nothing", b"x" * 10_000_000, NOT_JSON),
    Case("depth 100", b'{"id": 1, "x": ' + b"[" * 100 + b"]" * 100 + b"}"),
    Case("depth 1,000", b'{"id": 1, "x": ' + b"[" * 1_000 + b"]" * 1_000 + b"}", NOT_JSON),
    Case("depth 10,000", b'{"id": 1, "x": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}", NOT_JSON),
    Case("depth 10,000, never closed", b"[" * 10_000, NOT_JSON),
    Case("10,000 fields", b"{" + b",".join(b'"c%d": 1' % index for index in range(10_000)) + b"}"),
    Case("1 MB key", b'{"' + b"k" * 1_000_000 + b'": 1}', NOT_JSON),
    # P12, numbers
    Case("letters for INT", b'{"id": "12a"}', NOT_JSON),
    Case("text for INT", b'{"id": "12"}', NOT_JSON),
    Case("empty text for INT", b'{"id": ""}', NOT_JSON),
    Case("fraction for INT", b'{"id": 1.5}', NOT_JSON),
    Case("exponent for INT", b'{"id": 1e2}', NOT_JSON),
    Case("boolean for INT", b'{"id": true}', NOT_JSON),
    Case("INT overflow", b'{"id": 2147483648}', NOT_JSON),
    Case("BIGINT overflow", b'{"customer": {"id": 9223372036854775808}}', NOT_JSON),
    Case("400 digits for INT", b'{"id": ' + b"9" * 400 + b"}", NOT_JSON),
    Case("2,000 digits", b'{"share": ' + b"9" * 2_000 + b"}", NOT_JSON),
    Case("TINYINT 200", b'{"small": 200}', number("small")),
    Case("TINYINT 256", b'{"small": 256}', NOT_JSON),
    Case("TINYINT -56", b'{"id": 1, "small": -56, "name": "x-56"}'),
    Case("TINYINT 200 deep inside", b'{"limits": [{"level": 1}, {"level": 200}]}', number("limits")),
    Case("DOUBLE overflow", b'{"share": 1e400}', number("share")),
    Case("DOUBLE overflow beside the word inf", b'{"share": -1e400, "name": "info"}', number("share")),
    Case("DOUBLE of 400 digits", b'{"share": ' + b"9" * 400 + b"}", number("share")),
    Case("FLOAT overflow", b'{"ratio": 1e39}', number("ratio")),
    Case("FLOAT overflow inside", b'{"customer": {"ratio": 1e39}}', number("customer")),
    Case("DOUBLE overflow in an array", b'{"rates": [1, 1e400]}', number("rates")),
    Case("DOUBLE overflow in a map", b'{"attrs": {"a": 1e400}}', number("attrs")),
    Case("Infinity as such", b'{"share": Infinity}'),
    Case("NaN as such", b'{"share": NaN}'),
    Case("NaN for INT", b'{"id": NaN}', NOT_JSON),
    Case("NaN for DECIMAL", b'{"amount": NaN}', NOT_JSON),
    Case("DECIMAL overflow", b'{"amount": 123456789.99}', NOT_JSON),
    Case("DECIMAL of 400 digits", b'{"amount": ' + b"9" * 400 + b"}", NOT_JSON),
    Case("endless DECIMAL", b'{"amount": 1e%d}' % ENDLESS, NOT_JSON),
    Case("endless DECIMAL as text", b'{"amount": "1e30000000"}', NOT_JSON),
    Case("endless DECIMAL under an escaped key", b'{"\\u0061mount": "1e30000000"}', NOT_JSON),
    Case("endless small DECIMAL", b'{"amount": 1e-30000000}', NOT_JSON),
    Case("endless DECIMAL deep inside", b'{"limits": [{"price": 1}, {"price": 1e30000000}]}', NOT_JSON),
    Case("hash like a long exponent", b'{"id": 1, "name": "12e34567", "amount": 1.50}'),
    # P12, days and times
    Case("30 February", b'{"on_day": "2026-02-30"}', NOT_JSON),
    Case("year 0000", b'{"on_day": "0000-01-01"}', time("on_day")),
    Case("year 9999", b'{"on_day": "9999-12-31", "at": "9999-12-31T23:59:59.999999Z"}'),
    Case("year +10000", b'{"on_day": "+10000-01-01"}', time("on_day")),
    Case("year +10000 inside", b'{"customer": {"since": "+10000-01-01"}}', time("customer")),
    Case("hour 25", b'{"at": "2026-01-01T25:00:00Z"}', NOT_JSON),
    Case("epoch seconds", b'{"at": 1764000000}'),
    Case("epoch milliseconds", b'{"at": 1764000000000}', time("at")),
    Case("epoch microseconds", b'{"at": 1764000000000000}', time("at")),
    Case("number for DATE", b'{"on_day": 20000}', NOT_JSON),
    # P14: types inside
    Case("text for STRUCT", b'{"customer": "x"}', NOT_JSON),
    Case("array for STRUCT", b'{"customer": [{"id": 1}]}', NOT_JSON),
    Case("wrong type in a STRUCT", b'{"customer": {"id": "x"}}', NOT_JSON),
    Case("STRUCT for an array", b'{"tags": {"a": 1}}', NOT_JSON),
    Case("number for an array", b'{"tags": 5}', NOT_JSON),
    Case("text in an array of INT", b'{"tags": [1, "x"]}', NOT_JSON),
    Case("text in a map of DOUBLE", b'{"attrs": {"a": "x"}}', NOT_JSON),
    Case("text for BOOLEAN", b'{"flag": "true"}', NOT_JSON),
    Case("no base64", b'{"blob": "!!!"}', NOT_JSON),
    # P17: what other systems might run
    Case("formula", b'{"name": "=cmd|\' /C calc\'!A0"}'),
    Case("SQL", b'{"name": "\'; DROP TABLE p; --"}'),
    Case("markup", b'{"name": "<script>alert(1)</script>{{7*7}}"}'),
    Case("lookup", b'{"name": "${jndi:ldap://127.0.0.1/a} ${secret:HOME}"}'),
    Case("log line", b'{"name": "a\\n2026-01-01 00:00:00 ERROR owned"}'),
    Case("log line, malformed", b"\x1b[31m\n2026-01-01 00:00:00 ERROR owned", NOT_JSON),
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
    # P4, P5
    Case("invalid byte", b"1,a\xff,,,,,", NOT_UTF8),
    Case("NUL byte", b"1,a\x00b,,,,,", NUL),
    Case("nothing but NUL bytes", b"\x00" * 4096, NUL),
    Case("UTF-16 without a mark", "1,a,,,,,".encode("utf-16-le"), NUL),
    # P10, P11
    Case("25,000 columns", b"," * 25_000, NOT_CSV),
    Case("10,000 columns", b"," * 10_000, NOT_CSV),
    Case("25,000 commas in one text", b'1,"' + b"," * 25_000 + b'",,,,,'),
    Case("1 MB text", b"1," + b"x" * 1_000_000 + b",,,,,"),
    Case("header with a column twice", b"id,id,share,small,amount,on_day,at", NOT_CSV),
    # P12
    Case("letters for INT", b"12a,a,,,,,", NOT_CSV),
    Case("hexadecimal", b"0x1,a,,,,,", NOT_CSV),
    Case("leading space", b" 1,a,,,,,", NOT_CSV),
    Case("INT overflow", b"2147483648,a,,,,,", NOT_CSV),
    Case("TINYINT 200", b"1,a,,200,,,", NOT_CSV),
    Case("TINYINT -56", b"1,a,,-56,,,"),
    Case("DOUBLE overflow", b"1,a,1e400,,,,", number("share")),
    Case("DOUBLE overflow beside the word inf", b"1,info,-1e400,,,,", number("share")),
    Case("Infinity as such", b"1,a,Infinity,,,,"),
    Case("NaN as such", b"1,a,NaN,,,,"),
    Case("DECIMAL overflow", b"1,a,,,123456789.99,,", NOT_CSV),
    Case("endless DECIMAL", b"1,a,,,1e%d,," % ENDLESS, NOT_CSV),
    Case("endless small DECIMAL", b"1,a,,,1e-30000000,,", NOT_CSV),
    Case("hash like a long exponent", b"1,12e34567,,,1.50,,"),
    Case("30 February", b"1,a,,,,2026-02-30,", NOT_CSV),
    Case("year 0000", b"1,a,,,,0000-01-01,", time("on_day")),
    Case("year +10000", b"1,a,,,,+10000-01-01,", time("on_day")),
    Case("epoch seconds", b"1,a,,,,,1764000000", NOT_CSV),
    # P13, P15
    Case("a column too many", b"1,a,,,,,,", NOT_CSV),
    Case("a column too few", b"1,a,,,,", NOT_CSV),
    Case("one column", b"1", NOT_CSV),
    Case("another separator", b"1;a;;;;;", NOT_CSV),
    Case("open quote", b'1,"a,,,,,', NOT_CSV),
    Case("open quote at the end", b'1,a,,,,,"2026-01-01T00:00:00Z', "unbalanced quotes"),
    Case("quote inside", b'1,a"b,,,,,', "unbalanced quotes"),
    Case("comment sign", b"#1,a,,,,,", NOT_CSV),
    Case("separators only", b",,,,,,"),
    # P17
    Case("formula for INT", b"=1+1,a,,,,,", NOT_CSV),
    Case("formula", b'1,=HYPERLINK(""),,,,,'),
    Case("log line", b"1,a 2026-01-01 00:00:00 ERROR \x1b[31mowned,,,,,"),
    Case("lookup", b"1,${jndi:ldap://127.0.0.1/a}{{7*7}},,,,,"),
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
    plain = (
        df.select(is_plain_text(F.col("text").cast("string"), r"\x00").alias("plain")).toArrow()["plain"].to_pylist()
    )
    assert plain == [is_utf8(text) and b"\0" not in text for text in texts]
    assert 0 < sum(plain) < len(plain)
    null = spark.range(1).select(is_plain_text(F.lit(None).cast("string"), "x").alias("plain")).first()
    assert null.plain is None


def test_batch_of_nothing_but_poison_goes_to_the_quarantine_whole(bench):
    """P19; a limit on its share is `halt_when`."""
    bench.define_files("csv", ddl="id INT, name STRING")
    bench.write("landing/a.csv", b"".join(b"%d;x\n" % number for number in range(5_000)))
    [batch] = bench.run()
    assert (batch.rows_written, batch.verdict.rows_quarantined) == (0, 5_000)
    assert {row["raw"] for row in bench.quarantine()} == {b"%d;x" % number for number in range(5_000)}


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
