"""Pipelines of a bundle -> DAGs. Reads conf and nothing else: no data, no database, no Spark."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, TaskGroup, get_parsing_context

from jobs.orchestration.continuous import RunContinuouslyOperator
from jobs.orchestration.dag_parts import RETRIES, load_sound, new_dag, spark_options, start_when, target_table
from jobs.orchestration.held_batch import AskAgainOperator, DecideOperator, ReleaseOperator
from jobs.orchestration.operators import PublishOperator, RunPipelineOperator
from jobs.orchestration.subject import subject_of
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import pipeline_names
from jobs.pipeline.durations import as_timedelta
from jobs.pipeline.model import Pipeline

TARGET = "ESCLUSA_TARGET"
"""Environment variable of Airflow's processes: the target, a file of conf/targets/. By default `local`."""

EVENTS = ".events"
"""Behind a continuous pipeline's name: the DAG that publishes its events. No pipeline can have such a name."""
_EVENTS_EVERY = "*/5 * * * *"
_LASTING_RETRIES = RETRIES | {"retries": 100}
"""A run that lasts for months outlives more drivers, and waits for a source for a day."""


def bundle_of(dag_file: str) -> Bundle:
    """The bundle that a DAG file belongs to: conf/ stands beside the file's folder, in each version of a checkout."""
    return Bundle(Path(dag_file).resolve().parents[1] / "conf", os.environ.get(TARGET, "local"))


def build_dags(bundle: Bundle) -> Iterator[DAG]:
    """The DAGs of each pipeline whose files are valid; only those of the one that is asked for, where one is.

    Pipelines of a fleet have theirs together (fleet_dag.py).
    """
    only = get_parsing_context().dag_id
    names = [name for name in pipeline_names(bundle) if only is None or only.removesuffix(EVENTS) == name]
    for pipeline in load_sound(bundle, names):
        if pipeline.spec.fleet is None:
            yield from _build_dags_of(bundle, pipeline)


def _build_dags_of(bundle: Bundle, pipeline: Pipeline) -> Iterator[DAG]:
    if pipeline.spec.trigger.available_now:
        yield build_scheduled(bundle, pipeline)
    else:
        yield build_continuous(bundle, pipeline)
        yield build_events(bundle, pipeline)


def build_scheduled(bundle: Bundle, pipeline: Pipeline) -> DAG:
    """Run, then publish, and ask about a held batch; at most one run at a time, and none for times that have passed.

    Runs of a backfill, if the pipeline has an archive, are not counted among those.
    """
    spec = pipeline.spec
    backfills: dict[str, Any] = {"allowed_run_types": None} if spec.backfill else {}
    with new_dag(pipeline.name, spec.description or None, start_when(spec), **backfills) as dag:
        run, _ = _run_and_publish(bundle, pipeline)
        if pipeline.asks_when_held:
            with _held_group():
                release = _decide_and_release(bundle, pipeline, run)
                again, _ = _run_and_publish(bundle, pipeline)
                release >> again >> AskAgainOperator(task_id="ask_again", pipeline=pipeline.name)
    return dag


def build_continuous(bundle: Bundle, pipeline: Pipeline) -> DAG:
    """One run that lasts until it is stopped; what ends it starts the next one, but a failure, which pauses the DAG.

    A decision on a held batch is carried out by that next run.
    """
    lasting: dict[str, Any] = {"default_args": _LASTING_RETRIES, "max_consecutive_failed_dag_runs": 1}
    with new_dag(pipeline.name, pipeline.spec.description or None, "@continuous", **lasting) as dag:
        run = RunContinuouslyOperator(task_id="run", **_run_options(bundle, pipeline))
        if pipeline.asks_when_held:
            with _held_group():
                _decide_and_release(bundle, pipeline, run)
    return dag


def build_events(bundle: Bundle, pipeline: Pipeline) -> DAG:
    """Publishes what a pipeline that does not end has committed: a task's own events would wait for its end."""
    with new_dag(f"{pipeline.name}{EVENTS}", f"Events of {pipeline.name}", _EVENTS_EVERY) as dag:
        _publish(bundle, pipeline)
    return dag


def _run_options(bundle: Bundle, pipeline: Pipeline) -> dict[str, Any]:
    return {
        "bundle": bundle,
        "subject": subject_of(pipeline),
        "spark_conf": spark_options(pipeline.spark),
        "asks": pipeline.asks_when_held,
    }


def _run_and_publish(bundle: Bundle, pipeline: Pipeline) -> tuple[RunPipelineOperator, PublishOperator]:
    run = RunPipelineOperator(task_id="run", **_run_options(bundle, pipeline))
    publish = _publish(bundle, pipeline)
    run >> publish
    return run, publish


def _publish(bundle: Bundle, pipeline: Pipeline) -> PublishOperator:
    table = target_table(pipeline.name)
    return PublishOperator(task_id="publish", bundle=bundle, subject=subject_of(pipeline), table=table)


def _held_group() -> TaskGroup:
    return TaskGroup("held", tooltip="A held batch: a person decides what becomes of it. Skipped if there is none")


def _decide_and_release(bundle: Bundle, pipeline: Pipeline, run: RunPipelineOperator) -> ReleaseOperator:
    timeout = as_timedelta(pipeline.spec.decision_timeout)
    decide = DecideOperator(task_id="decide", bundle=bundle, subject=subject_of(pipeline), timeout=timeout)
    release = ReleaseOperator(task_id="release", bundle=bundle)
    run >> decide >> release
    return release
