from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.account import SourceFigures
from jobs.pipeline.ledger import SCHEMA, BatchRecord, Status, find_writers, operator_row, read_ledger
from jobs.pipeline.model import Check, OnFailure, Scope
from jobs.pipeline.quality.verdict import CheckResult, SetApart, Verdict

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS = st.integers(0, 1_000_000)
NOT_NULL = Check(
    name="id_there",
    type="expect_column_values_to_not_be_null",
    scope=Scope.ROW,
    columns=("id",),
    kwargs={},
    mostly=0.9,
    on_failure=OnFailure.DROP,
    file="s.json",
    line=1,
)
VERDICT = Verdict(
    rows_read=100,
    malformed=SetApart(5, ()),
    rows_shaped=90,
    unfit=SetApart(10, ()),
    rows_dropped=20,
    results=(CheckResult(NOT_NULL, 90, 20, success=False),),
    held_because=(),
)


def record(verdict=VERDICT, batch_id=0, started_at=START):
    return BatchRecord(
        pipeline="orders",
        query_id="q",
        batch_id=batch_id,
        status=Status.DONE,
        message=None,
        decision=None,
        started_at=started_at,
        finished_at=started_at + timedelta(seconds=1),
        source_range='{"files": []}',
        source_figures=SourceFigures(100, None, None),
        lag=None,
        rows_written=verdict.rows_passed,
        verdict=verdict,
        rules_fingerprint="f",
        target_version=3,
        quarantine_version=None,
        duration_ms={"write": 12, "record": 3},
    )


def write_ledger(path, *records):
    for one in records:
        write_deltalake(path, pa.Table.from_pylist([one.as_row()], schema=SCHEMA), mode="append")


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.integers(-1_000, 1_000))
def test_rows_read_are_rows_written_quarantined_and_dropped(malformed, unfit, dropped, passed, filtered):
    shaped = unfit + dropped + passed
    verdict = Verdict(
        malformed + shaped + filtered, SetApart(malformed, ()), shaped, SetApart(unfit, ()), dropped, (), ()
    )
    row = record(verdict).as_row()
    assert row["rows_read"] == row["rows_written"] + row["rows_quarantined"] + row["rows_dropped"]
    assert row["rows_dropped"] == dropped + row["rows_filtered"]


def test_a_row_holds_every_column_of_the_schema():
    row = record().as_row()
    assert list(row) == SCHEMA.names
    (read,) = pa.Table.from_pylist([row], schema=SCHEMA).to_pylist()
    assert read == row
    counts = ("rows_read", "rows_written", "rows_quarantined", "rows_dropped", "rows_malformed", "rows_filtered")
    assert [row[name] for name in counts] == [100, 60, 15, 25, 5, 5]
    assert row["checks"] == [
        {
            "name": "id_there",
            "type": "expect_column_values_to_not_be_null",
            "on_failure": "expect_or_drop",
            "mostly": 0.9,
            "element_count": 90,
            "unexpected_count": 20,
            "success": False,
        }
    ]


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_the_ledger_reads_oldest_first_whatever_the_order_of_the_writes(tmp_path, prefix):
    later = START + timedelta(hours=1)
    write_ledger(tmp_path, record(batch_id=3, started_at=later), record(batch_id=1), record(batch_id=2))
    assert [row["batch_id"] for row in read_ledger(f"{prefix}{tmp_path}")] == [1, 2, 3]


@pytest.mark.parametrize(("newest", "ids"), [(1, [2]), (2, [1, 2]), (9, [0, 1, 2]), (None, [0, 1, 2])])
def test_only_the_newest_are_read(tmp_path, newest, ids):
    write_ledger(tmp_path, *(record(batch_id=number) for number in range(3)))
    assert [row["batch_id"] for row in read_ledger(str(tmp_path), newest)] == ids


def test_a_ledger_that_is_not_there_yet_is_empty(tmp_path):
    assert read_ledger(str(tmp_path / "nowhere")) == []
    assert read_ledger(str(tmp_path)) == []
    (tmp_path / "_delta_log").mkdir()  # its creation was killed
    assert read_ledger(str(tmp_path)) == []


def test_only_a_held_batch_keeps_examples_for_those_of_others_are_in_the_quarantine():
    row = {"raw": None, "source": {}, "_errors": [{"check": "id_there", "column": "id", "message": "NULL"}]}
    verdict = replace(VERDICT, unfit=SetApart(10, (row,)))
    assert record(verdict).as_row()["examples"] == []
    held = replace(record(verdict), status=Status.HELD).as_row()
    assert held["examples"] == [{"check": "id_there", "message": "NULL", "raw": None}]


def operator(status, query_id, minutes):
    at = START + timedelta(minutes=minutes)
    row = operator_row("orders", status, "", at) | {"query_id": query_id, "finished_at": at}
    return row | {"duration_ms": []}


@pytest.mark.parametrize(
    ("rows", "writers"),
    [
        ([(Status.BEGUN, "q", 0)], ["q"]),
        ([(Status.BEGUN, "q", 0), (Status.RESET, "q", 1)], []),
        ([(Status.BEGUN, "q", 1), (Status.RESET, "q", 0)], []),  # the clock of the host that set it aside was behind
        ([(Status.BEGUN, "q", 0), (Status.RESET, "", 1), (Status.BEGUN, "r", 2)], ["r"]),
        ([(Status.HELD, "q", 0)], []),
    ],
)
def test_writers_are_those_that_have_begun_and_were_not_set_aside(tmp_path, rows, writers):
    table = pa.Table.from_pylist([operator(*row) for row in rows], schema=SCHEMA)
    write_deltalake(str(tmp_path), table)
    assert find_writers(None, str(tmp_path)) == writers
    assert Status.BEGUN not in {row["status"] for row in read_ledger(str(tmp_path))}


def test_batches_of_a_query_come_in_the_order_of_their_ids_whatever_clocks_say(tmp_path):
    """Batch 3 was done by a host an hour ahead; and batch 4 was held before it was done."""
    told = [(3, Status.DONE, 60), (4, Status.DONE, 1), (4, Status.HELD, 2), (-1, Status.MAINTAINED, 1)]
    rows = [operator(status, "q", minutes) | {"batch_id": batch_id} for batch_id, status, minutes in told]
    write_deltalake(str(tmp_path), pa.Table.from_pylist(rows, schema=SCHEMA))
    found = [(row["batch_id"], row["status"]) for row in read_ledger(str(tmp_path)) if row["status"] != "maintained"]
    assert found == [(3, "done"), (4, "held"), (4, "done")]
