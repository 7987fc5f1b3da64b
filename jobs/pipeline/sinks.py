"""The target: a Delta table, created as declared and compared with what the pipeline produces."""

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from jobs.pipeline.errors import ConfError, Problem, StateMismatchError
from jobs.pipeline.file_lock import hold_new_table
from jobs.pipeline.model import Pipeline
from jobs.pipeline.storage import list_names, remove
from jobs.pipeline.table_model import DeltaSink

_STAGED_COMMITS = "_staged_commits"


def ensure_target(spark: SparkSession, pipeline: Pipeline, schema: StructType) -> None:
    """Create the table if there is none; idempotent. Compares columns, types and layout otherwise.

    Raises StateMismatchError if the table's columns are not the pipeline's, ConfError for a layout column that the
    pipeline does not produce.
    """
    sink = pipeline.spec.sink
    _check_layout(pipeline, schema)
    with hold_new_table(sink.path):
        is_new = not DeltaTable.isDeltaTable(spark, sink.path)
        if is_new:
            _create(spark, sink, schema)
    if not is_new:
        _compare(pipeline, schema, spark.read.format("delta").load(sink.path).schema)


def _check_layout(pipeline: Pipeline, schema: StructType) -> None:
    sink = pipeline.spec.sink
    problems = [
        Problem(
            pipeline.file,
            1,
            f"sink.{key}",
            f"the pipeline produces no column '{name}'; it produces: {', '.join(schema.fieldNames())}",
        )
        for key, names in (("partition_by", sink.partition_by), ("cluster_by", sink.cluster_by))
        for name in names
        if name not in schema.fieldNames()
    ]
    if problems:
        raise ConfError(problems)


def _create(spark: SparkSession, sink: DeltaSink, schema: StructType) -> None:
    _clear_unfinished_log(spark, sink.path)
    builder = DeltaTable.createIfNotExists(spark).location(sink.path).addColumns(schema)
    if sink.partition_by:
        builder = builder.partitionedBy(*sink.partition_by)
    if sink.cluster_by:
        builder = builder.clusterBy(*sink.cluster_by)
    for key, value in sink.table_properties.items():
        builder = builder.property(key, value)
    try:
        builder.execute()
    except AnalysisException as error:
        message = f"cannot create the target {sink.path}: {str(error).splitlines()[0]}"
        raise StateMismatchError(message) from error


def _clear_unfinished_log(spark: SparkSession, path: str) -> None:
    """Remove a log without any version, left by a creation that was killed: Delta neither reads nor replaces it."""
    log = f"{path}/_delta_log"
    staged = list_names(spark, f"{log}/{_STAGED_COMMITS}")
    if not staged and all(name.startswith(".") or name == _STAGED_COMMITS for name in list_names(spark, log)):
        remove(spark, log)


def _compare(pipeline: Pipeline, produced: StructType, existing: StructType) -> None:
    differences = []
    types = {field.name: field.dataType.simpleString() for field in existing.fields}
    for field in produced.fields:
        have = types.pop(field.name, None)
        want = field.dataType.simpleString()
        if have is None:
            differences.append(f"the table lacks {field.name} {want}")
        elif have != want:
            differences.append(f"{field.name} is {have} in the table, {want} in the pipeline")
    differences += [f"the pipeline does not produce {name} {type_}" for name, type_ in types.items()]
    if differences:
        message = (
            f"the table {pipeline.spec.sink.path} does not fit the pipeline: {'; '.join(differences)}. "
            "Change the transforms, or alter the table (ALTER TABLE … ADD COLUMN), then run again"
        )
        raise StateMismatchError(message)
