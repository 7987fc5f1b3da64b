"""The two tasks of a pipeline's DAG: run it in Spark's environment, then say which rows it committed."""

import os
from pathlib import Path
from typing import Any

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
from jobs.orchestration.spark_environment import NEWEST, SparkEnvironment, SparkEnvironmentError
from jobs.pipeline import lifeline
from jobs.pipeline.conf import Bundle
from jobs.pipeline.errors import AlreadyRunningError, BatchHeldError, ConfError, StateMismatchError

CONNECTION = "spark_default"
_NEWEST_NOTES = 20
"""Rows of the ledger among which the newest held batch stands, behind notes of maintenance and replays."""
_REPEATING_IS_VAIN = {error.exit_code for error in (ConfError, BatchHeldError, StateMismatchError)}


def spark_environment(bundle: Bundle) -> SparkEnvironment:
    """Spark's environment of a bundle: `.venv` beside its conf/."""
    return SparkEnvironment(bundle.root / ".venv")


class RunPipelineOperator(SparkSubmitOperator):
    """Submits one pipeline and waits for it; the exit code decides what Airflow does.

    Returns 0 (caught up) or 5 (another run holds the pipeline; this one did nothing). Exit codes 2, 3 and 6 fail the
    task for good; all others, among them 4 and a killed driver, fail this try: a replay is harmless.
    """

    template_fields = ()
    """Conf is no template: Jinja in it could read connections, and put them into arguments."""

    def __init__(self, *, bundle: Bundle, pipeline: str, spark_conf: dict[str, str], **kwargs: Any) -> None:
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

    def execute(self, context: Context) -> int:  # type: ignore[override] # Airflow stores what any task returns
        """Submit, and judge the exit code."""
        require_connection(self._conn_id)
        self._point_at(spark_environment(self.bundle))
        self._tie_to_this_task()
        try:
            super().execute(context)
        except AirflowException as error:
            return self._judge(error)
        return 0

    def _point_at(self, environment: SparkEnvironment) -> None:
        try:
            self._spark_binary = str(environment.spark_submit)
        except SparkEnvironmentError as error:
            raise AirflowFailException(str(error)) from error
        self.env_vars = environment.variables
        if environment.jars:
            self.jars = ",".join(environment.jars)
            self.conf = {**(self.conf or {}), "spark.jars.packages": ""}

    def _tie_to_this_task(self) -> None:
        """A driver on this machine ends with this task process, and with the one that supervises it."""
        if Connection.get(self._conn_id).extra_dejson.get("deploy-mode") != "cluster":
            self.env_vars = {**(self.env_vars or {}), lifeline.VARIABLE: f"{os.getpid()},{os.getppid()}"}

    def _judge(self, error: AirflowException) -> int:
        process = self._hook._submit_sp if self._hook else None  # noqa: SLF001 - the provider hands it out in prose only
        code = process.returncode if process else None
        if code == AlreadyRunningError.exit_code:
            self.log.info("%s: another run holds the pipeline; this one did nothing", self.pipeline)
            return AlreadyRunningError.exit_code
        if code == BatchHeldError.exit_code:
            raise AirflowFailException(held_message(self.bundle, self.pipeline)) from error
        if code in _REPEATING_IS_VAIN:
            raise AirflowFailException(str(error)) from error
        raise error


class PublishOperator(BaseOperator):
    """Emits the event of the pipeline's target table, if rows were committed since the last one; else it is skipped."""

    def __init__(self, *, bundle: Bundle, pipeline: str, table: Asset, **kwargs: Any) -> None:
        super().__init__(inlets=[table], outlets=[table], **kwargs)
        self.bundle = bundle
        self.pipeline = pipeline
        self.table = table

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the event's extra: rows, quarantined, target_version, query_id, batch_ids."""
        [run] = self.upstream_task_ids
        if context["ti"].xcom_pull(task_ids=run) == AlreadyRunningError.exit_code:
            raise AirflowSkipException("another run holds the pipeline, and says itself what it commits")
        return self.publish(context)

    def publish(self, context: Context) -> dict[str, Any]:
        """Emit the event; AirflowSkipException if there is nothing to say."""
        newest_first = context["inlet_events"][self.table].ascending(False).limit(NEWEST)
        last = next(
            (event.extra for event in newest_first if "batch_ids" in (event.extra or {})), None
        )  # not a person's
        extra = event_extra(_read_ledger(self.bundle, self.pipeline), last)
        if extra is None:
            raise AirflowSkipException("no rows were committed since the last event")
        context["outlet_events"][self.table].extra = extra
        return extra


def held_message(bundle: Bundle, pipeline: str) -> str:
    """Which batch is held and why, as the ledger has it."""
    try:
        reason = held_reason(_read_ledger(bundle, pipeline, newest=_NEWEST_NOTES))
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


def _read_ledger(bundle: Bundle, pipeline: str, **options: int) -> list[dict[str, Any]]:
    return spark_environment(bundle).read_ledger(bundle.conf, bundle.target, pipeline, **options)
