"""Runs a pipeline: wires the stages in their order, and holds that order and nothing else."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from jobs.pipeline.account import open_account
from jobs.pipeline.attempts import pin_or_resume
from jobs.pipeline.batch import PreparedPipeline, SparkBatch
from jobs.pipeline.checkpoint import (
    CheckpointState,
    read_batch_files,
    read_query_id,
    read_seen_files,
    read_source_range,
    read_state,
)
from jobs.pipeline.commit import Step, commit_batch
from jobs.pipeline.errors import StateMismatchError
from jobs.pipeline.failpoints import Point, reach
from jobs.pipeline.failures import classify, is_data_loss
from jobs.pipeline.gap import check_gap, read_accepted
from jobs.pipeline.isolation import isolate_corrupt_files, isolate_failing_rows
from jobs.pipeline.lag import Lag
from jobs.pipeline.lease import Lease, hold_lease
from jobs.pipeline.ledger import BatchRecord
from jobs.pipeline.model import Pipeline
from jobs.pipeline.offsets import OffsetRange
from jobs.pipeline.preflight import check_replay, check_start, refuse_two_places, remember_start
from jobs.pipeline.prepare import prepare
from jobs.pipeline.quality.gathering import USUAL, Gathering, gathering_after
from jobs.pipeline.source_model import FilesSource
from jobs.pipeline.sources.file_faults import SkippedFile, find_skipped, require_files
from jobs.pipeline.sources.source import is_misread, open_files, open_ranges, open_stream
from jobs.pipeline.table_watch import watch_tables
from jobs.pipeline.tables import newest_attempted

POLL_SECONDS = 1

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
    _accepted: tuple[OffsetRange, ...] = ()
    """Offsets that persons have accepted as lost."""
    _last_batch: int = -1
    _gathering: Gathering = USUAL
    """What the batches before have shown to suit the next."""
    _target_version: int | None = None
    """After the batch before, or at the start."""
    _newest_written: int = -1
    """The newest batch that an earlier run may have committed something of."""
    _lag: Lag | None = None

    def start(self) -> None:
        """Take the lease, prepare, start the query; raises what is wrong before the first batch."""
        try:
            self._start(self._held.enter_context(hold_lease(self.spark, self.pipeline.name, self.pipeline.lease_path)))
        except BaseException as error:
            self._held.close()
            raise classify(error) from error

    def _start(self, lease: Lease) -> None:
        refuse_two_places(self.spark, self.pipeline)
        unparsed = open_stream(self.spark, self.pipeline)
        found = check_start(self.spark, self.pipeline)
        self._accepted = read_accepted(self.spark, self.pipeline)
        self._newest_written, self._target_version = found.newest_written, found.target_version
        prepared = prepare(self.spark, unparsed, self.pipeline, lease)
        tables = [self.pipeline.spec.sink.path, self.pipeline.quarantine_path, self.pipeline.ledger_path]
        self._prepared = replace(prepared, lease=self._held.enter_context(watch_tables(lease, tables)))
        remember_start(self.spark, self.pipeline, found)
        writer = unparsed.writeStream.queryName(self.pipeline.name).option(
            "checkpointLocation", self.pipeline.checkpoint
        )
        self._look_at_landed_files()
        self._lag = Lag.at_start(self.spark, self.pipeline)
        trigger = self.pipeline.spec.trigger
        if trigger.available_now:
            writer = writer.trigger(availableNow=True)
        else:
            writer = writer.trigger(processingTime=str(trigger.processing_time))
        self.query = writer.foreachBatch(self._run_batch).start()

    def _look_at_landed_files(self) -> None:
        source, checkpoint = self.pipeline.spec.source, self.pipeline.checkpoint
        if not isinstance(source, FilesSource):
            return
        state = read_state(self.spark, checkpoint)
        # Of a batch that is in the ledger nothing is read any more.
        if state.planned > max(state.done, self._newest_recorded(state)):
            require_files(self.spark, read_batch_files(self.spark, checkpoint, state.planned), state.planned)
        self.skipped = find_skipped(source, read_seen_files(self.spark, checkpoint))

    def _newest_recorded(self, state: CheckpointState) -> int:
        if self._newest_written < state.planned:
            return -1
        return newest_attempted(self.spark, self.pipeline, state)[Step.LEDGER]

    def wait(self) -> None:
        """Wait until the query has ended; raises the failure that ended it, as an EsclusaError where it is known."""
        try:
            self._wait()
        finally:
            # Where the JVM has died, a batch may be under way in a thread of Python's, and commit what needs no JVM:
            # not without the lease, and not while the interpreter ends, which it would bring down.
            with self._in_flight:
                self._held.close()

    def _wait(self) -> None:
        assert self.query is not None  # noqa: S101 - wait follows start
        try:
            while not self.query.awaitTermination(POLL_SECONDS):
                if self._stop.is_set():
                    self._stop_when_idle(self.query)
        except Exception as error:
            if isinstance(self._failure, StopRequestedError):
                return
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> BaseException:
        """Spark names one offset or none, where the topics tell which ranges are missing."""
        try:
            if is_data_loss(error):
                check_gap(self.spark, self.pipeline)
        except Exception as found:  # noqa: BLE001 - whatever came of looking, it is what is known last
            return classify(found)
        return classify(self._failure or error)

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
        may_be_replay = self._last_batch < 0 or batch_id <= self._newest_written
        prepared = self._with_query_id(unparsed.sparkSession)
        prepared, done = pin_or_resume(prepared, unparsed, batch_id, may_be_replay=may_be_replay)
        reach(Point.BATCH_PINNED)
        source_range = read_source_range(unparsed.sparkSession, self.pipeline.checkpoint, batch_id)
        if Step.LEDGER in done:
            check_replay(unparsed.sparkSession, self.pipeline, prepared.query_id, batch_id, source_range)
            self._last_batch = batch_id
            return
        account = open_account(unparsed.sparkSession, self.pipeline, batch_id, source_range)
        account = replace(account, accepted=self._accepted)
        unparsed = self._with_names_taken_literally(unparsed, batch_id)
        if account.has_lost:
            unparsed = open_ranges(unparsed.sparkSession, self.pipeline, account.readable)
        batch = SparkBatch(
            prepared,
            unparsed,
            batch_id,
            source_range=source_range,
            lag=self._lag.behind(source_range, self.query) if self._lag else None,
            account=account,
            is_first=self._last_batch < 0,
            gathering=self._gathering,
            target_version=self._target_version,
        )
        record = _commit_without_poison(batch, done, self.report)
        if record is not None:
            self._gathering = gathering_after(self._gathering, record.verdict)
            self._target_version = record.target_version
        self._last_batch = batch_id

    def _with_names_taken_literally(self, unparsed: DataFrame, batch_id: int) -> DataFrame:
        if not isinstance(self.pipeline.spec.source, FilesSource):
            return unparsed
        files = read_batch_files(unparsed.sparkSession, self.pipeline.checkpoint, batch_id)
        if not is_misread(unparsed, self.pipeline, files):
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
