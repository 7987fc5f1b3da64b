"""Tables altered or made anew under a running query; each test does it from inside a batch."""

import os
import shutil

import pytest
from deltalake import DeltaTable

from jobs.pipeline.errors import EsclusaError, StateMismatchError, TableBehindError, TableRecreatedError
from jobs.pipeline.failpoints import Point
from jobs.pipeline.replay import Selection, replay


@pytest.fixture
def stream(bench):
    """Row 1 is written, rows 2 and 9 wait, a batch each."""
    bench.define_files("csv", "{maxFilesPerTrigger: 1}")
    for number in (1, 2, 9):
        os.utime(bench.write(f"landing/{number}.csv", f"{number},a\n"), (number, number))  # Spark takes the older first
        if number == 1:
            bench.run()
    return bench


def ids(bench):
    return sorted(row["id"] for row in bench.target())


def do_once_at(point, action, monkeypatch):
    """Call the action when a batch first reaches the point."""
    left = [action]
    monkeypatch.setattr("jobs.pipeline.commit.reach", lambda name: left and name == point and left.pop()())


def alter(bench, change):
    bench.spark.sql(f"ALTER TABLE delta.`{bench.folder}/lake/p` {change}")


@pytest.mark.fault("T12", "I8")
@pytest.mark.parametrize("change", ["ADD CONSTRAINT small CHECK (id < 5)", "ADD COLUMN extra STRING"])
def test_a_batch_in_flight_is_not_committed_to_a_table_that_was_altered_meanwhile(stream, monkeypatch, change):
    do_once_at(Point.TARGET_STAGED, lambda: alter(stream, change), monkeypatch)
    with pytest.raises(EsclusaError, match="DELTA_METADATA_CHANGED"):
        stream.run()
    assert ids(stream) == [1]


@pytest.mark.fault("T12", "I8")
def test_a_row_that_breaks_a_constraint_stops_the_run_until_the_constraint_is_gone(stream):
    alter(stream, "ADD CONSTRAINT small CHECK (id < 5)")
    for _ in range(2):
        with pytest.raises(EsclusaError, match="DELTA_VIOLATE_CONSTRAINT_WITH_VALUES"):
            stream.run()
        assert ids(stream) == [1, 2]
    alter(stream, "DROP CONSTRAINT small")
    stream.run()
    assert ids(stream) == [1, 2, 9]


@pytest.mark.fault("T6")
def test_table_that_is_set_back_under_a_run_gets_no_further_batch(stream, monkeypatch):
    """Between the batches of 2 and 9: a commit on top of it would hide that row 2 is gone."""
    path = str(stream.folder / "lake/p")
    do_once_at(Point.LEDGER_AFTER, lambda: DeltaTable(path).restore(DeltaTable(path).version() - 1), monkeypatch)
    with pytest.raises(TableBehindError, match="was set back to version 1, from before rows of p"):
        stream.run()
    assert ids(stream) == [1]
    with pytest.raises(TableBehindError, match="set back to version 1"):
        stream.run()
    DeltaTable(path).restore(2)
    stream.run()
    assert ids(stream) == [1, 2, 9]


@pytest.mark.fault("T6")
def test_replayed_rows_that_a_restore_takes_away_are_missed(bench):
    bench.define_files("csv", ddl="id INT")
    bench.write("landing/a.csv", "1\nx\n")
    bench.run()
    bench.define_files("csv", ddl="id STRING", rest="transforms: [{sql: 'SELECT length(id) AS id FROM input'}]")
    assert replay(bench.spark, bench.load(), Selection(), is_dry=False).rows == {"written": 1}
    table = DeltaTable(str(bench.folder / "lake/p"))
    table.restore(table.version() - 1)
    with pytest.raises(TableBehindError, match="set back to version 1"):
        bench.run()


@pytest.mark.fault("T6")
def test_a_replay_does_not_hide_a_restore(bench):
    bench.define_files("csv", ddl="id INT")
    bench.write("landing/a.csv", "1\nx\n")
    bench.run()
    table = DeltaTable(str(bench.folder / "lake/p"))
    table.restore(0)
    bench.define_files("csv", ddl="id STRING", rest="transforms: [{sql: 'SELECT length(id) AS id FROM input'}]")
    with pytest.raises(TableBehindError, match="set back to version 0"):
        replay(bench.spark, bench.load(), Selection(), is_dry=False)


@pytest.mark.fault("T12")
def test_a_column_added_between_batches_stays_empty_until_the_next_start_refuses(stream, monkeypatch):
    do_once_at(Point.LEDGER_AFTER, lambda: alter(stream, "ADD COLUMN extra STRING"), monkeypatch)
    stream.run()
    assert [(row["id"], row["extra"]) for row in sorted(stream.target(), key=lambda row: row["id"])] == [
        (1, None),
        (2, None),
        (9, None),
    ]
    with pytest.raises(StateMismatchError, match="the pipeline does not produce extra string"):
        stream.run()


@pytest.mark.fault("T7", "I8")
@pytest.mark.parametrize("point", [Point.TARGET_STAGED, Point.QUARANTINE_AFTER, Point.LEDGER_AFTER])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_table_that_is_moved_away_under_a_query_gets_nothing_into_its_place(stream, monkeypatch, point, is_new):
    lake, aside = stream.folder / "lake/p", stream.folder / "aside"

    def move_away():
        shutil.move(lake, aside)
        if is_new:
            stream.spark.sql(f"CREATE TABLE delta.`{lake}` (id INT, name STRING) USING delta")

    do_once_at(point, move_away, monkeypatch)
    with pytest.raises(TableRecreatedError, match="/lake/p was deleted, moved or made anew while this run"):
        stream.run()
    assert len(list(lake.glob("_delta_log/*.json"))) == is_new
    shutil.rmtree(lake, ignore_errors=True)
    shutil.move(aside, lake)
    stream.run()
    assert ids(stream) == [1, 2, 9]
