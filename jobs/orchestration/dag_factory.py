"""Pipelines of a bundle -> DAGs. Reads conf and nothing else: no data, no database, no Spark."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, Asset, get_parsing_context

from jobs.orchestration.operators import PublishOperator, RunPipelineOperator
from jobs.pipeline.conf import Bundle, load_pipeline, pipeline_names
from jobs.pipeline.errors import ConfError
from jobs.pipeline.model import After, Pipeline, Schedule

TARGET = "ESCLUSA_TARGET"
"""Environment variable of Airflow's processes: the target, a file of conf/targets/. By default `local`."""

START = datetime(2026, 1, 1, tzinfo=UTC)
RETRIES = {
    "retries": 4,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
}


def bundle_of(dag_file: str) -> Bundle:
    """The bundle that a DAG file belongs to: conf/ stands beside the file's folder, in each version of a checkout."""
    return Bundle(Path(dag_file).resolve().parents[1] / "conf", os.environ.get(TARGET, "local"))


def build_dags(bundle: Bundle) -> Iterator[DAG]:
    """A DAG for each available_now pipeline whose files are valid; only the one that is asked for, where one is.

    Pipelines of a fleet have theirs together (fleet_dag.py).
    """
    only = get_parsing_context().dag_id
    for name in pipeline_names(bundle):
        if only in {None, name}:
            with suppress(ConfError):  # dags/check_conf.py reports it: an error here would hide all other DAGs
                pipeline = load_pipeline(bundle, name)
                if pipeline.spec.trigger.available_now and pipeline.spec.fleet is None:
                    yield build_dag(bundle, pipeline)


def build_dag(bundle: Bundle, pipeline: Pipeline) -> DAG:
    """Run, then publish; at most one run at a time, and none for times that have passed."""
    with DAG(
        dag_id=pipeline.name,
        description=pipeline.spec.description or None,
        schedule=start_when(pipeline.spec.schedule),
        start_date=START,
        catchup=False,
        max_active_runs=1,
        default_args=RETRIES,
        tags={"esclusa"},
    ) as dag:
        options = spark_options(pipeline.spark)
        run = RunPipelineOperator(task_id="run", bundle=bundle, pipeline=pipeline.name, spark_conf=options)
        table = target_table(pipeline.name)
        publish = PublishOperator(task_id="publish", bundle=bundle, pipeline=pipeline.name, table=table)
        run >> publish
    return dag


def target_table(pipeline: str) -> Asset:
    """The Delta table that a pipeline appends to; the same asset in every environment, wherever the table lies."""
    return Asset(name=pipeline, uri=f"x-esclusa://{pipeline}", group="delta")


def spark_options(options: dict[str, str]) -> dict[str, str]:
    """A target's Spark options for spark-submit; the master is the connection's."""
    return {key: value for key, value in options.items() if key != "spark.master"}


def start_when(schedule: Schedule | None) -> str | list[Asset] | None:
    """A pipeline's schedule as Airflow has it."""
    if isinstance(schedule, After):
        return [target_table(name) for name in schedule.after]
    return schedule.root if schedule else None
