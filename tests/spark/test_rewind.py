"""Plans that are forgotten: each test first shows that the plan is there, and what would come of it."""

import pytest

from jobs.dev.broker import running_broker
from jobs.dev.produce import create_topic, produce
from jobs.pipeline import rewind
from jobs.pipeline.checkpoint import read_state
from jobs.pipeline.errors import AlreadyRunningError, BatchHeldError, EsclusaError, RewindRefusedError
from jobs.pipeline.failpoints import Point, arm
from jobs.pipeline.lease import hold_lease
from jobs.pipeline.ledger import SCHEMA
from jobs.pipeline.release import Answer, Decision, record_release
from jobs.pipeline.rewind import rewind_checkpoint
from jobs.pipeline.small_table import SmallTable

ONE_A_BATCH = "{maxFilesPerTrigger: 1}"


def land(bench, *numbers):
    for number in numbers:
        bench.write(f"landing/{number}.csv", f"{number},a\n")


def ids(bench):
    return sorted(row["id"] for row in bench.target())


def planned(bench):
    state = read_state(bench.spark, bench.load().checkpoint)
    return state.done, state.planned


def statuses(bench):
    return [(row["status"], row["batch_id"]) for row in bench.ledger()]


def crash_at(bench, point, monkeypatch, times=1):
    with monkeypatch.context() as patched:
        patched.setattr("jobs.pipeline.commit.reach", arm(f"{point}:{times}:raise"))
        with pytest.raises(EsclusaError):
            bench.run()


def to_batch(bench, number):
    return rewind_checkpoint(bench.spark, bench.load(), number)


@pytest.fixture
def held(bench, expect):
    """Batch 0 is done. Batch 1 is held: of its three files one has a row that may not be there."""
    bench.suite(
        expect("column_values_to_be_between", "id", max_value=8, name="small", on_failure="expect_or_fail"),
    )
    bench.define_files("csv")
    land(bench, 1)
    bench.run()
    land(bench, 2, 9, 3)
    with pytest.raises(BatchHeldError):
        bench.run()
    assert (ids(bench), planned(bench)) == ([1], (0, 1))
    return bench


def release(bench, batch_id, decision):
    path = bench.load().ledger_path
    record_release(SmallTable(bench.spark, path, SCHEMA), bench.ledger(), batch_id, Answer(decision))


def test_a_held_batch_is_planned_anew_within_todays_limit_so_that_only_the_bad_file_is_held(held):
    held.define_files("csv", ONE_A_BATCH)
    with pytest.raises(BatchHeldError):
        held.run()
    assert planned(held) == (0, 1)  # a lower limit alone changes nothing: the plan stands
    assert to_batch(held, 0).endswith(": the plan of batch 1 was forgotten")
    assert planned(held) == (0, 0)
    with pytest.raises(BatchHeldError):
        held.run()
    done = {number for status, number in statuses(held) if status == "done"}
    last = max(done) + 1
    assert statuses(held)[:3] == [("done", 0), ("held", 1), ("rewound", 1)]
    assert statuses(held)[-1] == ("held", last)
    release(held, last, Decision.QUARANTINE)
    held.run()
    assert ids(held) == [1, 2, 3]
    assert [row["raw"] for row in held.quarantine()] == [b"9,a"]


def test_evidence_from_before_is_not_decided_upon(held):
    to_batch(held, 0)
    with pytest.raises(EsclusaError, match="NOT_HELD: .* its newest batch, 1, is rewound"):
        release(held, 1, Decision.DROP)
    with pytest.raises(BatchHeldError):
        held.run()
    assert statuses(held) == [("done", 0), ("held", 1), ("rewound", 1), ("held", 1)]
    release(held, 1, Decision.DROP)
    held.run()
    assert ids(held) == [1]


def test_a_batch_on_which_somebody_decided_is_refused(held):
    release(held, 1, Decision.DROP)
    with pytest.raises(RewindRefusedError, match="has a decision on batch 1 as it is planned; a start carries it out"):
        to_batch(held, 0)
    assert planned(held) == (0, 1)


@pytest.mark.parametrize("point", [Point.QUARANTINE_AFTER, Point.TARGET_AFTER, Point.LEDGER_AFTER])
def test_a_batch_that_is_committed_in_part_is_refused_and_finished_by_a_start(bench, monkeypatch, point):
    bench.define_files("csv")
    bench.write("landing/1.csv", "1,a\nbroken\n")
    crash_at(bench, point, monkeypatch)
    before = statuses(bench)
    with pytest.raises(RewindRefusedError, match="batch 0 is committed in part, and only this plan finishes it"):
        to_batch(bench, -1)
    assert (planned(bench), statuses(bench)) == ((-1, 0), before)
    bench.run()
    assert (ids(bench), len(bench.quarantine())) == ([1], 1)


