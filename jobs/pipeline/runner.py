"""Runs a pipeline: wires the stages in their order, and holds that order and nothing else."""

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from jobs.pipeline import ledger, quarantine
from jobs.pipeline.batch import PreparedPipeline, SparkBatch
from jobs.pipeline.checkpoint import (
    find_unfinished_batch,
    read_batch_files,
    read_query_id,
    read_seen_files,
    read_source_range,
)
from jobs.pipeline.commit import Step, commit_batch, transaction
from jobs.pipeline.delta import SmallTable, last_transaction
from jobs.pipeline.errors import (
    AlreadyRunningError,
    EsclusaError,
    StateMismatchError,
    TransformChangedError,
    UnavailableError,
    root_cause,
)
from jobs.pipeline.failpoints import Point, reach
from jobs.pipeline.isolation import isolate_corrupt_files, isolate_failing_rows
from jobs.pipeline.lease import Lease, hold_lease
from jobs.pipeline.ledger import BatchRecord, read_ledger_anywhere
from jobs.pipeline.manifest import Manifest, read_manifest, write_manifest
from jobs.pipeline.model import FilesSource, Pipeline
from jobs.pipeline.preflight import check_replay, check_start, remember_start
from jobs.pipeline.quality.gate import drop_all
from jobs.pipeline.release import Decision, apply_release, find_release, release_transaction
from jobs.pipeline.sinks import ensure_target
from jobs.pipeline.sources.file_faults import SkippedFile, find_skipped, has_glob_signs, require_files
from jobs.pipeline.sources.source import count_files, open_files, open_stream
from jobs.pipeline.stages import compile_stages, fingerprint

POLL_SECONDS = 1
_BUSY = (
    "CONCURRENT_STREAM_LOG_UPDATE",
    "CONCURRENT_QUERY",
    "ConcurrentTransactionException",
    "Concurrent transaction failed",
)
_STATE = (
    "HEADER_DIFFERS",
    "FAILED_READ_FILE",
    "STREAMING_CHECKPOINT_MISSING_METADATA_FILE",
    "KAFKA_DATA_LOSS",
    "DIFFERENT_DELTA_TABLE",
)
_UNAVAILABLE = ("TimeoutException", "DisconnectException", "Connection refused")

Report = Callable[[BatchRecord], None]


class StopRequestedError(Exception):
    """Raised inside the next batch when the run has been asked to stop; nothing of that batch is written."""


