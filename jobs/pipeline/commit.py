"""The batch protocol: in which order a batch is written, and why a replay of it is harmless.

Structured Streaming replays the last batch after a crash, with the same id and the same source range. Quarantine,
target and ledger are separate Delta commits, so every write has an identity of its own (`transaction`), a replay
asks which of them exist (`done`) and does only the rest. The good rows are staged first, as files that no reader
sees, by the scan that judges the batch: the verdict is known before anything is committed, whether or not a check
can hold the batch. The ledger comes last: it marks the batch whole.
"""

from enum import StrEnum
from typing import Protocol

from jobs.pipeline.delta import TransactionId
from jobs.pipeline.errors import BatchHeldError
from jobs.pipeline.failpoints import Point, reach
from jobs.pipeline.quality.verdict import Verdict


class Step(StrEnum):
    """The commits of a batch, in their order."""

    QUARANTINE = "quarantine"
    TARGET = "target"
    LEDGER = "ledger"


def transaction(query_id: str, step: Step, batch_id: int) -> TransactionId:
    """The identity of one write of one batch; `query_id` is the checkpoint's, so a new checkpoint is a new writer."""
    return TransactionId(f"{query_id}:{step}", batch_id)


class Batch(Protocol):
    """What the protocol asks of a batch."""

    def stage_target(self) -> Verdict:
        """Write the good rows where no reader sees them, and judge the batch in the same scan."""

    def announce(self) -> None:
        """Say in the ledger that the query begins to write, unless that is known; it comes before its first commit."""

    def discard_target(self) -> None:
        """Remove what was staged."""

    def adopt_target(self) -> Verdict:
        """Take over what an earlier attempt committed, and judge the batch again, by the same rules."""

    def commit_quarantine(self, verdict: Verdict) -> None:
        """Append the rows set apart."""

    def adopt_quarantine(self, verdict: Verdict) -> None:
        """Take over what an earlier attempt committed."""

    def commit_target(self) -> None:
        """Make the staged rows visible."""

    def record(self, verdict: Verdict) -> None:
        """Append the ledger row."""

    def record_held(self, verdict: Verdict) -> None:
        """Append a ledger row with the evidence of a held batch."""


def commit_batch(batch: Batch, done: frozenset[Step]) -> Verdict | None:
    """Bring one batch to its end; None if an earlier attempt had finished it.

    Raises BatchHeldError, with target and quarantine untouched, if the gate holds the batch.
    """
    if Step.LEDGER in done:
        return None
    verdict = batch.adopt_target() if Step.TARGET in done else _stage(batch)
    reach(Point.TARGET_STAGED)
    if not done:
        batch.announce()
    if Step.QUARANTINE in done:
        batch.adopt_quarantine(verdict)
    else:
        batch.commit_quarantine(verdict)
    reach(Point.QUARANTINE_AFTER)
    if Step.TARGET not in done:
        batch.commit_target()
    reach(Point.TARGET_AFTER)
    batch.record(verdict)
    reach(Point.LEDGER_AFTER)
    return verdict


def _stage(batch: Batch) -> Verdict:
    verdict = batch.stage_target()
    if verdict.held_because:
        batch.discard_target()
        batch.record_held(verdict)
        raise BatchHeldError("; ".join(verdict.held_because))
    return verdict
