"""Columns that a pipeline newly gives: they join the target with the first batch that has them, and by its commit."""

import json

import pytest
from delta.tables import DeltaTable

from jobs.pipeline.delta_reader import read_rows
from jobs.pipeline.errors import BatchHeldError, EsclusaError, StateMismatchError
from jobs.pipeline.failpoints import Point, arm
from jobs.pipeline.replay import Selection, replay

NARROW = "id INT, name STRING"
WIDE = f"{NARROW}, size STRING"
OLD_LINES = '{"id": 1, "name": "a", "size": "unread"}\nbroken\n'
NEW_LINES = '{"id": 2, "name": "b", "size": "small"}\n{"id": 9, "name": "c", "size": "large"}\nbroken too\n'


def define(bench, ddl, *, merges=True, transform="SELECT * FROM input"):
    sink = f"sink: {{type: delta, path: {bench.folder}/lake/p, merge_schema: {str(merges).lower()}}}"
    bench.define_files("json", ddl=ddl, rest=f"transforms: [{{sql: '{transform}'}}]\n{sink}")


@pytest.fixture
def narrow(bench, expect):
    """One row written as `id, name`, one set apart; rows with `size` wait, of which 9 breaks a check."""
    bench.suite(expect("column_values_to_be_between", "id", max_value=6, name="few"))
    define(bench, NARROW)
    bench.write("landing/a.json", OLD_LINES)
    bench.run()
    bench.write("landing/b.json", NEW_LINES)
    return bench


def rows(bench):
    """Of the target, as delta-rs reads them; Spark must read the same."""
    by_arrow = read_rows(str(bench.folder / "lake/p")).to_pylist()
    by_spark = bench.spark.read.format("delta").load(f"{bench.folder}/lake/p").collect()
    assert sorted(map(str, by_arrow)) == sorted(str(row.asDict(recursive=True)) for row in by_spark)
    return sorted(by_arrow, key=lambda row: row["id"])


def columns(bench):
    return DeltaTable.forPath(bench.spark, f"{bench.folder}/lake/p").toDF().columns


def kinds_by_version(bench):
    """The actions of each version of the target."""
    logs = sorted((bench.folder / "lake/p/_delta_log").glob("*.json"))
    return [{kind for line in log.read_text().splitlines() for kind in json.loads(line)} for log in logs]


def crash_at(point, monkeypatch):
    monkeypatch.setattr("jobs.pipeline.commit.reach", arm(f"{point}:1:raise"))


def test_a_new_column_joins_the_table_by_the_commit_of_the_first_batch_that_has_it(narrow):
    define(narrow, WIDE)
    narrow.run()
    assert rows(narrow) == [{"id": 1, "name": "a", "size": None}, {"id": 2, "name": "b", "size": "small"}]
    assert kinds_by_version(narrow)[2] == {"commitInfo", "metaData", "txn", "add"}
    narrow.write("landing/c.json", '{"id": 3, "size": "small"}\n')
    narrow.run()
    assert "metaData" not in kinds_by_version(narrow)[3]


def test_without_the_switch_a_new_column_is_refused_before_anything_is_read(narrow):
    define(narrow, WIDE, merges=False)
    with pytest.raises(StateMismatchError, match="the table lacks size string.*sink.merge_schema: true"):
        narrow.run()
    assert columns(narrow) == ["id", "name"]


def test_a_column_that_is_not_given_any_more_is_null_from_then_on(narrow):
    define(narrow, NARROW, transform="SELECT id FROM input")
    narrow.run()
    assert rows(narrow) == [{"id": 1, "name": "a"}, {"id": 2, "name": None}]


def test_a_column_that_began_as_a_literal_may_be_missing_later(bench):
    define(bench, NARROW, transform="SELECT *, 1 AS part FROM input")
    bench.write("landing/a.json", OLD_LINES)
    bench.run()
    define(bench, NARROW)
    bench.write("landing/b.json", '{"id": 2}\n')
    bench.run()
    assert [row["part"] for row in rows(bench)] == [1, None]


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        ("SELECT id, cast(id AS BIGINT) AS name FROM input", "name is string in the table, bigint in the pipeline"),
        ("SELECT id, name AS Name FROM input", "name is spelled Name in the pipeline"),
    ],
)
def test_what_cannot_be_merged_is_refused_before_anything_is_read(narrow, transform, reason):
    define(narrow, NARROW, transform=transform)
    with pytest.raises(StateMismatchError, match=reason):
        narrow.run()
    assert len(rows(narrow)) == 1


