"""Pipeline -> what every batch of a run has in common: stages compiled, tables created or compared."""

from pyspark.sql import DataFrame, SparkSession

from jobs.pipeline import ledger, quarantine
from jobs.pipeline.batch import PreparedPipeline, SparkBatch
from jobs.pipeline.failpoints import Point, reach
from jobs.pipeline.lease import Lease
from jobs.pipeline.model import Pipeline
from jobs.pipeline.sinks import ensure_target
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.stages import Stages, compile_stages, fingerprint


def prepare(spark: SparkSession, unparsed: DataFrame, pipeline: Pipeline, lease: Lease) -> PreparedPipeline:
    """Compile the stages, and create the tables or compare them with what the pipeline produces."""
    stages = compile_stages(spark, unparsed, pipeline)
    ensure_target(spark, pipeline, stages.target)
    reach(Point.TARGET_CREATED)
    return PreparedPipeline(stages, "", fingerprint(pipeline), *open_tables(spark, pipeline), lease)


def open_tables(spark: SparkSession, pipeline: Pipeline) -> tuple[SmallTable, SmallTable]:
    """Quarantine and ledger, created if they are not there."""
    tables = _tables(spark, pipeline)
    for table in tables:
        table.create()
        reach(Point.TABLE_CREATED)
    return tables


def as_batch(unparsed: DataFrame, stages: Stages, lease: Lease) -> SparkBatch:
    """Rows that are no batch of a query as one, for what looks into batches that fail; creates nothing."""
    tables = _tables(unparsed.sparkSession, stages.pipeline)
    prepared = PreparedPipeline(stages, "", fingerprint(stages.pipeline), *tables, lease)
    return SparkBatch(prepared, unparsed, 0, source_range="{}", lag=None)


def _tables(spark: SparkSession, pipeline: Pipeline) -> tuple[SmallTable, SmallTable]:
    return (
        SmallTable(spark, pipeline.quarantine_path, quarantine.SCHEMA),
        SmallTable(spark, pipeline.ledger_path, ledger.SCHEMA),
    )
