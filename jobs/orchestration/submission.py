"""Submits an entrypoint of Esclusa to Spark, waits for it, and hands on its exit code."""

from pathlib import Path
from typing import Any, NoReturn

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

import jobs
from jobs.orchestration.operators import CONNECTION, require_connection
from jobs.orchestration.spark_environment import SparkEnvironmentError, environment_of
from jobs.pipeline.conf import Bundle
from jobs.pipeline.errors import BatchHeldError, ConfError, StateMismatchError

VAIN = frozenset(error.exit_code for error in (ConfError, BatchHeldError, StateMismatchError))
"""Exit codes that stay the same however often a run is repeated."""


class SubmitOperator(SparkSubmitOperator):
    """What is common to tasks that submit; a subclass's `execute` calls `submit`.

    Arguments are given when the task runs, as a list: what a person has typed is neither rendered nor read by a shell.
    """

    def __init__(self, *, bundle: Bundle, entrypoint: str, spark_conf: dict[str, str], **kwargs: Any) -> None:
        super().__init__(
            application=str(Path(jobs.__file__).parent / f"{entrypoint}.py"),
            properties_file=str(bundle.conf / "spark-defaults.conf"),
            conf=spark_conf,
            conn_id=CONNECTION,
            **kwargs,
        )
        self.bundle = bundle
        self._failure: AirflowException | None = None

    def submit(self, context: Context, arguments: list[str]) -> int:
        """Submit, and return the exit code; AirflowException where there is none."""
        require_connection(self._conn_id)
        self._point_at_spark()
        self.application_args = [*arguments, "--conf", str(self.bundle.conf), "--target", self.bundle.target]
        try:
            SparkSubmitOperator.execute(self, context)
        except AirflowException as error:
            process = self._hook._submit_sp if self._hook else None  # noqa: SLF001 - the provider tells it in prose only
            if process is None or not process.returncode:
                raise
            self._failure = error
            return int(process.returncode)
        return 0

    def fail(self, exit_code: int) -> NoReturn:
        """Fail for good where repeating is vain, else this try alone."""
        if exit_code in VAIN:
            raise AirflowFailException(str(self._failure)) from self._failure
        raise self._failure or AirflowException(f"exit code {exit_code}")

    def _point_at_spark(self) -> None:
        environment = environment_of(self.bundle)
        try:
            self._spark_binary = str(environment.spark_submit)
        except SparkEnvironmentError as error:
            raise AirflowFailException(str(error)) from error
        self.env_vars = environment.variables
        if environment.jars:
            self.jars = ",".join(environment.jars)
            self.conf = {**(self.conf or {}), "spark.jars.packages": ""}
