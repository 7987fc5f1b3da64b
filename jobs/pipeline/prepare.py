"""Pipeline -> what every batch of a run has in common: stages compiled, tables created or compared."""

from pyspark.sql import DataFrame, SparkSession

from jobs.pipeline import ledger, quarantine
from jobs.pipeline.batch import PreparedPipeline
from jobs.pipeline.failpoints import Point, reach
from jobs.pipeline.lease import Lease
from jobs.pipeline.model import Pipeline
from jobs.pipeline.sinks import ensure_target
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.stages import compile_stages, fingerprint


def prepare(spark: SparkSession, unparsed: DataFrame, pipeline: Pipeline, lease: Lease) -> PreparedPipeline:
    """Compile the stages, and create the tables or compare them with what the pipeline produces."""
    stages = compile_stages(spark, unparsed, pipeline)
    ensure_target(spark, pipeline, stages.target)
    reach(Point.TARGET_CREATED)
    return PreparedPipeline(stages, "", fingerprint(pipeline), *open_tables(spark, pipeline), lease)


def open_tables(spark: SparkSession, pipeline: Pipeline) -> tuple[SmallTable, SmallTable]:
    """Quarantine and ledger, created if they are not there."""
    tables = (
        SmallTable(spark, pipeline.quarantine_path, quarantine.SCHEMA),
        SmallTable(spark, pipeline.ledger_path, ledger.SCHEMA),
    )
    for table in tables:
        table.create()
        reach(Point.TABLE_CREATED)
    return tables
