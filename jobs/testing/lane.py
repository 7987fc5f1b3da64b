"""One pipeline under a series of kills: fed, killed, restarted, at last drained, and audited."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from jobs.testing.checker import Conservation, Tables, Violation, audit, check_schema
from jobs.testing.ids import read_ids
from jobs.testing.logs import Checkpoint
from jobs.testing.matrix import Case
from jobs.testing.nemesis import HungError, Nemesis, Outcome
from jobs.testing.producers import Producer
from jobs.testing.reader import Reader

DRAIN = "drain"


@dataclass(slots=True)
class Strike:
    """What one case did."""

    case: Case
    was_killed: bool
    batch: int
    """The newest batch that was planned when the run had died; -1 for none."""
    wall_seconds: float = 0
    cpu_seconds: float = 0
    """Of the run that was killed."""
    recovery_seconds: float | None = None
    """Of the run that followed: from its start to its first commit; None if strace slowed that run."""
    spark_seconds: float | None = None
    """The part of it until Spark was there."""
    lost: int = 0
    doubled: int = 0
    misplaced: int = 0


@dataclass(slots=True)
class Lane:
    """A pipeline, what feeds it, and what kills it."""

    name: str
    tables: Tables
    producer: Producer
    ids: Path
    """The producer's id ledger."""
    nemesis: Nemesis
    rows: int
    """Events that one batch takes."""
    places: int
    """What one batch takes as the checkpoint counts it: one file, or as many records as rows."""
    ends_by_itself: bool
    change_schema: Callable[[], None] | None = None
    """Edits the pipeline so that it gives one more column; for cases that ask for it."""
    strikes: list[Strike] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    conservation: Conservation = field(default_factory=Conservation)

    def run(self, cases: Iterable[Case], deadline: float = inf) -> None:
        """Meet every case, drain the source, audit; a reader watches the target all the while.

        No case begins behind the deadline, by time.monotonic; draining and auditing do.
        """
        with Reader(self.tables.target, self.tables.id_column) as reader:
            for case in cases:
                if time.monotonic() > deadline:
                    break
                self._meet(case)
            self._drain()
        self._audit()
        self.violations += reader.violations

    def has_caught_up(self) -> bool:
        """Whether Spark holds all that the source was given for done."""
        return Checkpoint(self.tables.checkpoint).count_finished() >= self.producer.placed

    def _meet(self, case: Case) -> None:
        if case.changes_schema:
            self._change_schema()
        self._feed(case.batches)
        outcome = self._run_once(case)
        if outcome is None:
            return
        planned = Checkpoint(self.tables.checkpoint).planned
        self.strikes.append(
            Strike(case, outcome.was_killed, max(planned, default=-1), outcome.wall_seconds, outcome.cpu_seconds)
        )
        if case.is_scripted and not outcome.was_killed:
            self._report(f"{case.name}: the run ended with {outcome.exit_code} before the kill")
        if outcome.was_killed and outcome.exit_code == 0 and case.is_scripted:
            self._report(f"{case.name}: the run was killed and ended with 0")

    def _change_schema(self) -> None:
        assert self.change_schema is not None  # noqa: S101 - who brings such cases brings it too
        self._feed(1)
        self._drain()
        self.change_schema()

    def _feed(self, batches: int) -> None:
        finished = Checkpoint(self.tables.checkpoint).count_finished()
        while self.producer.placed < finished + batches * self.places:
            self.producer.send(self.rows)

    def _run_once(self, case: Case | None) -> Outcome | None:
        ends = self.has_caught_up if case is None and not self.ends_by_itself else None
        try:
            outcome = self.nemesis.run(case.kill if case else None, ends)
        except HungError as error:
            self._report(f"{case.name if case else DRAIN}: {error}", "I9")
            return None
        is_slow = case is not None and case.kill.is_slow
        if self.strikes and self.strikes[-1].recovery_seconds is None and not is_slow:
            self.strikes[-1].recovery_seconds = outcome.recovery_seconds
            self.strikes[-1].spark_seconds = outcome.spark_seconds
        return outcome

    def _drain(self) -> None:
        outcome = self._run_once(None)
        if outcome is None or outcome.exit_code != 0 or not self.has_caught_up():
            self._report(f"{DRAIN}: the last run, not killed, ended with {outcome}", "I9")
        survivors = self.nemesis.bury_survivors()
        if survivors:
            self._report(f"{len(survivors)} processes outlived the kill of their other half", "I11")

    def _audit(self) -> None:
        ids = read_ids(self.ids)
        self.conservation, found = audit(self.tables, ids)
        self.violations += found
        changes = sum(strike.case.changes_schema for strike in self.strikes)
        if changes:
            self.violations += check_schema(self.tables.target, changes)
        checkpoint = Checkpoint(self.tables.checkpoint)
        for kind in ("lost", "doubled", "misplaced"):
            for name in getattr(self.conservation, kind):
                self._blame(kind, checkpoint.batch_of(ids[name].place))

    def _blame(self, kind: str, batch: int | None) -> None:
        """Count a broken id at the last kill that fell into its batch or one before."""
        before = [strike for strike in self.strikes if batch is not None and strike.batch <= batch] or self.strikes
        setattr(before[-1], kind, getattr(before[-1], kind) + 1)

    def _report(self, message: str, invariant: str = "kill") -> None:
        self.violations.append(Violation(invariant, message))
