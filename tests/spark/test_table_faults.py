"""Tables altered or made anew under a running query; each test does it from inside a batch."""

import os
import shutil

import pytest
from deltalake import DeltaTable

from jobs.pipeline.errors import EsclusaError, StateMismatchError, TableRecreatedError
from jobs.pipeline.failpoints import Point


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
    assert (DeltaTable(str(lake)).version() if is_new else lake.exists()) == 0
    shutil.rmtree(lake, ignore_errors=True)
    shutil.move(aside, lake)
    stream.run()
    assert ids(stream) == [1, 2, 9]
