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


def newest_batches(spark: SparkSession | None, pipeline: Pipeline, query_id: str) -> dict[Step, int]:
    """The newest batch of the query that each table holds something of; -1 for none."""
    tables = read_tables(spark, pipeline, query_id)
    versions = {step: tables[step].transaction if step in tables else None for step in Step}
    return {step: -1 if version is None else version for step, version in versions.items()}


def newest_attempted(spark: SparkSession | None, pipeline: Pipeline, state: CheckpointState) -> dict[Step, int]:
    """The same of a checkpoint's query, also in the tables of the conf by which its unfinished batch was begun."""
    pinned = read_manifest(spark, pipeline.checkpoint, state.planned) if state.planned > state.done else None
    confs = [pipeline] if pinned is None or pinned.pipeline == pipeline else [pipeline, pinned.pipeline]
    found = [newest_batches(spark, one, state.query_id or "") for one in confs]
    return {step: max(newest[step] for newest in found) for step in Step}
