"""The batch protocol: in which order a batch is written, and why a replay of it is harmless.

Structured Streaming replays the last batch after a crash, with the same id and the same source range. Target,
quarantine and ledger are separate Delta commits, so every write has an identity of its own (`transaction`), a
replay asks which of them exist (`done`) and does only the rest. The ledger comes last: it marks the batch whole.
"""

from enum import StrEnum
from typing import Protocol

from jobs.pipeline.delta import TransactionId
from jobs.pipeline.errors import BatchHeldError
from jobs.pipeline.failpoints import Point, reach
from jobs.pipeline.quality.verdict import Verdict


class Step(StrEnum):
    """The writes of a batch, in their order."""

    TARGET = "target"
    QUARANTINE = "quarantine"
    LEDGER = "ledger"


def transaction(query_id: str, step: Step, batch_id: int) -> TransactionId:
    """The identity of one write of one batch; `query_id` is the checkpoint's, so a new checkpoint is a new writer."""
    return TransactionId(f"{query_id}:{step}", batch_id)


class Batch(Protocol):
    """What the protocol asks of a batch."""

    verdict_must_come_first: bool

    def inspect(self) -> Verdict:
        """Read the batch once and judge it; writes nothing."""

    def write_target_and_inspect(self) -> Verdict:
        """Append the good rows and judge the batch in the same scan."""

    def write_target(self) -> None:
        """Append the good rows of an inspected batch."""

    def adopt_target(self) -> None:
        """Take over what an earlier attempt appended."""

    def write_quarantine(self, verdict: Verdict) -> None:
        """Append the rows set apart."""

    def record(self, verdict: Verdict) -> None:
        """Reconcile the counts and append the ledger row."""

    def record_held(self, verdict: Verdict) -> None:
        """Append a ledger row with the evidence of a held batch."""


def commit_batch(batch: Batch, done: frozenset[Step]) -> Verdict | None:
    """Bring one batch to its end; None if an earlier attempt had finished it.

    Raises BatchHeldError, with the target untouched, if the gate holds the batch.
    """
    if Step.LEDGER in done:
        return None
    reach(Point.TARGET_BEFORE)
    verdict = _write_target(batch, done)
    reach(Point.TARGET_AFTER)
    if Step.QUARANTINE not in done:
        batch.write_quarantine(verdict)
    reach(Point.QUARANTINE_AFTER)
    batch.record(verdict)
    reach(Point.LEDGER_AFTER)
    return verdict


def _write_target(batch: Batch, done: frozenset[Step]) -> Verdict:
    if Step.TARGET in done:
        verdict = batch.inspect()
        batch.adopt_target()
        return verdict
    if not batch.verdict_must_come_first:
        return batch.write_target_and_inspect()
    verdict = batch.inspect()
    if verdict.held_because:
        batch.record_held(verdict)
        raise BatchHeldError("; ".join(verdict.held_because))
    batch.write_target()
    return verdict
