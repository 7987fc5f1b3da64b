"""The two tasks of a pipeline's DAG: run it in Spark's environment, then say which rows it committed."""

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Asset, BaseOperator, Connection, Context
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

import jobs
from jobs.orchestration.accounts import event_extra, held_reason
from jobs.orchestration.spark_environment import NEWEST, SparkEnvironment, SparkEnvironmentError, environment_of
from jobs.orchestration.triggers import WaitTrigger
from jobs.pipeline import lifeline
from jobs.pipeline.conf import Bundle
from jobs.pipeline.errors import AlreadyRunningError, BatchHeldError, ConfError, StateMismatchError

CONNECTION = "spark_default"
BUSY_WAITS = (timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2))
"""How long a task waits, without a slot, each time that another run holds the pipeline; a driver left behind ends."""
_REPEATING_IS_VAIN = {error.exit_code for error in (ConfError, StateMismatchError)}


class RunPipelineOperator(SparkSubmitOperator):
    """Submits one pipeline and waits for it; the exit code decides what Airflow does.

    Returns 0 (caught up), 5 (another run holds the pipeline, after waiting for it; this one did nothing) or, if the
    pipeline asks a person, 3 (a batch is held). Exit codes 2, 6 and else 3 fail the task for good; all others, among
    them 4 and a killed driver, fail this try: a replay is harmless.
    """

    template_fields = ()
    """Conf is no template: Jinja in it could read connections, and put them into arguments."""

    def __init__(self, *, bundle: Bundle, pipeline: str, spark_conf: dict[str, str], asks: bool, **kwargs: Any) -> None:
        super().__init__(
            application=str(Path(jobs.__file__).parent / "run_pipeline.py"),
            application_args=[pipeline, "--conf", str(bundle.conf), "--target", bundle.target],
            properties_file=str(bundle.conf / "spark-defaults.conf"),
            conf=spark_conf,
            conn_id=CONNECTION,
            name=f"esclusa {pipeline}",
            **kwargs,
        )
        self.bundle = bundle
        self.pipeline = pipeline
        self.asks = asks
        self.is_in_cluster = False
        self.busy_waits: Sequence[timedelta] = BUSY_WAITS

    def execute(self, context: Context) -> int:  # type: ignore[override] # Airflow stores what any task returns
        """Submit, and judge the exit code."""
        return self.submit_again(context, event=0)

    def submit_again(self, context: Context, event: int) -> int:
        """Submit once more, after so many waits for another run; a task that waits is deferred."""
        self.prepare()
        return self.submit(context, event)

    def prepare(self) -> None:
        """Look up connection and Spark's environment; fails the task for good where one is missing."""
        require_connection(self._conn_id)
        self._point_at(environment_of(self.bundle))

    def submit(self, context: Context, waited: int) -> int:
        """Submit and wait for the end, in this process."""
        self._tie_to_this_task()
        try:
            super().execute(context)
        except AirflowException as error:
            process = self._hook._submit_sp if self._hook else None  # noqa: SLF001 - the provider hands it out in prose only
            return self.judge(process.returncode if process else None, error, waited)
        return 0

    def judge(self, code: int | None, error: AirflowException, waited: int) -> int:
        """What an exit code other than 0 makes of the task; `error` is for those that fail it."""
        if code == AlreadyRunningError.exit_code:
            return self._wait_for_the_other(waited)
        if code == BatchHeldError.exit_code:
            return self._answer_held(error)
        if code in _REPEATING_IS_VAIN:
            raise AirflowFailException(str(error)) from error
        raise error

    def _point_at(self, environment: SparkEnvironment) -> None:
        try:
            self._spark_binary = str(environment.spark_submit)
        except SparkEnvironmentError as error:
            raise AirflowFailException(str(error)) from error
        if environment.jars:
            self.jars = ",".join(environment.jars)
            self.conf = {**(self.conf or {}), "spark.jars.packages": ""}
        self.env_vars = environment.variables
        self._follow_the_connection(self._get_hook())

    def _follow_the_connection(self, hook: SparkSubmitHook) -> None:
        """In cluster mode the driver has an environment of its own, and the provider asks YARN or Kubernetes for it."""
        self.is_in_cluster = hook._connection["deploy_mode"] == "cluster"  # noqa: SLF001 - resolved nowhere else
        if self.is_in_cluster:
            self.env_vars = None
            self._yarn_track_via_rm_api = hook._is_yarn  # noqa: SLF001 - as above
            self._track_driver_via_k8s_api = hook._is_kubernetes  # noqa: SLF001 - as above

    def _wait_for_the_other(self, waited: int) -> int:
        if waited < len(self.busy_waits):
            wait = self.busy_waits[waited]
            self.log.info("%s: another run holds the pipeline; waiting %s for it", self.pipeline, wait)
            trigger = WaitTrigger(wait.total_seconds(), waited + 1)
            self.defer(trigger=trigger, method_name=self.submit_again.__name__)
        self.log.info("%s: another run holds the pipeline; this one did nothing", self.pipeline)
        return AlreadyRunningError.exit_code

    def _answer_held(self, error: AirflowException) -> int:
        reason = held_message(self.bundle, self.pipeline)
        if not self.asks:
            raise AirflowFailException(reason) from error
        self.log.warning("%s", reason)
        return BatchHeldError.exit_code

    def _tie_to_this_task(self) -> None:
        """A driver on this machine ends with this task process, and with the one that supervises it."""
        if not self.is_in_cluster:
            self.env_vars = {**(self.env_vars or {}), lifeline.VARIABLE: f"{os.getpid()},{os.getppid()}"}


class PublishOperator(BaseOperator):
    """Emits the event of the pipeline's target table, if rows were committed since the last one; else it is skipped."""

    def __init__(self, *, bundle: Bundle, pipeline: str, table: Asset, **kwargs: Any) -> None:
        super().__init__(inlets=[table], outlets=[table], **kwargs)
        self.bundle = bundle
        self.pipeline = pipeline
        self.table = table

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the event's extra: rows, quarantined, target_version, query_id, batch_ids."""
        for run in self.upstream_task_ids:
            if context["ti"].xcom_pull(task_ids=run) == AlreadyRunningError.exit_code:
                raise AirflowSkipException("another run holds the pipeline, and says itself what it commits")
        return self.publish(context)

    def publish(self, context: Context) -> dict[str, Any]:
        """Emit the event; AirflowSkipException if there is nothing to say."""
        newest_first = context["inlet_events"][self.table].ascending(False).limit(NEWEST)
        last = next(
            (event.extra for event in newest_first if "batch_ids" in (event.extra or {})), None
        )  # not a person's
        extra = event_extra(environment_of(self.bundle).read_ledger(self.bundle, self.pipeline), last)
        if extra is None:
            raise AirflowSkipException("no rows were committed since the last event")
        context["outlet_events"][self.table].extra = extra
        return extra


def held_message(bundle: Bundle, pipeline: str) -> str:
    """Which batch is held and why, as the ledger has it."""
    try:
        reason = held_reason(environment_of(bundle).read_ledger(bundle, pipeline))
    except SparkEnvironmentError as error:
        reason = f"a batch is held; the ledger cannot be read: {error}"
    return f"{BatchHeldError.code}: {pipeline}: {reason}"


def require_connection(name: str) -> None:
    """The provider alone would submit to YARN without a word."""
    try:
        master = Connection.get(name).host
    except AirflowNotFoundException:
        master = None
    if not master:
        message = f"connection {name} is missing or names no host; add one of type spark, its host the Spark master"
        raise AirflowFailException(message)
