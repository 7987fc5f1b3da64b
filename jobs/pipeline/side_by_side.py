"""Runs several pipelines in one Spark application; one that fails does not stop the others.

Each has a session of its own, so that no query sees another's options or views. Pipelines that end by themselves take
turns, as many at a time as there are cores: started all at once they would only wait for each other, in memory.
"""

import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.pipeline.entrypoint import print_error
from jobs.pipeline.errors import EsclusaError
from jobs.pipeline.failures import classify
from jobs.pipeline.ledger import BatchRecord
from jobs.pipeline.model import Pipeline
from jobs.pipeline.preflight import is_absent
from jobs.pipeline.progress import Progress
from jobs.pipeline.runner import PipelineRun
from jobs.pipeline.summary import RunSummary

_LEAST_AT_A_TIME = 2
"""One plans while another's tasks run."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the run of one pipeline has ended."""

    pipeline: str
    exit_code: int
    code: str | None = None
    """The error's stable name; None if there was none."""
    message: str | None = None
    batches: int = 0
    rows_read: int = 0
    rows_written: int = 0
    rows_quarantined: int = 0
    rows_dropped: int = 0


Told = Callable[[Ended], None]


def run_side_by_side(spark: SparkSession, pipelines: list[Pipeline], progress: Progress, told: Told) -> list[int]:
    """Run pipelines to their end, and tell of each when it has ended, from any thread; returns their exit codes.

    SIGTERM and Ctrl-C end those that run after the batch in flight; those that wait their turn are not started.
    To be called from the main thread.
    """
    stop = threading.Event()
    runs = [_Run(spark, pipeline, progress, stop) for pipeline in pipelines]
    _stop_on_signals(stop, runs)
    endless = [run for run in runs if not run.pipeline.spec.trigger.available_now]
    at_a_time = max(_LEAST_AT_A_TIME, spark.sparkContext.defaultParallelism)
    with ThreadPoolExecutor(at_a_time) as turns, ThreadPoolExecutor(max(1, len(endless))) as all_along:
        ended = [(all_along if run in endless else turns).submit(run.run, told) for run in runs]
        return list(map(Future.result, ended))


def fail(pipeline: str, error: EsclusaError) -> Ended:
    """The end of a pipeline by an error."""
    return Ended(pipeline, error.exit_code, error.code, str(error))


def write_result(folder: Path, ended: Ended) -> None:
    """Write `<folder>/<pipeline>.json`, whole or not at all, over an earlier one."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{ended.pipeline}.json"
    unfinished.write_text(json.dumps(asdict(ended) | {"ended_at": datetime.now(UTC).isoformat()}), encoding="utf-8")
    unfinished.replace(folder / f"{ended.pipeline}.json")


class _Run:
    """One pipeline among others."""

    def __init__(self, spark: SparkSession, pipeline: Pipeline, progress: Progress, stop: threading.Event) -> None:
        self.pipeline = pipeline
        self._run = PipelineRun(spark.newSession(), pipeline, self._report)
        self._summary = RunSummary(pipeline, started=time.monotonic())
        self._progress = progress
        self._stop = stop

    def request_stop(self) -> None:
        """As PipelineRun's."""
        self._run.request_stop()

    def run(self, told: Told) -> int:
        """From its start to its end; returns the exit code."""
        ended = Ended(self.pipeline.name, 0) if self._stop.is_set() else self._run_to_end()
        told(ended)
        return ended.exit_code

    def _run_to_end(self) -> Ended:
        self._progress.begin(self.pipeline)
        try:
            if self._is_absent():
                self._progress.absent(self.pipeline)
                return Ended(self.pipeline.name, 0)
            self._run.start()
            if self._run.skipped:
                self._progress.skipped(self.pipeline, self._run.skipped)
            self._run.wait()
        except EsclusaError as error:
            self._progress.failed(self.pipeline, error)
            print_error(error)
            return self._with_counts(fail(self.pipeline.name, error))
        self._progress.end(self.pipeline)
        return self._with_counts(Ended(self.pipeline.name, 0))

    def _is_absent(self) -> bool:
        try:
            return is_absent(self._run.spark, self.pipeline)
        except Exception as error:
            raise classify(error) from error

    def _report(self, record: BatchRecord) -> None:
        self._summary.add(record)
        self._progress.batch(record)

    def _with_counts(self, ended: Ended) -> Ended:
        names = ("batches", "rows_read", "rows_written", "rows_quarantined", "rows_dropped")
        return Ended(**asdict(ended) | {name: getattr(self._summary, name) for name in names})


def _stop_on_signals(stop: threading.Event, runs: list[_Run]) -> None:
    def request_stop(*_: object) -> None:
        stop.set()
        for run in runs:
            run.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request_stop)
