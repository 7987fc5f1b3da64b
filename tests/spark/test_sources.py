import json

import pytest

from jobs.pipeline.errors import ConfError

CSV = "{header: true}"
SPARK_NAMES = {"avro": "org.apache.spark.sql.avro.AvroFileFormat"}
CSV_REASON = "not 2 columns, or a column does not fit its type"
JSON_REASON = "not valid JSON, or a field does not fit its type"


def malformed(bench):
    return {row["raw"]: row["_errors"][0]["message"] for row in bench.quarantine()}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"x,a", CSV_REASON),
        (b"1", CSV_REASON),
        (b"1,a,b", CSV_REASON),
        (b"99999999999,a", CSV_REASON),
        (b"1.5,a", CSV_REASON),
        (b'2,"open', "unbalanced quotes"),
        (b"2,\xff\xfe", "not valid UTF-8"),
    ],
)
def test_malformed_csv_line_is_quarantined_as_it_came(bench, line, reason):
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", b"id,name\n1,a\n" + line + b"\n3,c\n")
    [batch] = bench.run()
    assert malformed(bench) == {line: reason}
    assert sorted(row["id"] for row in bench.target()) == [1, 3]
    assert batch.verdict.rows_read == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": 1', JSON_REASON),
        (b'{"id": "1"}', JSON_REASON),
        (b'{"id": 99999999999}', JSON_REASON),
        (b'{"id": 1.5}', JSON_REASON),
        (b'{"id": 1} trailing', JSON_REASON),
        (b'{"id": 1}{"id": 2}', JSON_REASON),
        (b'{"id": 1},{"id": 2}', "more than one JSON value in one record"),
        (b'[{"id": 1}]', JSON_REASON),
        (b"7", JSON_REASON),
        (b"null", "JSON null, not an object"),
        (b'{"id": 1, "name": "\xff"}', "not valid UTF-8"),
        (b'{"id": ' + b"[" * 3000 + b"]" * 3000 + b"}", JSON_REASON),
        (b'{"id": 1, "share": 1e999}', "share: number out of range"),
    ],
)
def test_malformed_json_line_is_quarantined_as_it_came(bench, line, reason):
    bench.define_files("json", ddl="id INT, name STRING, share DOUBLE")
    bench.write("landing/a.json", b'{"id": 5, "share": 0.5}\n' + line + b"\n")
    bench.run()
    assert malformed(bench) == {line: reason}
    assert [row["id"] for row in bench.target()] == [5]


@pytest.mark.parametrize("header", ["id,name", '"id","name"', "\ufeffid,name", "id,name\r"])
def test_header_is_no_row_however_it_is_written(bench, header):
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", header + "\n1,a\n")
    bench.write("landing/b.csv", header + "\n")
    bench.write("landing/c.csv", "")
    bench.write("landing/d.csv", "\n  \n")
    [batch] = bench.run()
    assert (batch.verdict.rows_read, batch.rows_written) == (1, 1)


@pytest.mark.parametrize("header", ["name,id", '"name","id"', "\ufeffname,id"])
def test_file_with_its_header_in_another_order_is_set_apart_whole(bench, header):
    bench.define_files("csv", CSV, ddl="id STRING, name STRING")
    bench.write("landing/a.csv", header + "\na,1\n")
    bench.write("landing/b.csv", "id,name\n2,b\n")
    bench.run()
    assert [row["id"] for row in bench.target()] == ["2"]
    [row] = bench.quarantine()
    assert row["source"]["path"].endswith("/a.csv")
    assert "a header has another order than the schema" in row["_errors"][0]["message"]


def test_csv_options_mean_what_they_mean_to_spark(bench):
    bench.define_files("csv", '{sep: "|", nullValue: NA, comment: "#", quote: "\'"}')
    bench.write("landing/a.csv", "1|'x|y'\n# note\nNA|b\n")
    bench.run()
    assert sorted((row["id"] or 0, row["name"]) for row in bench.target()) == [(0, "b"), (1, "x|y")]


