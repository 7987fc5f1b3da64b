"""One micro-batch on Spark: what `commit.commit_batch` puts in order."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F
from pyspark.sql.types import StructType
from pyspark.storagelevel import StorageLevel

from jobs.pipeline.commit import Step, transaction
from jobs.pipeline.delta import Commit, SmallTable, append_frame, find_commit, newest_version
from jobs.pipeline.errors import AlreadyRunningError, ReconciliationError
from jobs.pipeline.ledger import BatchRecord, Status
from jobs.pipeline.model import Pipeline
from jobs.pipeline.quality.gate import (
    Gate,
    annotate,
    malformed_rows,
    passed,
    unfit_rows,
)
from jobs.pipeline.quality.verdict import Verdict
from jobs.pipeline.quarantine import gathered_rows, scanned_rows
from jobs.pipeline.record import MALFORMED
from jobs.pipeline.sources.text_values import Parser
from jobs.pipeline.storage import local_path
from jobs.pipeline.transforms import apply_transforms


@dataclass(frozen=True, slots=True)
class Stages:
    """A pipeline's stages, compiled once a run for the columns that its source gives."""

    pipeline: Pipeline
    parser: Parser
    gate: Gate
    target: StructType
    """Columns of the target, in the pipeline's order."""


@dataclass(frozen=True, slots=True)
class PreparedPipeline:
    """What every batch of a run has in common."""

    stages: Stages
    query_id: str
    fingerprint: str
    """Of checks, transforms and schema together."""
    quarantine: SmallTable
    ledger: SmallTable


@dataclass(frozen=True, slots=True)
class Frames:
    """A batch on its way: annotated rows behind the transforms, and what one scan observes before and after them."""

    annotated: DataFrame
    source: Observation
    gated: Observation


def build_frames(unparsed: DataFrame, stages: Stages) -> Frames:
    """Lazily parse, transform and annotate; starts no Spark job. Malformed rows never reach a transform.

    The first observation also keeps Spark from merging parser and transforms, which would parse once a column.
    """
    source, gated = Observation(), Observation()
    observed = stages.parser(unparsed).observe(source, *stages.gate.source_metrics)
    annotated = _annotate_well_formed(observed, stages)
    return Frames(annotated.observe(gated, *stages.gate.gate_metrics), source, gated)


def set_apart_rows(unparsed: DataFrame, stages: Stages, verdict: Verdict) -> DataFrame:
    """Envelopes of all rows set apart, by a scan of their own (two, if there are malformed rows as well)."""
    parsed = stages.parser(unparsed).observe(Observation(), F.count(F.lit(1)).alias("rows"))
    parts = [malformed_rows(parsed)] if verdict.malformed.count else []
    if verdict.unfit.count:
        parts.append(unfit_rows(_annotate_well_formed(parsed, stages), stages.gate))
    return reduce(DataFrame.unionByName, parts)


def _annotate_well_formed(parsed: DataFrame, stages: Stages) -> DataFrame:
    well_formed = parsed.where(F.col(MALFORMED).isNull()).drop(MALFORMED)
    return annotate(apply_transforms(well_formed, stages.pipeline), stages.gate)


def inspect_frames(frames: Frames, gate: Gate) -> Verdict:
    """Run one Spark job over the frames, writing nothing, and judge what it observed."""
    frames.annotated.write.format("noop").mode("overwrite").save()
    return gate.judge(frames.source.get, frames.gated.get)


