import getpass
import json

import pytest
from click.testing import CliRunner

from jobs.cli import main
from jobs.pipeline import batch as batch_module
from jobs.pipeline.commit import Step
from jobs.pipeline.errors import BatchHeldError, EsclusaError
from jobs.pipeline.failpoints import Point, arm
from jobs.pipeline.ledger import SCHEMA
from jobs.pipeline.release import Answer, Decision, record_release
from jobs.pipeline.rewind import rewind_checkpoint
from jobs.pipeline.small_table import SmallTable

HALT = "quality: {halt_when: {quarantined_share_above: 0.3}}"
LINES = "id,name\n1,a\n2,\n9,c\nbroken\n4,drop\n"


class CrashError(EsclusaError):
    """The process ends here."""


@pytest.fixture
def held(bench, expect):
    """Batch 0 is held, by a check and by the share of bad rows: 1 good, 1 for each of four fates."""

    def hold(rest=HALT):
        bench.suite(
            expect("column_values_to_not_be_null", "name", on_failure="expect_or_fail", name="named"),
            expect("column_values_to_be_between", "id", max_value=8, name="small"),
            expect("column_values_to_not_be_in_set", "name", value_set=["drop"], on_failure="expect_or_drop"),
            expect("table_row_count_to_be_between", max_value=3, on_failure="expect_or_fail", name="few"),
        )
        bench.define_files("csv", "{header: true}", rest=rest)
        bench.write("landing/a.csv", LINES)
        with pytest.raises(BatchHeldError):
            bench.run()
        return bench

    return hold


def release(bench, how, number=0):
    arguments = ["release", "p", "--batch", str(number), f"--{how}", "--conf", str(bench.folder / "conf")]
    return CliRunner().invoke(main, arguments)


def fates(bench):
    """Ids in the target, raw records in the quarantine, and the figures of the ledger's last row."""
    last = bench.ledger()[-1]
    counts = [last[f"rows_{kind}"] for kind in ("read", "written", "quarantined", "dropped")]
    assert counts[0] == sum(counts[1:])
    return sorted(row["id"] for row in bench.target()), {row["raw"] for row in bench.quarantine()}, counts


FATES = {
    "quarantine": ([1], {b"2,", b"9,c", b"broken"}, [5, 1, 3, 1]),
    "accept": ([1, 2, 9], {b"broken"}, [5, 3, 1, 1]),
    "drop": ([], set(), [5, 0, 0, 5]),
}


@pytest.mark.parametrize("how", FATES)
def test_a_released_batch_goes_where_the_decision_says_and_only_that_batch(held, how):
    bench = held()
    assert (bench.target(), bench.quarantine()) == ([], [])
    answer = release(bench, how)
    assert (answer.exit_code, answer.stdout) == (0, f"batch 0 of p: {how}; carried out by the next run\n")
    [batch] = bench.run()
    assert fates(bench) == FATES[how]
    assert (batch.decision, bench.ledger()[-1]["decision"]) == (how, how)
    assert [row["status"] for row in bench.ledger()] == ["held", "released", "done"]
    assert bench.run() == []
    bench.write("landing/b.csv", "id,name\n5,\n")
    with pytest.raises(BatchHeldError):
        bench.run()
    assert fates(bench)[:2] == FATES[how][:2]


def test_rows_that_the_batch_was_not_held_for_are_not_accepted(held):
    bench = held(rest="quality: {halt_when: {quarantined_share_above: 0.9}}")
    release(bench, "accept")
    bench.run()
    assert fates(bench) == ([1, 2], {b"9,c", b"broken"}, [5, 2, 2, 1])


@pytest.mark.parametrize(
    ("how", "step"),
    [("quarantine", Step.TARGET), ("accept", Step.QUARANTINE), ("accept", Step.LEDGER), ("drop", Step.LEDGER)],
)
def test_a_crash_before_any_write_changes_nothing_about_it(held, how, step, monkeypatch):
    bench = held()
    release(bench, how)
    method = {Step.QUARANTINE: "commit_quarantine", Step.TARGET: "commit_target", Step.LEDGER: "record"}[step]

    def crash(*_):
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(batch_module.SparkBatch, method, crash)
        with pytest.raises(CrashError):
            bench.run()
    bench.run()
    assert fates(bench) == FATES[how]
    assert [row["status"] for row in bench.ledger()] == ["held", "released", "done"]