def test_multi_line_csv_reads_quoted_line_breaks(bench):
    bench.define_files("csv", "{header: true, multiLine: true}")
    bench.write("landing/a.csv", 'id,name\n1,"a\nb"\nx,c\n')
    bench.run()
    assert [row["name"] for row in bench.target()] == ["a\nb"]
    assert list(malformed(bench)) == [b"x,c"]


@pytest.mark.parametrize("format_", ["parquet", "orc", "avro"])
def test_columnar_files_are_read_and_unfit_rows_kept_as_json(bench, expect, format_):
    bench.suite(expect("column_values_to_be_between", "id", max_value=1))
    bench.define_files(format_, schema=False)
    sql = (
        "SELECT 1 AS id, timestamp'2026-01-02 03:04:05.123456' AS at, 12345678901234567890.123456BD AS amount "
        "UNION ALL SELECT 2, timestamp'2026-01-02 03:04:05.123456', 12345678901234567890.123456BD"
    )
    bench.spark.sql(sql).coalesce(1).write.format(SPARK_NAMES.get(format_, format_)).mode("append").save(
        f"{bench.folder}/landing"
    )
    [batch] = bench.run()
    assert (batch.rows_written, batch.verdict.rows_quarantined) == (1, 1)
    [row] = bench.quarantine()
    text = row["raw"].decode()
    assert '"amount":12345678901234567890.123456' in text
    assert json.loads(text)["at"] == "2026-01-02T03:04:05.123456Z"
    assert row["source"]["path"].endswith(format_)


def test_xml_rows_and_malformed_xml(bench):
    bench.define_files("xml", "{rowTag: r}")
    bench.write("landing/a.xml", "<x><r><id>1</id><name>a</name></r><r><id>z</id><name>b</name></r></x>")
    bench.run()
    assert [row["id"] for row in bench.target()] == [1]
    assert [b"<id>z</id>" in raw for raw in malformed(bench)] == [True]


def test_text_lines_are_values(bench):
    bench.define_files("text", schema=False)
    bench.write("landing/a.txt", b"hello\n\n\xff\n")
    bench.run()
    assert sorted(row["value"] for row in bench.target()) == ["", "hello"]
    assert malformed(bench) == {b"\xff": "not valid UTF-8"}


def test_record_is_there_for_transforms_and_stays_out_of_the_target(bench):
    sql = "SELECT id, _record.path AS path, _record.modified_at AS at FROM input"
    bench.define_files("csv", CSV, rest=f"transforms:\n  - sql: {sql}")
    bench.write("landing/a.csv", "id,name\n1,a\n")
    bench.run()
    [row] = bench.target()
    assert set(row) == {"id", "path", "at"}
    assert row["path"].endswith("a.csv")


def test_hostile_column_names_are_taken_literally(bench, expect):
    bench.suite(expect("column_values_to_be_between", "a.b", max_value=1))
    bench.define_files("csv", "{}", ddl="`a.b` INT, `we``ird col` STRING")
    bench.write("landing/a.csv", "1,x\n2,y\n")
    sink = "table_properties: {delta.columnMapping.mode: name}"
    bench.define_files(
        "csv",
        "{}",
        ddl="`a.b` INT, `we``ird col` STRING",
        rest=f"sink: {{type: delta, path: {bench.folder}/lake/p, {sink}}}",
    )
    [batch] = bench.run()
    assert (batch.rows_written, batch.verdict.rows_quarantined) == (1, 1)


def test_multi_line_csv_whose_header_differs_is_set_apart_whole(bench):
    """Spark would pass over any first line, and put values into the wrong columns."""
    bench.define_files("csv", "{header: true, multiLine: true}", ddl="id STRING, name STRING")
    bench.write("landing/a.csv", "name,id\na,1\n")
    bench.write("landing/b.csv", "2,b\n3,c\n")
    bench.write("landing/c.csv", "id,name\n4,d\n")
    bench.run()
    assert [row["id"] for row in bench.target()] == ["4"]
    assert sorted(row["source"]["path"][-5:] for row in bench.quarantine()) == ["a.csv", "b.csv"]
    assert all("CSV header does not conform" in row["_errors"][0]["message"] for row in bench.quarantine())


