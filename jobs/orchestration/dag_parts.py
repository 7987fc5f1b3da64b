"""What all DAGs of a bundle have in common: whose they are, their options, when they start, what connects them."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable
from airflow.utils.types import DagRunType

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipeline
from jobs.pipeline.model import Pipeline, PipelineSpec
from jobs.pipeline.schedule_model import After

When = str | list[Asset] | CronDataIntervalTimetable | None
"""When a DAG starts, as Airflow takes it."""
RETRIES = {
    "retries": 4,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
}
_ALL_BUT_BACKFILLS = [kind.value for kind in DagRunType if kind is not DagRunType.BACKFILL_JOB]
_QUIET = {"spark.log.level": "WARN"}
"""Unless the target says otherwise: at INFO a stream would write gigabytes into its log."""
_START = datetime(2026, 1, 1, tzinfo=UTC)


def load_sound(bundle: Bundle, names: Iterable[str]) -> list[Pipeline]:
    """Those of the named pipelines that load.

    What keeps others from it, foreseen or not, is an import error of dags/check_conf.py, which loads them too. Here it
    would hide the DAGs of all.
    """
    loaded: list[Pipeline] = []
    for name in names:
        with suppress(Exception):
            loaded.append(load_pipeline(bundle, name))
    return loaded


def new_dag(dag_id: str, description: str | None, schedule: When, **options: Any) -> DAG:
    """An empty DAG: at most one run at a time, none for times that have passed, and no backfill unless told so."""
    return DAG(
        dag_id=dag_id,
        description=description,
        schedule=schedule,
        start_date=_START,
        catchup=False,
        max_active_runs=1,
        tags={"esclusa"},
        **{"default_args": RETRIES, "allowed_run_types": _ALL_BUT_BACKFILLS, **options},
    )


def target_table(pipeline: str) -> Asset:
    """The Delta table that a pipeline appends to; the same asset in every environment, wherever the table lies."""
    return Asset(name=pipeline, uri=f"x-esclusa://{pipeline}", group="delta")


def spark_options(options: dict[str, str]) -> dict[str, str]:
    """A target's Spark options for spark-submit; the master is the connection's."""
    return _QUIET | {key: value for key, value in options.items() if key != "spark.master"}


def start_when(spec: PipelineSpec) -> When:
    """A pipeline's schedule as Airflow has it; with intervals, if the pipeline can read those that are past."""
    if isinstance(spec.schedule, After):
        return [target_table(name) for name in spec.schedule.after]
    if spec.schedule is not None and spec.backfill is not None:
        return CronDataIntervalTimetable(spec.schedule.root, timezone="UTC")
    return spec.schedule.root if spec.schedule else None
