"""The target: a Delta table, created as declared, compared with what the pipeline produces, and appended to."""

from collections.abc import Iterator

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import ArrayType, DataType, MapType, StructType

from jobs.pipeline.delta import TransactionId
from jobs.pipeline.errors import ConfError, Problem, StateMismatchError
from jobs.pipeline.file_lock import hold_new_table
from jobs.pipeline.model import Pipeline
from jobs.pipeline.staged_append import StagedAppend, stage_append
from jobs.pipeline.storage import list_names, remove
from jobs.pipeline.table_model import DeltaSink

_STAGED_COMMITS = "_staged_commits"
_UNHOLDABLE_NAMES = frozenset({"DELTA_INVALID_CHARACTERS_IN_COLUMN_NAME", "DELTA_INVALID_CHARACTERS_IN_COLUMN_NAMES"})


def ensure_target(spark: SparkSession, pipeline: Pipeline, schema: StructType) -> None:
    """Create the table if there is none; idempotent. Compares columns and types otherwise, not the layout.

    Raises StateMismatchError if the table's columns are not the pipeline's and `merge_schema` does not bring them
    together, ConfError for a layout column that the pipeline does not produce, and for a name that Delta cannot hold.
    """
    sink = pipeline.spec.sink
    _check_layout(pipeline, schema)
    with hold_new_table(sink.path):
        is_new = not DeltaTable.isDeltaTable(spark, sink.path)
        if is_new:
            _create(spark, pipeline, schema)
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


def _create(spark: SparkSession, pipeline: Pipeline, schema: StructType) -> None:
    sink = pipeline.spec.sink
    _clear_unfinished_log(spark, sink.path)
    # A column that a literal fills is NOT NULL in the plan, which the next edit of the transforms may end; in arrays
    # Delta refuses it altogether. What may be missing is for checks to say.
    builder = DeltaTable.createIfNotExists(spark).location(sink.path).addColumns(schema.toNullable())
    if sink.partition_by:
        builder = builder.partitionedBy(*sink.partition_by)
    if sink.cluster_by:
        builder = builder.clusterBy(*sink.cluster_by)
    for key, value in sink.table_properties.items():
        builder = builder.property(key, value)
    try:
        builder.execute()
    except AnalysisException as error:
        if error.getCondition() in _UNHOLDABLE_NAMES:
            raise ConfError([Problem(pipeline.file, 1, "sink", _unholdable(error))]) from error
        message = f"cannot create the target {sink.path}: {str(error).splitlines()[0]}"
        raise StateMismatchError(message) from error


def _unholdable(error: AnalysisException) -> str:
    said = str(error).splitlines()[0]
    return f"Delta refuses a column's name: {said} Rename it in a transform, or set delta.columnMapping.mode: name"


def _clear_unfinished_log(spark: SparkSession, path: str) -> None:
    """Remove a log without any version, left by a creation that was killed: Delta neither reads nor replaces it."""
    log = f"{path}/_delta_log"
    staged = list_names(spark, f"{log}/{_STAGED_COMMITS}")
    if not staged and all(name.startswith(".") or name == _STAGED_COMMITS for name in list_names(spark, log)):
        remove(spark, log)


def stage_rows(df: DataFrame, sink: DeltaSink, transaction: TransactionId) -> StagedAppend:
    """Write rows as files of the target, with one Spark job; if it merges schemas, their commit brings new columns."""
    return stage_append(df, sink.path, transaction, merges_schema=sink.merge_schema)


def _compare(pipeline: Pipeline, produced: StructType, existing: StructType) -> None:
    sink = pipeline.spec.sink
    differences = list(_differences("", produced, existing, merges=sink.merge_schema))
    if differences:
        way = "" if sink.merge_schema else ", or let new columns join it (sink.merge_schema: true)"
        message = (
            f"the table {sink.path} does not fit the pipeline: {'; '.join(differences)}. "
            f"Change the transforms, or alter the table (ALTER TABLE …){way}; then run again"
        )
        raise StateMismatchError(message)


def _differences(name: str, produced: DataType, existing: DataType, *, merges: bool) -> Iterator[str]:
    """What an append could not write; with `merges`, what Delta's `mergeSchema` could not reconcile either."""
    match produced, existing:
        case StructType(), StructType() if merges or not name:
            yield from _differences_of_fields(name, produced, existing, merges=merges)
        case ArrayType(), ArrayType() if merges:
            yield from _differences(f"{name}.element", produced.elementType, existing.elementType, merges=merges)
        case MapType(), MapType() if merges:
            yield from _differences(f"{name}.key", produced.keyType, existing.keyType, merges=False)
            yield from _differences(f"{name}.value", produced.valueType, existing.valueType, merges=merges)
        case _ if produced.simpleString() != existing.simpleString():
            yield f"{name} is {existing.simpleString()} in the table, {produced.simpleString()} in the pipeline"


def _differences_of_fields(name: str, produced: StructType, existing: StructType, *, merges: bool) -> Iterator[str]:
    prefix = f"{name}." if name else ""
    types = {field.name: field.dataType for field in existing.fields}
    spellings = {known.lower(): known for known in types}
    for field in produced.fields:
        have, spelling = types.pop(field.name, None), spellings.get(field.name.lower())
        if have is not None:
            yield from _differences(prefix + field.name, field.dataType, have, merges=merges)
        elif merges and spelling:
            yield f"{prefix}{spelling} is spelled {field.name} in the pipeline"
        elif not merges:
            yield f"the table lacks {prefix}{field.name} {field.dataType.simpleString()}"
    if not merges:
        yield from (
            f"the pipeline does not produce {prefix}{one} {type_.simpleString()}" for one, type_ in types.items()
        )