@dataclass(slots=True)
class PipelineRun:
    """One run of one pipeline: `start`, then `wait`; `request_stop` ends it after the batch in flight."""

    spark: SparkSession
    pipeline: Pipeline
    report: Report
    query: StreamingQuery | None = None
    skipped: list[SkippedFile] = field(default_factory=list)
    """Landed files that this run does not read; known once it has started."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _in_flight: threading.Lock = field(default_factory=threading.Lock)
    _failure: BaseException | None = None
    _held: ExitStack = field(default_factory=ExitStack)
    _prepared: PreparedPipeline | None = None
    _last_batch: int = -1
    _keeps_parsed: bool = False
    """Whether the batch before set more rows apart than the driver takes: then the next one will, as a rule."""
    _newest_written: int = -1
    """The newest batch that an earlier run may have committed something of."""
    _files_at_start: int | None = None
    _files_seen: int | None = None

    def start(self) -> None:
        """Take the lease, prepare, start the query; raises what is wrong before the first batch."""
        try:
            self._start(self._held.enter_context(hold_lease(self.spark, self.pipeline.name, self.pipeline.lease_path)))
        except BaseException as error:
            self._held.close()
            raise classify(error) from error

    def _start(self, lease: Lease) -> None:
        unparsed = open_stream(self.spark, self.pipeline)
        found = check_start(self.spark, self.pipeline)
        self._newest_written = found.newest_written
        self._prepared = prepare(self.spark, unparsed, self.pipeline, lease)
        remember_start(self.spark, self.pipeline, found)
        writer = unparsed.writeStream.queryName(self.pipeline.name).option(
            "checkpointLocation", self.pipeline.checkpoint
        )
        self._look_at_landed_files()
        trigger = self.pipeline.spec.trigger
        if trigger.available_now:
            self._files_at_start = count_files(self.spark, self.pipeline)
            writer = writer.trigger(availableNow=True)
        else:
            writer = writer.trigger(processingTime=str(trigger.processing_time))
        self.query = writer.foreachBatch(self._run_batch).start()

    def _look_at_landed_files(self) -> None:
        source, checkpoint = self.pipeline.spec.source, self.pipeline.checkpoint
        if not isinstance(source, FilesSource):
            return
        unfinished = find_unfinished_batch(self.spark, checkpoint)
        if unfinished is not None:
            require_files(self.spark, read_batch_files(self.spark, checkpoint, unfinished), unfinished)
        self.skipped = find_skipped(source, read_seen_files(self.spark, checkpoint))

    def wait(self) -> None:
        """Wait until the query has ended; raises the failure that ended it, as an EsclusaError where it is known."""
        try:
            self._wait()
        finally:
            self._held.close()

    def _wait(self) -> None:
        assert self.query is not None  # noqa: S101 - wait follows start
        try:
            while not self.query.awaitTermination(POLL_SECONDS):
                if self._stop.is_set():
                    self._stop_when_idle(self.query)
        except StreamingQueryException as error:
            if isinstance(self._failure, StopRequestedError):
                return
            raise classify(self._failure or error) from error

    def request_stop(self) -> None:
        """Ask the run to end after the batch in flight; returns at once."""
        self._stop.set()

    def _stop_when_idle(self, query: StreamingQuery) -> None:
        """Stop once the last batch's own commit is in the checkpoint; a batch that starts meanwhile refuses itself."""
        with self._in_flight:
            progress = query.lastProgress
        if self._last_batch < 0 or (progress is not None and progress["batchId"] >= self._last_batch):
            query.stop()

    def _run_batch(self, unparsed: DataFrame, batch_id: int) -> None:
        with self._in_flight:
            try:
                self._refuse_after_stop()
                reach(Point.BATCH_ENTERED)
                self._commit(unparsed, batch_id)
                reach(Point.BATCH_LEFT)
            except BaseException as error:
                self._failure = error
                raise

    def _refuse_after_stop(self) -> None:
        if self._stop.is_set():
            raise StopRequestedError

    def _commit(self, unparsed: DataFrame, batch_id: int) -> None:
        prepared, done = self._pin(self._with_query_id(unparsed.sparkSession), unparsed, batch_id)
        reach(Point.BATCH_PINNED)
        source_range = read_source_range(unparsed.sparkSession, self.pipeline.checkpoint, batch_id)
        if Step.LEDGER in done:
            check_replay(unparsed.sparkSession, self.pipeline, prepared.query_id, batch_id, source_range)
        unparsed = self._with_names_taken_literally(unparsed, batch_id)
        batch = SparkBatch(
            prepared,
            unparsed,
            batch_id,
            source_range=source_range,
            lag=self._lag(source_range),
            is_first=self._last_batch < 0,
            keeps_parsed=self._keeps_parsed,
        )
        record = _commit_without_poison(batch, done, self.report)
        self._keeps_parsed = record is not None and not record.verdict.is_gathered
        self._last_batch = batch_id

    def _pin(
        self, prepared: PreparedPipeline, unparsed: DataFrame, batch_id: int
    ) -> tuple[PreparedPipeline, frozenset[Step]]:
        """What the batch is judged and written by, and which of its commits are there: after a crash of one batch,
        of several where an older checkpoint was restored.
        """
        if self._last_batch < 0 or batch_id <= self._newest_written:
            replayed, done = resume(prepared, unparsed, batch_id)
            if done:
                return with_release(replayed, unparsed, batch_id), done
            return with_release(pin(prepared, unparsed.sparkSession, batch_id), unparsed, batch_id), frozenset()
        return pin(prepared, unparsed.sparkSession, batch_id), frozenset()

    def _with_names_taken_literally(self, unparsed: DataFrame, batch_id: int) -> DataFrame:
        if not isinstance(self.pipeline.spec.source, FilesSource):
            return unparsed
        files = read_batch_files(unparsed.sparkSession, self.pipeline.checkpoint, batch_id)
        if not has_glob_signs(files):
            return unparsed
        return open_files(unparsed.sparkSession, self.pipeline, [file.plain_path for file in files])

    def _with_query_id(self, spark: SparkSession) -> PreparedPipeline:
        assert self._prepared is not None  # noqa: S101 - batches follow start
        if not self._prepared.query_id:
            query_id = read_query_id(spark, self.pipeline.checkpoint)
            if query_id is None:
                message = f"the checkpoint {self.pipeline.checkpoint} has no metadata file; restore it"
                raise StateMismatchError(message)
            self._prepared = replace(self._prepared, query_id=query_id)
        return self._prepared

    def _lag(self, source_range: str) -> int | None:
        if self._files_at_start is not None:
            return self._files_left(self._files_at_start, source_range)
        progress = self.query.lastProgress if self.query else None
        return lag_of(dict(progress)) if progress else None

    def _files_left(self, listed: int, source_range: str) -> int:
        """The first batch counts what the checkpoint has seen, itself included; later ones add their own files."""
        if self._files_seen is None:
            self._files_seen = len(read_seen_files(self.spark, self.pipeline.checkpoint))
        else:
            self._files_seen += json.loads(source_range)["files"] or 0
        return max(0, listed - self._files_seen)


