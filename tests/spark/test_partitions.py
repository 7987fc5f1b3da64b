"""Partition directories (`day=2026-01-01/`): their columns come from the path, in a batch, beside corrupt files, in a replay."""

import json
from datetime import date

import pytest

from jobs.pipeline.errors import ConfError, StateMismatchError
from jobs.pipeline.replay import Selection, replay

DDL = "hour STRING, id INT, `Day` DATE, `a b` STRING, name STRING"
FOLDERS = {
    "day=2026-01-01/a b=x/hour=07": (date(2026, 1, 1), "x", "07"),
    "day=2026-01-02/a b=1%2B1%3D2 +ü%2F%25/hour=__HIVE_DEFAULT_PARTITION__": (date(2026, 1, 2), "1+1=2 +ü/%", None),
    "day=__HIVE_DEFAULT_PARTITION__/a b=%20/hour=10": (None, " ", "10"),
}


def as_csv(*rows):
    return "id,name\n" + "".join(f"{id_},{name}\n" for id_, name in rows)


def as_json_lines(*rows):
    return "".join(json.dumps({"id": id_, "name": name}) + "\n" for id_, name in rows)


def as_json(*rows):
    return json.dumps([{"id": id_, "name": name} for id_, name in rows], indent=1)


FORMATS = [
    ("csv", "{header: true}", as_csv),
    ("json", "{}", as_json_lines),
    ("json", "{multiLine: true}", as_json),
]


def found(bench):
    rows = bench.spark.read.format("delta").load(f"{bench.folder}/lake/p").collect()
    return {row["id"]: (row["Day"], row["a b"], row["hour"]) for row in rows}


def messages(bench):
    return {row["_errors"][0]["message"] for row in bench.quarantine()}


def define(bench, format_, options, ddl, transforms=""):
    properties = "table_properties: {delta.columnMapping.mode: name}"
    sink = f"sink: {{type: delta, path: {bench.folder}/lake/p, {properties}}}"
    bench.define_files(format_, options, ddl=ddl, rest=f"{transforms}\n{sink}")


@pytest.mark.fault("R17")
@pytest.mark.parametrize(("format_", "options", "as_text"), FORMATS)
def test_columns_that_the_path_holds_come_from_it_also_in_a_replay(bench, format_, options, as_text):
    define(bench, format_, options, DDL)
    for number, folder in enumerate(FOLDERS):
        bench.write(f"landing/{folder}/f.{format_}", as_text((number, "a"), (f"{number + 10}x", "b")))
    bench.run()
    assert found(bench) == dict(enumerate(FOLDERS.values()))
    assert len(bench.quarantine()) == 3
    transform = "SELECT hour, CAST(regexp_replace(id, 'x', '') AS INT) AS id, Day, `a b`, name FROM input"
    define(bench, format_, options, DDL.replace("id INT", "id STRING"), f'transforms: [{{sql: "{transform}"}}]')
    replay(bench.spark, bench.load(), Selection(), is_dry=False)
    assert found(bench) == dict(enumerate(FOLDERS.values())) | dict(enumerate(FOLDERS.values(), 10))


def test_columns_that_the_path_holds_stay_beside_a_corrupt_file(bench):
    bench.define_files("csv", ddl="id INT, name STRING, day INT")
    bench.write("landing/day=1/a.csv", "1,a\n")
    bench.write("landing/day=2/a[1].csv", "2,a\n")
    bench.write("landing/day=2/b.csv.gz", "no gzip\n")
    bench.run()
    assert {row["id"]: row["day"] for row in bench.target()} == {1: 1, 2: 2}
    assert len(bench.quarantine()) == 1


def test_rows_whose_path_does_not_say_what_it_should_are_malformed(bench):
    """Spark would pass over the file beside the directories, and end the run for the text."""
    bench.define_files("json", ddl="id INT, day DATE")
    bench.write("landing/day=2026-01-01/a.json", '{"id": 1}\n')
    bench.write("landing/day=monday/a.json", '{"id": 2}\n')
    bench.write("landing/a.json", '{"id": 3, "day": "2026-01-01"}\n')
    bench.run()
    assert [(row["id"], row["day"]) for row in bench.target()] == [(1, date(2026, 1, 1))]
    assert messages(bench) == {
        "day: the partition directory does not fit its type",
        "day: no partition directory in the path",
    }
    bench.write("landing/b.json", '{"id": 4}\n')
    bench.run()
    assert len(bench.quarantine()) == 3


def test_partition_columns_that_the_schema_lacks_are_refused(bench):
    bench.define_files("json")
    bench.write("landing/day=1/a.json", '{"id": 1}\n')
    with pytest.raises(ConfError, match="lacks the column 'day'"):
        bench.run()


def test_a_pattern_above_partition_directories_is_refused(bench):
    source = f"{{type: files, format: json, path: '{bench.folder}/land*', schema: p}}"
    bench.define(source=source, ddl="id INT, day INT")
    bench.write("landing/day=1/a.json", '{"id": 1}\n')
    with pytest.raises(ConfError, match="name the directory itself"):
        bench.run()


@pytest.mark.parametrize("format_", ["parquet", "xml"])
def test_files_beside_partition_directories_that_spark_would_pass_over_stop_the_run(bench, format_):
    bench.define_files(format_, "{rowTag: r}" if format_ == "xml" else "{}", ddl="id INT, day INT")
    rows = bench.spark.sql("SELECT 1 AS id, 1 AS day")
    writer = rows.write.format(format_).mode("append").option("rowTag", "r")
    writer.partitionBy("day").save(f"{bench.folder}/landing")
    writer.mode("append").partitionBy().save(f"{bench.folder}/other")
    [beside] = (bench.folder / "other").glob("part-*")
    beside.rename(bench.folder / "landing" / beside.name)
    with pytest.raises(StateMismatchError, match="lies beside directories of partitions"):
        bench.run()
    assert bench.target() == []
