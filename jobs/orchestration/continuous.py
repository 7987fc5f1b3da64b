"""The task of a pipeline that runs until it is stopped: its driver outlives workers, triggerers and the scheduler."""

from pathlib import Path
from typing import Any

from airflow.sdk import Context
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowException

from jobs.orchestration.detached import Driver, find_driver, start_driver
from jobs.orchestration.operators import RunPipelineOperator
from jobs.orchestration.triggers import DriverTrigger


class RunContinuouslyOperator(RunPipelineOperator):
    """Starts a pipeline's driver, or takes over the one that runs, and waits for its end without a slot.

    The exit code decides as for other pipelines. Whoever dies meanwhile (worker, triggerer, scheduler) takes no driver
    with him and makes no second one: the next try finds the driver by its process. Where the driver lives in a cluster,
    the provider's own tracking takes the place of all this.
    """

    @property
    def home(self) -> Path:
        """Where the drivers of the pipeline leave process, log and exit code: beside the logs of tasks."""
        return Path(conf.get("logging", "base_log_folder")) / "esclusa" / self.subject.pipeline

    def submit_again(self, context: Context, event: int) -> int:
        """Start or take over, then wait; the provider's way in cluster mode."""
        self.prepare([self.subject.pipeline])
        if self.is_in_cluster:
            return super().submit_again(context, event)
        driver = find_driver(self.home)
        if driver is None:
            command = self._get_hook()._build_spark_submit_command(self.application)  # noqa: SLF001 - it only runs it, too
            driver = start_driver(self.home, command, self.env_vars or {})
            self.log.info("started a driver; its log is %s", driver.log)
        else:
            self.log.info("taking over the driver that runs; its log is %s", driver.log)
        return self._wait_for_end(driver, event)

    def _wait_for_end(self, driver: Driver, waited: int) -> int:
        trigger = DriverTrigger(str(driver.folder), waited)
        return self.defer(trigger=trigger, method_name=self.judge_end.__name__)

    def judge_end(self, context: Context, event: dict[str, Any]) -> int:
        """The driver has ended: show the end of its log, and judge its exit code."""
        driver = Driver(Path(event["folder"]))
        self.log.info("the end of %s:\n%s", driver.log, driver.tail())
        if driver.is_running:
            message = f"the driver runs on {driver.host}, and the triggerer does not see it: it must run there as well"
            raise AirflowException(message)
        self.failure = AirflowException(f"the driver ended with {driver.exit_code}; its log is {driver.log}")
        return self.judge(context, driver.exit_code, event["waited"])

    def on_kill(self) -> None:
        """A person marked or cleared the task in the moment of the start: ask the driver to stop."""
        driver = find_driver(self.home)
        if driver is None:
            super().on_kill()
        else:
            driver.request_stop()