def prepare(spark: SparkSession, unparsed: DataFrame, pipeline: Pipeline, lease: Lease) -> PreparedPipeline:
    """Compile the stages, and create the tables or compare them with what the pipeline produces."""
    stages = compile_stages(spark, unparsed, pipeline)
    ensure_target(spark, pipeline, stages.target)
    reach(Point.TARGET_CREATED)
    return PreparedPipeline(stages, "", fingerprint(pipeline), *open_tables(spark, pipeline), lease)


def pin(prepared: PreparedPipeline, spark: SparkSession, batch_id: int) -> PreparedPipeline:
    """Write the manifest of a batch of which nothing is committed, by today's conf and today's clock."""
    pipeline = prepared.stages.pipeline
    manifest = Manifest(
        batch_id=batch_id, batch_time=datetime.now(UTC), fingerprint=prepared.fingerprint, pipeline=pipeline
    )
    write_manifest(spark, pipeline.checkpoint, manifest)
    return _at(prepared, manifest.batch_time)


def resume(prepared: PreparedPipeline, unparsed: DataFrame, batch_id: int) -> tuple[PreparedPipeline, frozenset[Step]]:
    """Stages and tables by which an earlier attempt at this batch committed something, and what it committed.

    An attempt that committed nothing binds nobody: conf may have been mended since. Raises StateMismatchError if the
    code of a transform that decided about committed rows is not there any more.
    """
    spark = unparsed.sparkSession
    manifest = read_manifest(spark, prepared.stages.pipeline.checkpoint, batch_id)
    if manifest is None:
        return prepared, steps_done(spark, prepared, batch_id)
    pinned = prepared
    if manifest.pipeline != prepared.stages.pipeline:
        own = prepare(spark, unparsed, manifest.pipeline, prepared.lease)
        pinned = replace(own, query_id=prepared.query_id)
    done = steps_done(spark, pinned, batch_id)
    if done and pinned.fingerprint != manifest.fingerprint:
        message = (
            f"batch {batch_id} is committed in part ({', '.join(sorted(done))}), and the code of its Python transforms "
            "has changed since. Put the earlier code back for one run; the change then starts with the next batch"
        )
        raise TransformChangedError(message)
    return _at(pinned, manifest.batch_time), done


def _at(prepared: PreparedPipeline, batch_time: datetime) -> PreparedPipeline:
    return replace(prepared, stages=replace(prepared.stages, batch_time=batch_time))