def test_fields_join_structs_and_the_structs_in_arrays(bench):
    define(bench, "id INT, at STRUCT<x: INT, y: INT>, all ARRAY<STRUCT<x: INT>>, named MAP<STRING, STRUCT<x: INT>>")
    bench.write("landing/a.json", '{"id": 1, "at": {"x": 1, "y": 2}, "all": [{"x": 3}], "named": {"a": {"x": 4}}}\n')
    bench.run()
    wide = "STRUCT<x: INT, z: INT>"
    define(bench, f"id INT, at STRUCT<x: INT, z: INT, y: INT>, all ARRAY<{wide}>, named MAP<STRING, {wide}>")
    line = '{"id": 2, "at": {"x": 1, "y": 2, "z": 5}, "all": [{"x": 3, "z": 6}], "named": {"a": {"x": 4, "z": 7}}}\n'
    bench.write("landing/b.json", line)
    bench.run()
    table = f"{bench.folder}/lake/p"
    first = {
        "id": 1,
        "at": {"x": 1, "y": 2, "z": None},
        "all": [{"x": 3, "z": None}],
        "named": {"a": {"x": 4, "z": None}},
    }
    by_spark = sorted(bench.spark.read.format("delta").load(table).collect())
    assert [row.asDict(recursive=True) for row in by_spark] == [first, json.loads(line)]
    by_arrow = sorted(read_rows(table).to_pylist(), key=lambda row: row["id"])
    assert [row | {"named": dict(row["named"])} for row in by_arrow] == [first, json.loads(line)]
    define(bench, "id INT, at STRUCT<x: INT>, all ARRAY<STRUCT<z: INT>>")
    bench.write("landing/c.json", line.replace("2", "3"))
    bench.run()
    [last] = bench.spark.read.format("delta").load(table).where("id = 3").collect()
    fewer = {"id": 3, "at": {"x": 1, "y": None, "z": None}, "all": [{"x": None, "z": 6}], "named": None}
    assert last.asDict(recursive=True) == fewer


def test_a_batch_that_is_held_leaves_the_columns_as_they_were(narrow, expect):
    narrow.suite(expect("column_values_to_be_between", "id", max_value=6, name="few", on_failure="expect_or_fail"))
    define(narrow, WIDE)
    with pytest.raises(BatchHeldError):
        narrow.run()
    assert columns(narrow) == ["id", "name"]


@pytest.mark.fault("K15")
@pytest.mark.parametrize(
    "point",
    [Point.TARGET_STAGED, Point.QUARANTINE_AFTER, Point.TARGET_AFTER, Point.LEDGER_AFTER],
)
def test_a_batch_that_changes_the_schema_lands_once_and_whole_wherever_its_run_dies(narrow, monkeypatch, point):
    define(narrow, WIDE)
    crash_at(point, monkeypatch)
    with pytest.raises(EsclusaError):
        narrow.run()
    is_committed = point in {Point.TARGET_AFTER, Point.LEDGER_AFTER}
    assert columns(narrow) == (["id", "name", "size"] if is_committed else ["id", "name"])
    assert len(rows(narrow)) == (2 if is_committed else 1)
    narrow.run()
    assert rows(narrow) == [{"id": 1, "name": "a", "size": None}, {"id": 2, "name": "b", "size": "small"}]
    assert ["metaData" in kinds for kinds in kinds_by_version(narrow)] == [True, False, True]
    assert sorted(row["raw"] for row in narrow.quarantine())[:2] == [b"broken", b"broken too"]
    assert [(row["batch_id"], row["rows_written"], row["rows_quarantined"]) for row in narrow.ledger()] == [
        (0, 1, 1),
        (1, 1, 2),
    ]


def test_altering_first_and_appending_then_would_show_readers_what_lies_between(narrow):
    """The baseline: two commits, and a death between them leaves a column of which no row was written."""
    path = f"{narrow.folder}/lake/p"
    narrow.spark.sql(f"ALTER TABLE delta.`{path}` ADD COLUMN size STRING")
    assert (columns(narrow), len(rows(narrow))) == (["id", "name", "size"], 1)
    assert {"metaData", "add"} & kinds_by_version(narrow)[2] == {"metaData"}


@pytest.mark.fault("K15", "D5")
def test_a_batch_committed_in_part_ends_without_the_column_that_conf_has_got_since(narrow, monkeypatch):
    crash_at(Point.QUARANTINE_AFTER, monkeypatch)
    with pytest.raises(EsclusaError):
        narrow.run()
    monkeypatch.undo()
    define(narrow, WIDE)
    narrow.write("landing/c.json", '{"id": 3, "name": "d", "size": "new"}\n')
    narrow.run()
    assert [(row["id"], row["size"]) for row in rows(narrow)] == [(1, None), (2, None), (3, "new")]


def test_a_replay_brings_new_columns_too_also_between_the_commits_of_a_batch(narrow, expect, monkeypatch):
    """The batch was pinned without the column, and must not stumble over it."""
    define(narrow, NARROW, merges=False)
    narrow.run()
    narrow.write("landing/c.json", '{"id": 3, "name": "d"}\nbroken again\n')
    crash_at(Point.QUARANTINE_AFTER, monkeypatch)
    with pytest.raises(EsclusaError):
        narrow.run()
    monkeypatch.undo()
    narrow.suite(expect("column_values_to_be_between", "id", max_value=9, name="few"))
    define(narrow, WIDE)
    replay(narrow.spark, narrow.load(), Selection(), is_dry=False)
    assert rows(narrow)[-1] == {"id": 9, "name": "c", "size": "large"}
    narrow.run()
    assert [(row["id"], row["size"]) for row in rows(narrow)] == [(1, None), (2, None), (3, None), (9, "large")]
