"""The two tasks of a pipeline's DAG: run it in Spark's environment, then say which rows it committed."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from jobs.orchestration.accounts import backfill_extra, event_extra, held_reason, reaches_back
from jobs.orchestration.spark_environment import ALL, NEWEST, SparkEnvironmentError, environment_of
from jobs.orchestration.subject import Subject, interval_of
from jobs.orchestration.submission import SubmitOperator
from jobs.orchestration.triggers import WaitTrigger
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.errors import AlreadyRunningError, BatchHeldError

BUSY_WAITS = (timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2))
"""How long a task waits, without a slot, each time that another run holds the pipeline; a driver left behind ends."""


class RunPipelineOperator(SubmitOperator):
    """Submits one pipeline, in a backfill the folders of the run's interval, and waits; the exit code decides the rest.

    Returns 0 (caught up), 5 (another run holds the pipeline, after waiting for it; this one did nothing) or, if the
    pipeline asks a person, 3 (a batch is held). Exit codes 2, 6 and else 3 fail the task for good; all others, among
    them 4 and a killed driver, fail this try: a replay is harmless.
    """

    def __init__(
        self, *, bundle: Bundle, subject: Subject, spark_conf: dict[str, str], asks: bool, **kwargs: Any
    ) -> None:
        name = f"esclusa {subject.pipeline}"
        super().__init__(bundle=bundle, entrypoint="run_pipeline", spark_conf=spark_conf, name=name, **kwargs)
        self.subject = subject
        self.asks = asks
        self.busy_waits: Sequence[timedelta] = BUSY_WAITS

    def execute(self, context: Context) -> int:  # type: ignore[override] # Airflow stores what any task returns
        """Submit, and judge the exit code."""
        return self.submit_again(context, event=0)

    def submit_again(self, context: Context, event: int) -> int:
        """Submit once more, after so many waits for another run; a task that waits is deferred."""
        return self.judge(context, self.submit(context, self.subject.arguments(context)), event)

    def judge(self, context: Context, code: int | None, waited: int) -> int:
        """What an exit code makes of the task; None: the driver was killed."""
        if code == AlreadyRunningError.exit_code:
            return self._wait_for_the_other(waited)
        if code == BatchHeldError.exit_code:
            return self._answer_held(self.subject.names(context))
        if code != 0:
            self.fail(code)
        return 0

    def _wait_for_the_other(self, waited: int) -> int:
        if waited < len(self.busy_waits):
            wait = self.busy_waits[waited]
            self.log.info("%s: another run holds the pipeline; waiting %s for it", self.subject.pipeline, wait)
            trigger = WaitTrigger(wait.total_seconds(), waited + 1)
            self.defer(trigger=trigger, method_name=self.submit_again.__name__)
        self.log.info("%s: another run holds the pipeline; this one did nothing", self.subject.pipeline)
        return AlreadyRunningError.exit_code

    def _answer_held(self, names: list[str]) -> int:
        reason = held_message(self.bundle, names)
        if not self.asks:
            raise AirflowFailException(reason) from self.failure
        self.log.warning("%s", reason)
        return BatchHeldError.exit_code


class PublishOperator(BaseOperator):
    """Emits the event of the pipeline's target table, if rows were committed since the last one; else it is skipped."""

    def __init__(self, *, bundle: Bundle, subject: Subject, table: Asset, **kwargs: Any) -> None:
        super().__init__(inlets=[table], outlets=[table], **kwargs)
        self.bundle = bundle
        self.subject = subject
        self.table = table

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the event's extra: rows, quarantined, target_version, and of which batches (see accounts.py)."""
        for run in self.upstream_task_ids:
            if context["ti"].xcom_pull(task_ids=run) == AlreadyRunningError.exit_code:
                raise AirflowSkipException("another run holds the pipeline, and says itself what it commits")
        return self.publish(context)

    def publish(self, context: Context) -> dict[str, Any]:
        """Emit the event; AirflowSkipException if there is nothing to say."""
        extras = self._find_extras(context)
        if interval_of(context) is None:
            last = next((one for one in extras if "batch_ids" in one), None)  # none of a person
            extra = event_extra(self._read_ledger(context, last), last)
        else:
            extra = backfill_extra(self._read_ledger(context, None), extras)
        if extra is None:
            raise AirflowSkipException("no rows were committed since the last event")
        context["outlet_events"][self.table].extra = extra
        return extra

    def _read_ledger(self, context: Context, last: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Back to the last event's batch at least; all rows, where that is not among the newest."""
        environment, names = environment_of(self.bundle), self.subject.names(context)
        batches = environment.read_ledger(self.bundle, names, NEWEST)
        if len(batches) < NEWEST or reaches_back(batches, last):
            return batches
        return environment.read_ledger(self.bundle, names, ALL)

    def _find_extras(self, context: Context) -> Iterator[Mapping[str, Any]]:
        """Of all events of the table, newest first: a backfill may emit thousands between two of live runs."""
        events = context["inlet_events"][self.table].ascending(False).limit(NEWEST)
        while page := list(events):
            yield from (event.extra or {} for event in page)
            if len(page) < NEWEST:
                return
            events.before(page[-1].timestamp.isoformat())


def held_message(bundle: Bundle, pipelines: list[str]) -> str:
    """Which batch of these pipelines is held and why, as the ledger has it."""
    try:
        reason = held_reason(environment_of(bundle).read_ledger(bundle, pipelines))
    except SparkEnvironmentError as error:
        reason = f"a batch is held; the ledger cannot be read: {error}"
    return f"{BatchHeldError.code}: {', '.join(pipelines)}: {reason}"