def with_release(prepared: PreparedPipeline, unparsed: DataFrame, batch_id: int) -> PreparedPipeline:
    """For a batch that was held, with stages as a person decided; a run's first batch is the only one that can be."""
    wanted = release_transaction(prepared.query_id, batch_id)
    if prepared.ledger.last_version_of(wanted.app_id) != batch_id:
        return prepared
    spark, pipeline = unparsed.sparkSession, prepared.stages.pipeline
    release = find_release(read_ledger_anywhere(spark, pipeline.ledger_path), prepared.query_id, batch_id)
    stages = compile_stages(spark, unparsed, apply_release(pipeline, release))
    if release.decision is Decision.DROP:
        stages = replace(stages, gate=drop_all(stages.gate))
    stages = replace(stages, batch_time=prepared.stages.batch_time)
    return replace(prepared, stages=stages, release=release)


def _commit_without_poison(batch: SparkBatch, done: frozenset[Step], report: Report) -> BatchRecord | None:
    """Commit a batch; what makes it fail is looked for, once of each kind, and set apart, and the batch tried again.

    Returns the ledger's row; None if an earlier run had finished the batch.
    """
    remedies = [isolate_corrupt_files, isolate_failing_rows]
    while True:
        try:
            _commit_and_report(batch, done, report)
        except Exception as error:
            mended = None
            while mended is None and remedies and not batch.has_committed:
                mended = remedies.pop(0)(batch, error)
            if mended is None:
                raise
            batch = mended
        else:
            return batch.finished


def _commit_and_report(batch: SparkBatch, done: frozenset[Step], report: Report) -> None:
    try:
        commit_batch(batch, done)
    finally:
        batch.forget_parsed()
        if batch.finished:
            report(batch.finished)


def lag_of(progress: dict[str, Any]) -> int | None:
    """Records that the topics held beyond the batch of a query progress; None if it does not say."""
    behind = [_kafka_lag(source) for source in progress.get("sources", [])]
    known = [lag for lag in behind if lag is not None]
    return sum(known) if known else None


def _kafka_lag(source: dict[str, Any]) -> int | None:
    latest, end = _as_offsets(source.get("latestOffset")), _as_offsets(source.get("endOffset"))
    if latest is None or end is None:
        return None
    return sum(
        max(0, offset - end.get(topic, {}).get(partition, 0))
        for topic, partitions in latest.items()
        for partition, offset in partitions.items()
    )


def _as_offsets(value: Any) -> dict[str, dict[str, int]] | None:
    parsed = json.loads(value) if isinstance(value, str) and value.startswith("{") else value
    return parsed if isinstance(parsed, dict) and all(isinstance(item, dict) for item in parsed.values()) else None


def steps_done(spark: SparkSession, prepared: PreparedPipeline, batch_id: int) -> frozenset[Step]:
    """Which writes of this batch an earlier attempt made; asked for batches that can be replays only."""
    versions = {
        Step.TARGET: last_transaction(spark, prepared.stages.pipeline.spec.sink.path, _app_id(prepared, Step.TARGET)),
        Step.QUARANTINE: prepared.quarantine.last_version_of(_app_id(prepared, Step.QUARANTINE)),
        Step.LEDGER: prepared.ledger.last_version_of(_app_id(prepared, Step.LEDGER)),
    }
    return frozenset(step for step, version in versions.items() if version is not None and version >= batch_id)


def _app_id(prepared: PreparedPipeline, step: Step) -> str:
    return transaction(prepared.query_id, step, 0).app_id


def open_tables(spark: SparkSession, pipeline: Pipeline) -> tuple[SmallTable, SmallTable]:
    """Quarantine and ledger, created if they are not there."""
    tables = (
        SmallTable(spark, pipeline.quarantine_path, quarantine.SCHEMA),
        SmallTable(spark, pipeline.ledger_path, ledger.SCHEMA),
    )
    for table in tables:
        table.create()
        reach(Point.TABLE_CREATED)
    return tables


def classify(error: BaseException) -> BaseException:
    """A failure of Spark -> the error whose exit code tells an operator what to do; others stay what they are."""
    if isinstance(error, EsclusaError) or not isinstance(error, Exception):
        return error
    text = str(error)
    for markers, kind in ((_BUSY, AlreadyRunningError), (_STATE, StateMismatchError), (_UNAVAILABLE, UnavailableError)):
        if any(marker in text for marker in markers):
            return kind(root_cause(error))
    return EsclusaError(root_cause(error))
