from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline import commit
from jobs.pipeline.commit import Step, commit_batch, transaction
from jobs.pipeline.errors import BatchHeldError
from jobs.pipeline.failpoints import Point
from jobs.pipeline.quality.verdict import SetApart, Verdict

WRITES = {"commit_quarantine": Step.QUARANTINE, "commit_target": Step.TARGET, "record": Step.LEDGER}
DONE = st.frozensets(st.sampled_from(Step))


class CrashError(Exception):
    """The process ends here."""


@dataclass
class ListBatch:
    """A batch that keeps a list of what was asked of it; may crash before its n-th call."""

    held_because: tuple[str, ...] = ()
    crash_before: int | None = None
    calls: list[str] = field(default_factory=list)

    @property
    def verdict(self):
        return Verdict(1, SetApart(0, ()), 1, SetApart(0, ()), 0, (), self.held_because)

    @property
    def written(self):
        return [WRITES[call] for call in self.calls if call in WRITES]

    def call(self, name):
        if self.crash_before == len(self.calls):
            raise CrashError
        self.calls.append(name)
        return self.verdict

    def stage_target(self):
        return self.call("stage_target")

    def announce(self):
        self.call("announce")

    def discard_target(self):
        self.call("discard_target")

    def adopt_target(self):
        return self.call("adopt_target")

    def commit_quarantine(self, verdict):
        assert verdict == self.call("commit_quarantine")

    def adopt_quarantine(self, verdict):
        assert verdict == self.call("adopt_quarantine")

    def commit_target(self):
        self.call("commit_target")

    def record(self, verdict):
        assert verdict == self.call("record")

    def record_held(self, verdict):
        assert verdict == self.call("record_held")


@pytest.mark.parametrize(
    ("done", "calls"),
    [
        (set(), ["stage_target", "announce", "commit_quarantine", "commit_target", "record"]),
        ({Step.QUARANTINE}, ["stage_target", "adopt_quarantine", "commit_target", "record"]),
        ({Step.TARGET}, ["adopt_target", "commit_quarantine", "record"]),
        ({Step.QUARANTINE, Step.TARGET}, ["adopt_target", "adopt_quarantine", "record"]),
        ({Step.LEDGER}, []),
        (set(Step), []),
    ],
)
def test_only_what_is_missing_is_done_and_in_this_order(done, calls):
    batch = ListBatch()
    commit_batch(batch, frozenset(done))
    assert batch.calls == calls


def test_a_run_can_die_behind_each_step(monkeypatch):
    batch, met = ListBatch(), {}
    monkeypatch.setattr(commit, "reach", lambda point: met.setdefault(point, list(batch.calls)))
    commit_batch(batch, frozenset())
    calls = ["stage_target", "announce", "commit_quarantine", "commit_target", "record"]
    points = [Point.TARGET_STAGED, Point.QUARANTINE_AFTER, Point.TARGET_AFTER, Point.LEDGER_AFTER]
    assert met == {point: calls[:count] for point, count in zip(points, (1, 3, 4, 5), strict=True)}


@given(DONE)
def test_every_write_is_done_once_in_the_order_of_the_steps_and_the_ledger_last(done):
    batch = ListBatch()
    verdict = commit_batch(batch, done)
    if Step.LEDGER in done:
        assert (verdict, batch.calls) == (None, [])
    else:
        assert verdict == batch.verdict
        assert batch.written == [step for step in Step if step not in done]
        assert batch.calls[-1] == "record"


@given(st.integers(0, 5))
def test_after_a_crash_anywhere_a_replay_does_the_rest_and_nothing_twice(crash_before):
    first = ListBatch(crash_before=crash_before)
    with suppress(CrashError):
        commit_batch(first, frozenset())
    replay = ListBatch()
    commit_batch(replay, frozenset(first.written))
    assert first.written + replay.written == list(Step)


def test_a_held_batch_writes_its_evidence_and_nothing_else():
    batch = ListBatch(held_because=("too many", "too few"))
    with pytest.raises(BatchHeldError, match="^too many; too few$"):
        commit_batch(batch, frozenset())
    assert batch.calls == ["stage_target", "discard_target", "record_held"]


@given(DONE)
def test_a_held_batch_never_commits_the_target(done):
    batch = ListBatch(held_because=("too many",))
    try:
        commit_batch(batch, done)
    except BatchHeldError:
        assert not {Step.TARGET, Step.LEDGER} & done
    assert Step.TARGET not in batch.written


@pytest.mark.fault("D8")
def test_a_batch_that_was_let_through_is_finished_even_if_rules_would_hold_it_now():
    batch = ListBatch(held_because=("too many",))
    commit_batch(batch, frozenset({Step.TARGET}))
    assert batch.calls == ["adopt_target", "commit_quarantine", "record"]


def test_every_write_of_every_batch_has_an_identity_of_its_own():
    ids = {
        (one.app_id, one.version)
        for query in ("q", "r")
        for step in Step
        for number in range(3)
        for one in [transaction(query, step, number)]
    }
    assert len(ids) == 2 * len(Step) * 3
    assert transaction("q", Step.TARGET, 7) == transaction("q", Step.TARGET, 7)
    assert transaction("q", Step.TARGET, 7).app_id == "q:target"
