"""Submits an entrypoint of Esclusa to Spark, waits for it, and hands on its exit code."""

import os
from pathlib import Path
from typing import Any, NoReturn

from airflow.providers.apache.spark.hooks import spark_submit as provider
from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Connection, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

import jobs
from jobs.orchestration.spark_environment import SparkEnvironment, SparkEnvironmentError, environment_of
from jobs.pipeline import lifeline
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.errors import BatchHeldError, ConfError, StateMismatchError
from jobs.pipeline.spark_properties import further_packages, read_properties

CONNECTION = "spark_default"
VAIN = frozenset(error.exit_code for error in (ConfError, BatchHeldError, StateMismatchError))
"""Exit codes that stay the same however often a run is repeated."""


class SubmitOperator(SparkSubmitOperator):
    """What is common to tasks that submit; a subclass's `execute` calls `submit`.

    Arguments are given when the task runs, as a list: what a person has typed is neither rendered nor read by a shell.
    """

    template_fields = ()
    """Conf is no template: Jinja in it could read connections, and put them into arguments."""

    def __init__(self, *, bundle: Bundle, entrypoint: str, spark_conf: dict[str, str], **kwargs: Any) -> None:
        super().__init__(
            application=str(Path(jobs.__file__).parent / f"{entrypoint}.py"),
            properties_file=str(bundle.spark_defaults),
            conf=spark_conf,
            conn_id=CONNECTION,
            **kwargs,
        )
        self.bundle = bundle
        self.is_in_cluster = False
        """Whether the driver lives in a cluster, as the connection says; known once prepared."""
        self.failure: AirflowException | None = None

    def submit(self, context: Context, arguments: list[str]) -> int:
        """Submit, and return the exit code; AirflowException where there is none."""
        self.prepare(arguments)
        if not self.is_in_cluster:
            self._tie_to_this_task()
        try:
            SparkSubmitOperator.execute(self, context)
        except AirflowException as error:
            process = self._hook._submit_sp if self._hook else None  # noqa: SLF001 - the provider tells it in prose only
            if process is None or not process.returncode:
                raise
            self.failure = error
            return int(process.returncode)
        return 0

    def prepare(self, arguments: list[str]) -> None:
        """Look up connection and Spark's environment; fails the task for good where one is missing."""
        require_connection(self._conn_id)
        self._point_at(environment_of(self.bundle))
        self.application_args = [*arguments, "--conf", str(self.bundle.conf), "--target", self.bundle.target]
        self._follow_the_connection(self._get_hook())

    def fail(self, exit_code: int | None) -> NoReturn:
        """Fail for good where repeating is vain, else this try alone."""
        if exit_code in VAIN:
            raise AirflowFailException(str(self.failure)) from self.failure
        raise self.failure or AirflowException(f"exit code {exit_code}")

    def _point_at(self, environment: SparkEnvironment) -> None:
        try:
            self._spark_binary = str(environment.spark_submit)
        except SparkEnvironmentError as error:
            raise AirflowFailException(str(error)) from error
        self.env_vars = environment.variables
        if environment.jars:
            self._take_installed(environment.jars)

    def _take_installed(self, jars: list[str]) -> None:
        """They come in place of their coordinates. What else the bundle names stays: `--jars` hides its spark.jars."""
        options = read_properties(self.bundle.spark_defaults) | (self.conf or {})
        named = filter(None, options.get("spark.jars", "").split(","))
        self.jars = ",".join(dict.fromkeys([*jars, *named]))
        self.conf = {**(self.conf or {}), "spark.jars.packages": further_packages(options)}

    def _follow_the_connection(self, hook: SparkSubmitHook) -> None:
        """In cluster mode the driver has an environment of its own, and the provider asks YARN or Kubernetes for it."""
        self.is_in_cluster = hook._connection["deploy_mode"] == "cluster"  # noqa: SLF001 - resolved nowhere else
        if self.is_in_cluster:
            self.env_vars = None
            self._yarn_track_via_rm_api = hook._is_yarn  # noqa: SLF001 - as above
            self._track_driver_via_k8s_api = hook._is_kubernetes  # noqa: SLF001 - as above

    def _tie_to_this_task(self) -> None:
        """A driver on this machine ends with this task process, and with the one that supervises it."""
        self.env_vars = {**(self.env_vars or {}), lifeline.VARIABLE: f"{os.getpid()},{os.getppid()}"}


def require_connection(name: str) -> None:
    """The provider alone would submit to YARN without a word, and end with a NameError for Kubernetes."""
    try:
        master = Connection.get(name).host
    except AirflowNotFoundException:
        master = None
    if not master:
        message = f"connection {name} is missing or names no host; add one of type spark, its host the Spark master"
        raise AirflowFailException(message)
    if master.startswith("k8s") and getattr(provider, "kube_client", None) is None:
        message = f"{master} needs apache-airflow-providers-cncf-kubernetes; install it into Airflow's own environment"
        raise AirflowFailException(message)
