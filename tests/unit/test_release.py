import getpass
import platform
from datetime import UTC, datetime

import pytest

from jobs.pipeline.errors import StateMismatchError
from jobs.pipeline.ledger import SCHEMA, Status, read_ledger
from jobs.pipeline.model import OnFailure, Scope
from jobs.pipeline.release import Answer, Decision, Release, apply_release, find_release, record_release, without_holds
from jobs.pipeline.small_table import SmallTable

HELD = {
    "pipeline": "orders",
    "query_id": "q",
    "batch_id": 4,
    "status": "held",
    "started_at": datetime(2026, 1, 1, tzinfo=UTC),
    "rows_read": 10,
    "rows_quarantined": 3,
}


@pytest.fixture
def pipeline(bundle):
    """One check of each scope and disposition; halts above a share of 0.05."""
    loaded = bundle.load("orders")
    [check] = loaded.checks
    scopes = [(Scope.ROW, on_failure) for on_failure in OnFailure] + [(Scope.BATCH, OnFailure.FAIL)]
    checks = tuple(check.model_copy(update={"scope": scope, "on_failure": how}) for scope, how in scopes)
    return loaded.model_copy(update={"checks": checks})


def fates(pipeline):
    return [check.on_failure.removeprefix("expect_or_") for check in pipeline.checks]


def test_without_holds_a_row_check_sets_apart_and_a_batch_check_counts(pipeline):
    mended = without_holds(pipeline)
    assert fates(mended) == ["expect", "drop", "quarantine", "quarantine", "expect"]
    assert mended.spec.quality.halt_when is None


@pytest.mark.parametrize(
    ("decision", "share", "expected"),
    [
        (Decision.QUARANTINE, 0.5, ["expect", "drop", "quarantine", "quarantine", "expect"]),
        (Decision.DROP, 0.5, ["expect", "drop", "quarantine", "quarantine", "expect"]),
        (Decision.ACCEPT, 0.5, ["expect", "drop", "expect", "expect", "expect"]),
        (Decision.ACCEPT, 0.05, ["expect", "drop", "quarantine", "expect", "expect"]),
    ],
)
def test_a_decision_changes_what_the_batch_was_held_for(pipeline, decision, share, expected):
    released = apply_release(pipeline, Release(decision, "released", share))
    assert fates(released) == expected
    assert released.spec.quality.halt_when is None


@pytest.fixture
def ledger(tmp_path):
    """A local ledger, without Spark; `add` appends rows as a run would."""
    table = SmallTable(None, str(tmp_path), SCHEMA)
    table.create()
    return table


@pytest.mark.parametrize("decision", Decision)
def test_a_decision_is_found_again_with_the_evidence_it_was_taken_on(ledger, tmp_path, decision):
    assert record_release(ledger, [HELD], 4, Answer(decision))
    rows = read_ledger(str(tmp_path))
    assert [(row["status"], row["batch_id"], row["rows_read"]) for row in rows] == [("released", 4, 10)]
    found = find_release(rows, "q", 4)
    assert (found.decision, found.quarantined_share) == (decision, 0.3)
    assert not record_release(ledger, [HELD, *rows], 4, Answer(decision))
    assert len(read_ledger(str(tmp_path))) == 1


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [HELD | {"batch_id": 5}],
        [HELD, HELD | {"status": str(Status.DONE)}],
        [HELD, HELD | {"status": str(Status.DONE)}, HELD | {"status": str(Status.REPLAYED)}],
    ],
)
def test_a_batch_that_is_not_held_now_is_refused_and_nothing_recorded(ledger, tmp_path, rows):
    with pytest.raises(StateMismatchError, match="NOT_HELD"):
        record_release(ledger, rows, 4, Answer(Decision.DROP))
    assert read_ledger(str(tmp_path)) == []


def test_another_decision_is_refused(ledger, tmp_path):
    record_release(ledger, [HELD], 4, Answer(Decision.DROP))
    with pytest.raises(StateMismatchError, match="ALREADY_RELEASED"):
        record_release(ledger, [HELD, *read_ledger(str(tmp_path))], 4, Answer(Decision.ACCEPT))


def test_the_ledger_names_who_decided_and_through_whom(ledger, tmp_path):
    record_release(ledger, [HELD], 4, Answer(Decision.DROP, "Ada\x1b[2J\u202e" + "a" * 1000))
    [row] = read_ledger(str(tmp_path))
    me = f"{getpass.getuser()}@{platform.node()}"
    assert row["message"] == f"released by Ada\ufffd[2J\ufffd{'a' * 92} through {me}: drop"