@dataclass(slots=True)
class SparkBatch:
    """A batch of a running query; implements `commit.Batch`."""

    prepared: PreparedPipeline
    unparsed: DataFrame
    batch_id: int
    verdict_must_come_first: bool
    source_range: str
    lag: int | None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished: BatchRecord | None = None
    """The ledger's row, once it is written."""
    _target: Commit | None = None
    _quarantine: Commit | None = None
    _duration_ms: dict[str, int] = field(default_factory=dict)

    def inspect(self) -> Verdict:
        """One job over the cached batch; the cache serves the writes that follow."""
        self.unparsed = self.unparsed.persist(StorageLevel.MEMORY_AND_DISK)
        with self._timed("inspect"):
            return inspect_frames(self._frames(), self.prepared.stages.gate)

    def write_target_and_inspect(self) -> Verdict:
        """One job: the append, whose scan counts every check and gathers the rows set apart."""
        frames = self._frames()
        with self._timed("write"):
            self._target = self._append_passed(frames)
            self._refuse_skipped_write()
            return self.prepared.stages.gate.judge(frames.source.get, frames.gated.get)

    def _refuse_skipped_write(self) -> None:
        """Delta did not run a write that is there by now, so what it was to observe would never come."""
        if self._target is not None and self._target.version is None:
            raise AlreadyRunningError(f"batch {self.batch_id} was written by another run meanwhile; start again")

    def write_target(self) -> None:
        """One job over the cached batch."""
        with self._timed("write"):
            self._target = self._append_passed(self._frames())

    def adopt_target(self) -> None:
        """Find the commit of the earlier attempt in the table's log."""
        path = self.prepared.stages.pipeline.spec.sink.path
        if local_path(path) is not None:
            wanted = transaction(self.prepared.query_id, Step.TARGET, self.batch_id)
            self._target = find_commit(self.unparsed.sparkSession, path, wanted, newest_version(path))

    def write_quarantine(self, verdict: Verdict) -> None:
        """A commit without a Spark job; one more scan where the gate could not gather every row."""
        if not verdict.rows_quarantined:
            return
        wanted = transaction(self.prepared.query_id, Step.QUARANTINE, self.batch_id)
        with self._timed("quarantine"):
            if verdict.malformed.is_complete and verdict.unfit.is_complete:
                rows = gathered_rows((*verdict.malformed.rows, *verdict.unfit.rows), self._envelope())
                self._quarantine = self.prepared.quarantine.append(rows, wanted)
            else:
                bad = set_apart_rows(self.unparsed, self.prepared.stages, verdict)
                path = self.prepared.stages.pipeline.quarantine_path
                self._quarantine = append_frame(scanned_rows(bad, self._envelope()), path, wanted)

    def record(self, verdict: Verdict) -> None:
        """Reconcile with what the commits hold, then append the ledger row; ReconciliationError on a difference."""
        self._reconcile(verdict)
        record = self._ledger_row(verdict, Status.DONE, None)
        wanted = transaction(self.prepared.query_id, Step.LEDGER, self.batch_id)
        self.prepared.ledger.append([record.as_row()], wanted)
        self.finished = record

    def record_held(self, verdict: Verdict) -> None:
        """Append the evidence, once for each set of rules that held this batch."""
        record = self._ledger_row(verdict, Status.HELD, "; ".join(verdict.held_because))
        wanted = transaction(f"{self.prepared.query_id}:held:{self.prepared.fingerprint}", Step.LEDGER, self.batch_id)
        ledger = self.prepared.ledger
        last = ledger.last_version_of(wanted.app_id) if ledger.knows_transactions else None
        if last is None or last < self.batch_id:
            ledger.append([record.as_row()], wanted)
        self.finished = record

    def release(self) -> None:
        """Give back what `inspect` cached; harmless otherwise."""
        self.unparsed.unpersist()

    def _frames(self) -> Frames:
        return build_frames(self.unparsed, self.prepared.stages)

    def _append_passed(self, frames: Frames) -> Commit:
        good = passed(frames.annotated, self.prepared.stages.target.names)
        wanted = transaction(self.prepared.query_id, Step.TARGET, self.batch_id)
        return append_frame(good, self.prepared.stages.pipeline.spec.sink.path, wanted)

    def _envelope(self) -> dict[str, Any]:
        return {
            "pipeline": self.prepared.stages.pipeline.name,
            "batch_id": self.batch_id,
            "quarantined_at": self.started_at,
            "rules_fingerprint": self.prepared.fingerprint,
        }

    def _reconcile(self, verdict: Verdict) -> None:
        written = self._target.rows if self._target else None
        quarantined = self._quarantine.rows if self._quarantine else None
        differences = [
            f"{have:,} rows {where}, {want:,} expected"
            for where, have, want in (
                ("in the target's commit", written, verdict.rows_passed),
                ("in the quarantine's commit", quarantined, verdict.rows_quarantined),
            )
            if have is not None and have != want
        ]
        if differences:
            message = f"batch {self.batch_id} of {verdict.rows_read:,} rows does not add up: {'; '.join(differences)}"
            raise ReconciliationError(message)

    def _ledger_row(self, verdict: Verdict, status: Status, message: str | None) -> BatchRecord:
        finished_at = datetime.now(UTC)
        total = int((finished_at - self.started_at).total_seconds() * 1000)
        pipeline = self.prepared.stages.pipeline
        return BatchRecord(
            pipeline=pipeline.name,
            query_id=self.prepared.query_id,
            batch_id=self.batch_id,
            status=status,
            message=message,
            started_at=self.started_at,
            finished_at=finished_at,
            source_range=self.source_range,
            lag=self.lag,
            rows_written=verdict.rows_passed if status is Status.DONE else 0,
            verdict=verdict,
            rules_fingerprint=self.prepared.fingerprint,
            target_version=self._target.version if self._target else None,
            quarantine_version=self._quarantine.version if self._quarantine else None,
            duration_ms={**self._duration_ms, "total": total},
        )

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._duration_ms[what] = int((time.monotonic() - start) * 1000)
