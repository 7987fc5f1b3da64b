"""The order of writes as a state machine: runs that crash anywhere, again and again, over tables that only know Delta's
transactions. ESCLUSA_SCHEDULES sets how many schedules are tried (make schedules: 100,000).
"""

import os
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jobs.pipeline.commit import Step, commit_batch, transaction
from jobs.pipeline.errors import BatchHeldError
from jobs.pipeline.quality.verdict import SetApart, Verdict

QUERY = "q"


class CrashError(Exception):
    """The process ends here."""


@dataclass
class Fuse:
    """Burns at each instant at which a process can die; None burns for ever."""

    length: int | None

    def burn(self):
        if self.length is not None:
            self.length -= 1
            if self.length < 0:
                raise CrashError


@dataclass
class Disk:
    """What outlives a crash: for each table the batches appended, and Spark's own commits."""

    tables: dict[Step, list[int]] = field(default_factory=lambda: {step: [] for step in Step})
    transactions: dict[str, int] = field(default_factory=dict)
    committed: int = -1
    held: set[int] = field(default_factory=set)
    is_announced: bool = False

    def append(self, step, number, fuse):
        identity = transaction(QUERY, step, number)
        fuse.burn()
        if self.transactions.get(identity.app_id, -1) < identity.version:
            self.transactions[identity.app_id] = identity.version
            self.tables[step].append(number)
        fuse.burn()

    def done(self, number):
        return frozenset(
            step for step in Step if self.transactions.get(transaction(QUERY, step, number).app_id, -1) >= number
        )


@dataclass
class DiskBatch:
    """A batch over a disk. A write of rows is refused unless the protocol has the verdict that they came from."""

    disk: Disk
    number: int
    has_bad_rows: bool
    fuse: Fuse
    is_staged: bool = False

    @property
    def verdict(self):
        held = ("held",) if self.number in self.disk.held else ()
        return Verdict(1, SetApart(int(self.has_bad_rows), ()), 1, SetApart(0, ()), 0, (), held)

    def stage_target(self):
        assert Step.TARGET not in self.disk.done(self.number), "the rows are there"
        self.fuse.burn()
        self.is_staged = True
        return self.verdict

    def announce(self):
        assert not self.disk.done(self.number), "it would come too late"
        self.fuse.burn()
        self.disk.is_announced = True

    def discard_target(self):
        assert self.is_staged
        self.is_staged = False
        self.fuse.burn()

    def adopt_target(self):
        assert Step.TARGET in self.disk.done(self.number)
        self.fuse.burn()
        return self.verdict

    def commit_quarantine(self, verdict):
        assert Step.QUARANTINE not in self.disk.done(self.number), "delta-rs would refuse it"
        if verdict.rows_quarantined:
            self.disk.append(Step.QUARANTINE, self.number, self.fuse)

    def adopt_quarantine(self, verdict):
        assert Step.QUARANTINE in self.disk.done(self.number)
        assert verdict == self.verdict
        self.fuse.burn()

    def commit_target(self):
        assert self.is_staged
        assert self.number not in self.disk.held
        self.disk.append(Step.TARGET, self.number, self.fuse)

    def record(self, verdict):
        assert Step.LEDGER not in self.disk.done(self.number), "delta-rs would refuse it"
        assert verdict == self.verdict
        self.disk.append(Step.LEDGER, self.number, self.fuse)

    def record_held(self, verdict):
        assert verdict.held_because
        self.fuse.burn()


class Schedule(RuleBasedStateMachine):
    """Batches of a query, run by processes that crash, in any order of crashes, holds and releases."""

    @initialize(bad=st.lists(st.booleans(), min_size=1, max_size=4), can_hold=st.booleans())
    def plan(self, bad, can_hold):
        self.disk, self.bad, self.can_hold = Disk(), bad, can_hold

    @rule(length=st.integers(0, 12))
    def run_and_crash(self, length):
        self.run(Fuse(length))

    @rule(number=st.integers(0, 3))
    def hold(self, number):
        """Rules change only for a batch of which nothing is committed: its manifest pins them."""
        if self.can_hold and not self.disk.done(number):
            self.disk.held.add(number)

    @rule()
    def release(self):
        self.disk.held.clear()

    @invariant()
    def nothing_is_doubled_and_the_ledger_comes_last(self):
        for step, numbers in self.disk.tables.items():
            assert numbers == sorted(set(numbers)), step
        quarantine, target, ledger = (set(self.disk.tables[step]) for step in Step)
        assert self.disk.is_announced or not quarantine | target
        assert {number for number in target if self.bad[number]} <= quarantine
        assert ledger <= target
        assert {number for number in ledger if self.bad[number]} <= quarantine
        assert self.disk.committed < 0 or self.disk.committed in ledger

    def teardown(self):
        if hasattr(self, "disk"):
            self.disk.held.clear()
            self.run(Fuse(None))
            everything = list(range(len(self.bad)))
            with_bad_rows = [number for number in everything if self.bad[number]]
            assert self.disk.tables == {
                Step.TARGET: everything,
                Step.QUARANTINE: with_bad_rows,
                Step.LEDGER: everything,
            }

    def run(self, fuse):
        """One process: from the first batch that Spark has not committed on; only that one can be a replay."""
        first = self.disk.committed + 1
        try:
            for number in range(first, len(self.bad)):
                batch = DiskBatch(self.disk, number, self.bad[number], fuse)
                commit_batch(batch, self.disk.done(number) if number == first else frozenset())
                fuse.burn()
                self.disk.committed = number
        except (CrashError, BatchHeldError):
            pass


TestSchedule = Schedule.TestCase
TestSchedule.settings = settings(
    max_examples=int(os.environ.get("ESCLUSA_SCHEDULES", "2000")),
    stateful_step_count=12,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
