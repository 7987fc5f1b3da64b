"""One micro-batch on Spark: what `commit.commit_batch` puts in order."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from jobs.pipeline.account import SourceAccount, SourceFigures
from jobs.pipeline.commit import Step, transaction
from jobs.pipeline.delta import (
    Commit,
    TransactionId,
    find_commit,
    has_version,
    last_transaction,
)
from jobs.pipeline.errors import AlreadyRunningError, ReconciliationError
from jobs.pipeline.jvm import observed
from jobs.pipeline.lease import Lease
from jobs.pipeline.ledger import BatchRecord, Status, begun_transaction, operator_row
from jobs.pipeline.quality.gate import (
    Gate,
    annotate,
    gather,
    malformed_rows,
    passed,
    unfit_rows,
)
from jobs.pipeline.quality.gathering import EXAMPLES, USUAL, Gathering
from jobs.pipeline.quality.verdict import Verdict
from jobs.pipeline.quarantine import gathered_rows, scanned_rows
from jobs.pipeline.record import MALFORMED
from jobs.pipeline.release import Release, newest_plan
from jobs.pipeline.replay_marks import refuse_restored
from jobs.pipeline.sinks import stage_rows
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.staged_append import StagedAppend, stage_append
from jobs.pipeline.stages import Stages
from jobs.pipeline.transforms import apply_transforms


@dataclass(frozen=True, slots=True)
class PreparedPipeline:
    """What every batch of a run has in common."""

    stages: Stages
    query_id: str
    fingerprint: str
    """Of checks, transforms and schema together."""
    quarantine: SmallTable
    ledger: SmallTable
    lease: Lease
    release: Release | None = None
    """The decision by which a batch that was held goes through; the stages are compiled for it."""


@dataclass(frozen=True, slots=True)
class Frames:
    """A batch on its way: annotated rows behind the transforms, and what one scan observes before and after them."""

    parsed: DataFrame
    annotated: DataFrame
    source: Observation
    gated: Observation


def build_frames(parsed: DataFrame, stages: Stages) -> Frames:
    """Lazily transform and annotate parsed rows; starts no Spark job. Malformed rows never reach a transform.

    The first observation also keeps Spark from merging parser and transforms, which would parse once a column.
    """
    gate, source, gated = stages.gate, Observation(), Observation()
    observed = parsed.observe(source, *gate.source_counts, *gate.source_gathered)
    annotated = annotate_well_formed(observed, stages)
    return Frames(parsed, annotated.observe(gated, *gate.gate_counts, *gate.gate_gathered), source, gated)


def set_apart_rows(parsed: DataFrame, stages: Stages, verdict: Verdict) -> DataFrame:
    """Envelopes of all rows set apart, by a scan of their own (two, if there are malformed rows as well)."""
    parsed = parsed.observe(Observation(), F.count(F.lit(1)).alias("rows"))
    parts = [malformed_rows(parsed)] if verdict.malformed.count else []
    if verdict.unfit.count:
        parts.append(unfit_rows(annotate_well_formed(parsed, stages), stages.gate))
    return reduce(DataFrame.unionByName, parts)


def annotate_well_formed(parsed: DataFrame, stages: Stages) -> DataFrame:
    """Lazily transform and annotate parsed rows, malformed ones left out."""
    return annotate(transform_well_formed(parsed, stages), stages.gate)


def transform_well_formed(parsed: DataFrame, stages: Stages) -> DataFrame:
    """Lazily transform parsed rows, malformed ones left out."""
    well_formed = parsed.where(F.col(MALFORMED).isNull()).drop(MALFORMED)
    return apply_transforms(well_formed, stages.pipeline, stages.batch_time)


def inspect_frames(frames: Frames, gate: Gate) -> Verdict:
    """Run one Spark job over the frames, writing nothing, and judge what it observed."""
    _run(frames.annotated)
    return judge_frames(frames, gate)


def judge_frames(frames: Frames, gate: Gate) -> Verdict:
    """Judge what was observed on frames that have run.

    Where Spark knew that transforms give no row (a filter that never holds, a join without a left side), it has run
    them without the scan: one more job observes the parsed rows, for malformed ones are rows of the batch, too.
    """
    source = observed(frames.source) or _observe_alone(frames.parsed, gate)
    return gate.judge(source, observed(frames.gated) or Counter())


def _observe_alone(parsed: DataFrame, gate: Gate) -> dict[str, Any]:
    source = Observation()
    _run(parsed.observe(source, *gate.source_counts, *gate.source_gathered))
    return observed(source) or Counter()


def _run(df: DataFrame) -> None:
    df.write.format("noop").mode("overwrite").save()


@dataclass(slots=True)
class SparkBatch:
    """A batch of a running query; implements `commit.Batch`."""

    prepared: PreparedPipeline
    unparsed: DataFrame
    batch_id: int
    source_range: str
    lag: int | None
    account: SourceAccount | None = None
    """What the source says of the batch; None for rows that are not the source's any more."""
    is_first: bool = True
    """Of its run: only then can another run, which lost its lease, have committed this very batch meanwhile."""
    gathering: Gathering = USUAL
    """What the scan brings to the driver. What is written is the same; with EXAMPLES a second scan is likely, and the
    parsed rows are kept for it."""
    target_version: int | None = None
    """Of the target, after the run's batch before or at its start; None if there was none."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished: BatchRecord | None = None
    """The ledger's row, once it is written."""
    _figures: SourceFigures = field(default_factory=SourceFigures)
    _parsed: DataFrame | None = None
    _staged: StagedAppend | None = None
    _target: Commit | None = None
    _quarantine: Commit | None = None
    _duration_ms: dict[str, int] = field(default_factory=dict)

    @property
    def has_committed(self) -> bool:
        """Whether this attempt has found or made a commit; what the batch comes to is then settled."""
        return self._target is not None or self._quarantine is not None

    def stage_target(self) -> Verdict:
        """One job: it writes the good rows, and its scan counts every check and gathers the rows set apart."""
        stages = self._stages()
        frames = build_frames(self._parse(), stages)
        good = passed(frames.annotated, stages.target.names)
        with self._timed("write"):
            self._staged = stage_rows(good, stages.pipeline.spec.sink, self._transaction(Step.TARGET))
            verdict = judge_frames(frames, stages.gate)
        if self.is_first:
            self._refuse_if_committed_meanwhile()
        self._settle(verdict)
        self._reconcile("staged for the target", self._staged, verdict.rows_passed)
        return verdict

    def _stages(self) -> Stages:
        stages = self.prepared.stages
        return stages if self.gathering == USUAL else replace(stages, gate=gather(stages.gate, self.gathering))

    def _parse(self) -> DataFrame:
        if self._parsed is None:
            parsed = self.prepared.stages.parser(self.unparsed)
            self._parsed = parsed.persist() if self.gathering == EXAMPLES else parsed
        return self._parsed

    def forget_parsed(self) -> None:
        """Give back what was kept for a second scan, in memory and on disk; idempotent."""
        if self._parsed is not None and self.gathering == EXAMPLES:
            self._parsed.unpersist()
        self._parsed = None

    def _refuse_if_committed_meanwhile(self) -> None:
        """Delta refuses to commit against what came after the staging began; what came just before it looks over."""
        wanted = self._transaction(Step.TARGET)
        path = self.prepared.stages.pipeline.spec.sink.path
        found = last_transaction(self.unparsed.sparkSession, path, wanted.app_id)
        if found is not None and found >= wanted.version:
            message = f"batch {self.batch_id} was committed by another run meanwhile; start again"
            raise AlreadyRunningError(message)

    def discard_target(self) -> None:
        """Remove the staged files of a held batch."""
        if self._staged:
            self._staged.discard()

    def adopt_target(self) -> Verdict:
        """One job over the batch, writing nothing; the commit of the earlier attempt is looked up in the log."""
        stages = self._stages()
        with self._timed("inspect"):
            verdict = inspect_frames(build_frames(self._parse(), stages), stages.gate)
        self._settle(verdict)
        self._target = self._find(stages.pipeline.spec.sink.path, Step.TARGET)
        self._reconcile("in the target", self._target, verdict.rows_passed)
        return verdict

    def announce(self) -> None:
        """A ledger row before a query's first commit; without it a checkpoint lost behind that would not be missed."""
        begun = begun_transaction(self.prepared.query_id)
        known = (begun, self._transaction(Step.LEDGER)) if self.is_first else ()
        if known and all(self.prepared.ledger.last_version_of(one.app_id) is None for one in known):
            pipeline, now = self.prepared.stages.pipeline, datetime.now(UTC)
            row = operator_row(pipeline.name, Status.BEGUN, "its first commit follows", now)
            self.prepared.ledger.append([row | {"query_id": self.prepared.query_id}], begun, self.prepared.lease)

    def commit_quarantine(self, verdict: Verdict) -> None:
        """A commit without a Spark job; one more scan where the gate could not gather every row."""
        if not verdict.rows_quarantined:
            return
        wanted = self._transaction(Step.QUARANTINE)
        with self._timed("quarantine"):
            if verdict.is_gathered:
                rows = gathered_rows((*verdict.malformed.rows, *verdict.unfit.rows), self._envelope())
                self._quarantine = self.prepared.quarantine.append(rows, wanted, self.prepared.lease)
            else:
                bad = set_apart_rows(self._parse(), self.prepared.stages, verdict)
                path = self.prepared.stages.pipeline.quarantine_path
                staged = stage_append(scanned_rows(bad, self._envelope()), path, wanted)
                self._reconcile("staged for the quarantine", staged, verdict.rows_quarantined)
                self.prepared.lease.check()
                self._quarantine = staged.commit()

    def adopt_quarantine(self, verdict: Verdict) -> None:
        """The commit of the earlier attempt is looked up in the log."""
        self._quarantine = self._find(self.prepared.stages.pipeline.quarantine_path, Step.QUARANTINE)
        self._reconcile("in the quarantine", self._quarantine, verdict.rows_quarantined)

    def commit_target(self) -> None:
        """Make the staged rows visible; starts no Spark job."""
        assert self._staged is not None  # noqa: S101 - commit_batch stages first
        with self._timed("commit"):
            self.prepared.lease.check()
            self._refuse_restored()
            self._target = self._staged.commit()

    def _refuse_restored(self) -> None:
        pipeline, spark, known = self.prepared.stages.pipeline, self.unparsed.sparkSession, self.target_version
        if known is not None and has_version(spark, pipeline.spec.sink.path, known + 1):
            refuse_restored(spark, pipeline, self.prepared.query_id)

    def record(self, verdict: Verdict) -> None:
        """Append the ledger row."""
        release = self.prepared.release
        record = self._ledger_row(verdict, Status.DONE, release.message if release else None)
        self.prepared.ledger.append([record.as_row()], self._transaction(Step.LEDGER), self.prepared.lease)
        self.finished = record

    def record_held(self, verdict: Verdict) -> None:
        """Append the evidence, once for each set of rules that held this batch."""
        record = self._ledger_row(verdict, Status.HELD, "; ".join(verdict.held_because))
        # A batch whose plan was forgotten is another by the time that it is held again.
        plan = newest_plan(self.prepared.ledger, self.prepared.query_id)
        rules = f"{self.prepared.query_id}:held:{plan}:{self.prepared.fingerprint}"
        wanted = transaction(rules, Step.LEDGER, self.batch_id)
        last = self.prepared.ledger.last_version_of(wanted.app_id)
        if last is None or last < self.batch_id:
            self.prepared.ledger.append([record.as_row()], wanted, self.prepared.lease)
        self.finished = record

    def _transaction(self, step: Step) -> TransactionId:
        return transaction(self.prepared.query_id, step, self.batch_id)

    def _find(self, path: str, step: Step) -> Commit | None:
        return find_commit(self.unparsed.sparkSession, path, self._transaction(step))

    def _reconcile(self, where: str, have: StagedAppend | Commit | None, want: int) -> None:
        """Raises ReconciliationError where files hold another number of rows than the verdict says."""
        if have and have.rows is not None and have.rows != want:
            message = f"batch {self.batch_id} does not add up: {have.rows:,} rows {where}, {want:,} expected"
            raise ReconciliationError(message)

    def _settle(self, verdict: Verdict) -> None:
        """Raises ReconciliationError where the source has another number of rows than were read."""
        if self.account:
            self._figures = self.account.settle(verdict.rows_read)

    def _envelope(self) -> dict[str, Any]:
        return {
            "pipeline": self.prepared.stages.pipeline.live_name,
            "batch_id": self.batch_id,
            "quarantined_at": self.prepared.stages.batch_time,
            "rules_fingerprint": self.prepared.fingerprint,
        }

    def _ledger_row(self, verdict: Verdict, status: Status, message: str | None) -> BatchRecord:
        finished_at = datetime.now(UTC)
        total = int((finished_at - self.started_at).total_seconds() * 1000)
        pipeline, release = self.prepared.stages.pipeline, self.prepared.release
        return BatchRecord(
            pipeline=pipeline.name,
            query_id=self.prepared.query_id,
            batch_id=self.batch_id,
            status=status,
            message=message,
            decision=release.decision if release else None,
            started_at=self.started_at,
            finished_at=finished_at,
            source_range=self.source_range,
            source_figures=self._figures,
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