@pytest.mark.parametrize("header", ["\ufeffid,name", '"id","name"', "ID,Name", "id,name\r"])
def test_header_of_multi_line_csv_may_be_written_in_several_ways(bench, header):
    bench.define_files("csv", "{header: true, multiLine: true}", ddl="id STRING, name STRING")
    bench.write("landing/a.csv", header + '\n1,"a\nb"\n')
    bench.write("landing/b.csv", header + "\n")
    bench.write("landing/c.csv", "")
    bench.run()
    assert [(row["id"], row["name"]) for row in bench.target()] == [("1", "a\nb")]
    assert bench.quarantine() == []


def test_values_that_spark_changes_are_malformed_in_multi_line_json_too(bench):
    bench.define_files(
        "json", "{multiLine: true}", ddl="id INT, small TINYINT, at TIMESTAMP, share DOUBLE, price DECIMAL(5,2)"
    )
    good = '{"id": 1, "small": 127}'
    bad = {
        '{"id": 2, "small": 200}': "small: number out of range",
        '{"id": 3, "at": 1764000000000}': "at: day or time out of range",
        '{"id": 4, "share": 1e400}': "share: number out of range",
        '{"id": 5, "price": "1,5"}': "a comma in a DECIMAL, which Spark would leave out",
    }
    bench.write("landing/a.json", f"[{','.join([good, *bad])}]")
    bench.run()
    assert [(row["id"], row["small"]) for row in bench.target()] == [(1, 127)]
    assert malformed(bench) == {raw.encode(): reason for raw, reason in bad.items()}


def test_each_element_of_multi_line_json_is_a_record_of_its_own(bench):
    """One bad field must not set a whole file apart, nor bring a copy of it into the quarantine for each of its rows."""
    bench.define_files("json", "{multiLine: true}", ddl="id INT, name STRING, price DECIMAL(38,18)")
    odd = "[{,'" + '"'
    good = [json.dumps({"id": number, "name": odd}, indent=1) for number in range(300)]
    bad = ['{"id": "x", "price":  1.10, "name": "}"}', "7", "[[1]]", "null", '"a"']
    digits = '{"id": 300, "price": 12345678901234567890.123456789012345678}'
    bench.write("landing/a.json", "\ufeff [" + " ,\n".join([*good[:100], *bad, *good[100:], digits]) + "]\n")
    bench.run()
    rows = {row["id"]: row for row in bench.target()}
    assert set(rows) == set(range(301))
    assert rows[7]["name"] == odd
    assert str(rows[300]["price"]) == "12345678901234567890.123456789012345678"
    assert malformed(bench) == {
        raw.encode(): "JSON null, not an object" if raw == "null" else JSON_REASON for raw in bad
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"id": 1}\n{"id": 2}', JSON_REASON),
        (b'[{"id": 1}, {"id": 2}', JSON_REASON),
        (b'[{"id": 1},]', JSON_REASON),
        (b'[{"id": 1} {"id": 2}]', JSON_REASON),
        (b'[{"id": 1}] [{"id": 2}]', JSON_REASON),
        (b'[{"id": 1, "name": "open}, {\'id\': 2}]', JSON_REASON),
        (b'[{"id": 1, "name": "open}, {"id": 2}, {"name": " {\'id\': 3} "}]', JSON_REASON),
        (b'[{"id": 1}, {"name": "\xff"}]', "not valid UTF-8"),
        (b'[{"id": 1}, {"x": ' + b"[" * 100 + b"]" * 100 + b"}]", JSON_REASON),
    ],
)
def test_multi_line_json_that_cannot_be_divided_is_set_apart_whole_and_once(bench, content, reason):
    bench.define_files("json", "{multiLine: true}")
    bench.write("landing/a.json", content)
    bench.write("landing/b.json", '{"id": 5,\n"name": "b"}\n')
    bench.write("landing/c.json", " \n\n")
    bench.write("landing/d.json", "[ ]")
    bench.run()
    assert malformed(bench) == {content: reason}
    assert [row["id"] for row in bench.target()] == [5]


