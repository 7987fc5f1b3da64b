"""The tables that a batch is committed to, and how far a query has come in them."""

from pyspark.sql import SparkSession

from jobs.pipeline.checkpoint import CheckpointState
from jobs.pipeline.commit import Step, transaction
from jobs.pipeline.delta import TableState, read_table
from jobs.pipeline.manifest import read_manifest
from jobs.pipeline.model import Pipeline


def table_path(pipeline: Pipeline, step: Step) -> str:
    """Where a step of the commit goes."""
    paths = {
        Step.TARGET: pipeline.spec.sink.path,
        Step.QUARANTINE: pipeline.quarantine_path,
        Step.LEDGER: pipeline.ledger_path,
    }
    return paths[step]


def read_tables(spark: SparkSession | None, pipeline: Pipeline, query_id: str) -> dict[Step, TableState]:
    """Those tables of the pipeline that are there, each with the query's newest transaction."""
    found = {
        step: read_table(spark, table_path(pipeline, step), transaction(query_id, step, 0).app_id) for step in Step
    }
    return {step: table for step, table in found.items() if table is not None}


def read_pinned_tables(
    spark: SparkSession | None, pipeline: Pipeline, state: CheckpointState
) -> dict[Step, TableState]:
    """The same for the conf by which the checkpoint's unfinished batch was begun; none, where that is today's."""
    pinned = read_manifest(spark, pipeline.checkpoint, state.planned) if state.planned > state.done else None
    is_other = pinned is not None and pinned.pipeline != pipeline
    return read_tables(spark, pinned.pipeline, state.query_id or "") if pinned and is_other else {}


def newest_in(tables: dict[Step, TableState]) -> dict[Step, int]:
    """The newest batch of the query that each table holds something of; -1 for none."""
    versions = {step: tables[step].transaction if step in tables else None for step in Step}
    return {step: -1 if version is None else version for step, version in versions.items()}


def newest_attempted(spark: SparkSession | None, pipeline: Pipeline, state: CheckpointState) -> dict[Step, int]:
    """The newest batch that an attempt, by today's conf or the pinned one, committed each step of; -1 for none."""
    found = [read_tables(spark, pipeline, state.query_id or ""), read_pinned_tables(spark, pipeline, state)]
    return {step: max(newest_in(tables)[step] for tables in found) for step in Step}
