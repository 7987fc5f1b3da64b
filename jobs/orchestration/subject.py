"""What a run of a pipeline's DAG is about: the live pipeline, or in a backfill the folders of the run's interval."""

from dataclasses import dataclass

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.types import DagRunType

from jobs.pipeline.backfill import name_interval
from jobs.pipeline.dated_path import Interval
from jobs.pipeline.model import Pipeline


@dataclass(frozen=True, slots=True)
class Subject:
    """A pipeline, and the dated path of its archive, if it has one."""

    pipeline: str
    archive: str | None = None

    def names(self, context: Context) -> list[str]:
        """The pipelines that this run runs; none if no folder of the archive begins within its interval."""
        interval = interval_of(context)
        if interval is None:
            return [self.pipeline]
        if self.archive is None:
            raise AirflowFailException(f"{self.pipeline} has no `backfill` any more: no interval of it can be read")
        return name_interval(self.pipeline, self.archive, interval)

    def arguments(self, context: Context) -> list[str]:
        """What `esclusa run` is told, to run these."""
        interval = interval_of(context)
        if interval is None:
            return [self.pipeline]
        times = {"start": interval.start, "end": interval.end}
        return [self.pipeline, *(f"--interval-{name}={time.isoformat()}" for name, time in times.items())]


def subject_of(pipeline: Pipeline) -> Subject:
    """The subject of a pipeline's DAG."""
    archive = pipeline.spec.backfill
    return Subject(pipeline.name, archive.path if archive else None)


def interval_of(context: Context) -> Interval | None:
    """The interval of a run of a backfill; None for every other: what starts by itself or by hand reads what is new."""
    run = context["dag_run"]
    if DagRunType(run.run_type) is not DagRunType.BACKFILL_JOB:
        return None
    if run.data_interval_start is None or run.data_interval_end is None:
        raise AirflowFailException(f"{run.run_id} is of a backfill, and has no interval")
    return Interval(run.data_interval_start, run.data_interval_end)