def test_comments_in_multi_line_json_divide_nothing(bench):
    bench.define_files("json", "{multiLine: true, allowComments: true}")
    lines = [
        "// [",
        "[",
        '/* {"id": 9}, */ {"id": 1, // }',
        '"name": "// a"}, // one',
        '{"id": 2 /* ] */} // ,',
        "]// end",
    ]
    bench.write("landing/a.json", "\n".join(lines))
    bench.write("landing/b.json", "/* nothing */ // here\n")
    bench.run()
    assert {row["id"]: row["name"] for row in bench.target()} == {1: "// a", 2: None}
    assert bench.quarantine() == []


def test_a_comment_behind_a_json_line_does_not_take_the_record_with_it(bench):
    """A line of comments alone is no row to Spark."""
    bench.define_files("json", "{allowComments: true}")
    bench.write(
        "landing/a.json", '{"id": 1} // one\n// {"id": 2}\n/* a */ /* b */\n/* c */ {"id": 3}\n// x\t{\n{"id": 4} / x\n'
    )
    [batch] = bench.run()
    assert sorted(row["id"] for row in bench.target()) == [1, 3]
    assert (batch.verdict.rows_read, malformed(bench)) == (3, {b'{"id": 4} / x': JSON_REASON})


@pytest.mark.parametrize("options", ["{comment: ''}", "{escape: ''}"])
def test_an_empty_sign_is_none(bench, options):
    bench.define_files("csv", options)
    bench.write("landing/a.csv", '1,a\n2,"open\n')
    bench.run()
    assert [row["id"] for row in bench.target()] == [1]
    assert malformed(bench) == {b'2,"open': "unbalanced quotes"}


def test_signs_that_end_a_quoted_text_are_those_of_the_options(bench):
    bench.define_files(
        "csv", "{charToEscapeQuoteEscaping: '|', positiveInf: 9e999}", ddl="id INT, name STRING, share DOUBLE"
    )
    good = [r'1,"C:|\",9e999', r'2,"\"",']
    bad = {"4,9e999,8e999": "number out of range"}
    bench.write("landing/a.csv", "\n".join([*good, *bad]))
    bench.run()
    assert sorted((row["id"], row["name"], row["share"]) for row in bench.target()) == [
        (1, "C:\\", float("inf")),
        (2, '"', None),
    ]
    assert {raw.decode(): reason for raw, reason in malformed(bench).items()} == bad


@pytest.mark.parametrize("ddl", ["id INT, lasts INTERVAL", "id INT, deep STRUCT<a: ARRAY<INTERVAL>>"])
def test_interval_without_units_is_refused_for_bad_text_would_be_null(bench, ddl):
    bench.define_files("json", ddl=ddl)
    bench.write("landing/a.json", '{"id": 1, "lasts": "bad"}\n')
    with pytest.raises(ConfError, match="INTERVAL DAY TO SECOND"):
        bench.run()


@pytest.mark.parametrize(("sep", "between"), [(r"'\t'", "\t"), ("'||'", "||")])
def test_header_between_other_separators_is_no_row(bench, sep, between):
    bench.define_files("csv", f"{{header: true, sep: {sep}}}")
    bench.write("landing/a.csv", f"id{between}name\n1{between}a\n")
    bench.run()
    assert [(row["id"], row["name"]) for row in bench.target()] == [(1, "a")]


def test_nested_names_are_taken_literally(bench):
    bench.define_files("json", ddl="id INT, meta STRUCT<`content-type`: STRING, `a.b`: ARRAY<STRUCT<`c-d`: INT>>>")
    bench.write("landing/a.json", '{"id": 1, "meta": {"content-type": "x", "a.b": [{"c-d": 2}]}}\n')
    bench.run()
    [row] = bench.target()
    assert row["meta"] == {"content-type": "x", "a.b": [{"c-d": 2}]}