def test_a_decision_is_recorded_once_with_who_and_when_and_stands(held):
    bench = held()
    release(bench, "drop")
    again, other = release(bench, "drop"), release(bench, "accept")
    assert (again.exit_code, other.exit_code) == (0, 6)
    assert "ALREADY_RELEASED" in other.stderr
    first, row = bench.ledger()
    assert (row["status"], row["decision"], row["batch_id"], row["rows_read"]) == ("released", "drop", 0, 5)
    assert row["message"].startswith(f"released by {getpass.getuser()}@")
    assert row["started_at"] > first["finished_at"]


def test_only_the_batch_that_is_held_now_can_be_released(held):
    bench = held()
    wrong = release(bench, "drop", number=1)
    assert (wrong.exit_code, "batch 0 is held, not 1" in wrong.stderr) == (6, True)
    release(bench, "drop")
    bench.run()
    late = release(bench, "drop")
    assert (late.exit_code, "its newest batch, 0, is done" in late.stderr) == (6, True)
    assert len(bench.ledger()) == 3


def test_a_pipeline_without_batches_holds_none(bench):
    bench.define_files("csv")
    answer = release(bench, "accept")
    assert (answer.exit_code, "it has no batch yet" in answer.stderr) == (6, True)


def test_a_decision_is_needed(bench):
    bench.define_files("csv")
    answer = CliRunner().invoke(main, ["release", "p", "--batch", "0", "--conf", str(bench.folder / "conf")])
    assert answer.exit_code == 2


def test_a_corrupt_file_of_a_dropped_batch_is_dropped_too(bench, expect):
    bench.suite(expect("column_values_to_not_be_null", "name", on_failure="expect_or_fail", name="named"))
    bench.define_files("json")
    bench.write("landing/a.json", json.dumps({"id": 1}) + "\n")
    bench.write("landing/b.json.gz", b"no gzip at all")
    with pytest.raises(BatchHeldError):
        bench.run()
    release(bench, "drop")
    bench.run()
    assert fates(bench) == ([], set(), [2, 0, 0, 2])


def test_a_ledger_that_only_spark_reaches_holds_decisions_too(held, monkeypatch):
    bench = held()
    release(bench, "accept")
    monkeypatch.setattr("jobs.pipeline.delta.local_path", lambda path: None)
    monkeypatch.setattr("jobs.pipeline.small_table.local_path", lambda path: None)
    monkeypatch.setattr("jobs.pipeline.ledger.local_path", lambda path: None)
    bench.run()
    monkeypatch.undo()
    assert fates(bench) == FATES["accept"]


def test_a_decision_that_comes_too_late_for_an_attempt_is_none(held, expect, monkeypatch):
    """The rules were mended, and a run has committed by them when somebody decides otherwise."""
    bench = held()
    bench.suite(expect("column_values_to_be_between", "id", max_value=8, name="small"))
    bench.define_files("csv", "{header: true}")
    with monkeypatch.context() as patch:
        patch.setattr("jobs.pipeline.commit.reach", arm(f"{Point.QUARANTINE_AFTER}:1:raise"))
        with pytest.raises(EsclusaError):
            bench.run()
    assert {row["raw"] for row in bench.quarantine()} == {b"9,c", b"broken"}
    assert release(bench, "drop").exit_code == 0
    bench.run()
    assert fates(bench) == ([1, 2, 4], {b"9,c", b"broken"}, [5, 3, 2, 0])


def test_a_decision_on_a_plan_that_is_forgotten_meanwhile_is_none(held):
    bench = held()
    rows = bench.ledger()
    rewind_checkpoint(bench.spark, bench.load(), -1)
    pipeline = bench.load()
    record_release(SmallTable(None, pipeline.ledger_path, SCHEMA), rows, 0, Answer(Decision.DROP))
    with pytest.raises(BatchHeldError):
        bench.run()
    assert release(bench, "quarantine").exit_code == 0
    bench.run()
    assert fates(bench) == FATES["quarantine"]