def test_only_the_plan_behind_the_newest_batch_that_is_done_is_forgotten(bench):
    bench.define_files("csv", ONE_A_BATCH)
    land(bench, 1, 2)
    bench.run()
    for number, why in (
        (0, r"batch 1 is the newest that is done: .*\(--to-batch 1\)"),
        (5, "batch 1 is the newest that is done"),
        (1, "no batch is planned behind batch 1: the next start plans anew as it is"),
    ):
        with pytest.raises(RewindRefusedError, match=why):
            to_batch(bench, number)
    assert statuses(bench) == [("done", 0), ("done", 1)]


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("deletions", [0, 1])
def test_killing_it_halfway_does_no_harm(bench, monkeypatch, deletions, repeats):
    bench.define_files("csv")
    land(bench, 1, 2, 3)
    crash_at(bench, Point.TARGET_STAGED, monkeypatch)
    assert planned(bench) == (-1, 0)
    delete, left = rewind.delete_file, iter(range(deletions))

    def die_later(spark, path):
        next(left)
        delete(spark, path)

    with monkeypatch.context() as patched:
        patched.setattr(rewind, "delete_file", die_later)
        with pytest.raises(StopIteration):
            to_batch(bench, -1)
    assert planned(bench) == ((-1, 0) if deletions == 0 else (-1, -1))
    bench.define_files("csv", ONE_A_BATCH)
    if repeats:
        to_batch(bench, -1)
    bench.run()
    assert ids(bench) == [1, 2, 3]
    assert [number for status, number in statuses(bench) if status == "done"] == ([0, 1, 2] if repeats else [0])
    land(bench, 4)
    bench.run()
    assert ids(bench) == [1, 2, 3, 4]


def test_a_damaged_plan_is_forgotten(bench, monkeypatch):
    bench.define_files("csv")
    land(bench, 1)
    bench.run()
    land(bench, 2)
    crash_at(bench, Point.TARGET_STAGED, monkeypatch)
    offsets = bench.folder / "state/checkpoints/p/offsets"
    (offsets / "1").write_text("v1")
    (offsets / ".1.crc").unlink()
    with pytest.raises(EsclusaError):
        bench.run()
    to_batch(bench, 0)
    bench.run()
    assert ids(bench) == [1, 2]


@pytest.mark.fault("R18")
def test_a_plan_over_a_file_that_is_lost_is_forgotten(bench, monkeypatch):
    bench.define_files("csv")
    land(bench, 1, 2)
    crash_at(bench, Point.TARGET_STAGED, monkeypatch)
    (bench.folder / "landing/2.csv").unlink()
    with pytest.raises(EsclusaError, match="FILE_VANISHED: batch 0 .* checkpoint rewind NAME --to-batch -1,"):
        bench.run()
    to_batch(bench, -1)
    bench.run()
    assert ids(bench) == [1]


def test_a_plan_with_which_the_log_of_files_was_summed_up_is_refused(bench, monkeypatch):
    bench.define_files("csv", ONE_A_BATCH)
    land(bench, *range(11))
    crash_at(bench, Point.TARGET_STAGED, monkeypatch, times=10)
    assert planned(bench) == (8, 9)
    with pytest.raises(RewindRefusedError, match="summed up with this plan"):
        to_batch(bench, 8)
    bench.run()
    assert ids(bench) == list(range(11))


def test_a_pipeline_that_another_run_holds_is_left_alone(held):
    pipeline = held.load()
    with hold_lease(held.spark, "p", pipeline.lease_path), pytest.raises(AlreadyRunningError):
        to_batch(held, 0)
    assert planned(held) == (0, 1)


def test_records_of_a_topic_are_planned_anew_within_todays_limit(bench, tmp_path, monkeypatch):
    with running_broker(tmp_path / "kafka") as broker:
        create_topic(broker.servers, "t", 1)

        def define(limit):
            options = f"{{kafka.bootstrap.servers: '{broker.servers}', subscribe: t, maxOffsetsPerTrigger: {limit}}}"
            bench.define(source=f"{{type: kafka, value_format: text, options: {options}}}")

        define(100)
        produce(broker.servers, "t", [b"a", b"b", b"c"])
        crash_at(bench, Point.TARGET_STAGED, monkeypatch)
        assert planned(bench) == (-1, 0)
        define(1)
        to_batch(bench, -1)
        bench.run()
        assert [number for status, number in statuses(bench) if status == "done"] == [0, 1, 2]
        produce(broker.servers, "t", [b"d"])
        bench.run()
        assert sorted(row["value"] for row in bench.target()) == ["a", "b", "c", "d"]


def test_a_plan_is_kept_though_conf_names_other_tables_than_it_was_committed_to(bench, monkeypatch):
    bench.define_files("csv")
    bench.write("landing/a.csv", "1,a\nbroken\n")
    crash_at(bench, Point.QUARANTINE_AFTER, monkeypatch)
    elsewhere = f"sink: {{type: delta, path: {bench.folder}/lake/p, quarantine_path: {bench.folder}/lake/bad}}"
    bench.define_files("csv", rest=elsewhere)
    with pytest.raises(RewindRefusedError, match="committed in part"):
        to_batch(bench, -1)
    bench.run()
    assert (ids(bench), [row["raw"] for row in bench.quarantine()]) == ([1], [b"broken"])
