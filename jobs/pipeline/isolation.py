"""A batch that fails for what is in it -> the same batch with the culprits set apart as malformed.

Nothing here runs for a batch that goes well. Batches, files and rows are judged again from what is there, so a replay
finds the same culprits; where it does not, the counts differ from the commits, and the batch fails.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.pipeline.batch import SparkBatch, annotate_well_formed
from jobs.pipeline.checkpoint import SeenFile, read_batch_files
from jobs.pipeline.errors import StateMismatchError, TransformError, full_text, root_cause
from jobs.pipeline.record import MALFORMED, RECORD, coordinates, raw_bytes, record_fields
from jobs.pipeline.source_model import FilesSource
from jobs.pipeline.sources.file_faults import SPARK_FAILURES, corruption, find_corrupt
from jobs.pipeline.sources.source import open_files
from jobs.pipeline.sources.text_values import Parser
from jobs.pipeline.stages import Stages
from jobs.pipeline.transforms import apply_transforms

MAX_FAILING_ROWS = 100
"""Each costs about forty small jobs; a batch with more has a fault in its rules, not in its rows."""

_ROW_FAULT = re.compile(
    r"PythonException"
    r"|Spark(Arithmetic|NumberFormat|DateTime|ArrayIndexOutOfBounds|NoSuchElement|Runtime|IllegalArgument)Exception: \["
    r"|^Caused by: java\.(lang\.ArithmeticException|time\.DateTimeException): "  # as functions of time throw them
    r"|^\[(DIVIDE_BY_ZERO|CAST_\w+|NUMERIC_VALUE_OUT_OF_RANGE|ARITHMETIC_OVERFLOW|INVALID_ARRAY_INDEX\w*|USER_RAISED_\w+)",
    re.MULTILINE,
)
_NO_ROW_FAULT = re.compile(r"ModuleNotFoundError|PYTHON_VERSION_MISMATCH")
"""What a Python worker lacks, it lacks for every row."""
_PYTHON_ERROR = re.compile(r"^(\w[\w.]*(?:Error|Exception|Interrupt)\b.*)$", re.MULTILINE)
_SHOWN_CHARACTERS = 300


def isolate_corrupt_files(batch: SparkBatch, error: Exception) -> SparkBatch | None:
    """The batch with a malformed row in place of each file that cannot be read; None if they all can.

    Runs a job, and about two more for each halving. Raises StateMismatchError where the source deletes what was read.
    """
    pipeline, session = batch.prepared.stages.pipeline, batch.unparsed.sparkSession
    source = pipeline.spec.source
    if not isinstance(source, FilesSource) or not (corruption(error) or is_row_fault(error)):
        return None
    files = read_batch_files(session, pipeline.checkpoint, batch.batch_id)

    def read(paths: list[str]) -> None:
        _run(batch.prepared.stages.parser(open_files(session, pipeline, paths)))

    corrupt = find_corrupt([file.plain_path for file in files], read)
    if not corrupt:
        return None
    if source.options.get("cleanSource", "off").lower() == "delete":
        message = f"{next(iter(corrupt.values()))}; it is not set apart, for cleanSource: delete would remove it"
        raise StateMismatchError(message)
    rest = [file.plain_path for file in files if file.plain_path not in corrupt]
    unparsed = open_files(session, pipeline, rest) if rest else batch.unparsed.limit(0)
    reasons = {file: corrupt[file.plain_path] for file in files if file.plain_path in corrupt}
    if batch.account:
        batch = replace(batch, account=replace(batch.account, corrupt=frozenset(corrupt)))
    return _with_parser(batch, unparsed, _adding_files(batch.prepared.stages.parser, reasons))


def isolate_failing_rows(batch: SparkBatch, error: Exception) -> SparkBatch | None:
    """The batch with the rows that make a transform or a check fail marked as malformed; None if no row does.

    Raises TransformError if more than MAX_FAILING_ROWS rows do.
    """
    if not is_row_fault(error):
        return None
    stages = batch.prepared.stages
    parsed = stages.parser(batch.unparsed).persist()
    try:
        search = _Search(parsed, stages, _identity(record_fields(parsed.schema)))
        found = dict(islice(search.find_failing(), MAX_FAILING_ROWS + 1))
    finally:
        parsed.unpersist()
    if len(found) > MAX_FAILING_ROWS:
        message = (
            f"more than {MAX_FAILING_ROWS} rows of batch {batch.batch_id} cannot be computed, for example: "
            f"{next(iter(found.values()))}. Mend the transform or check (try_divide, try_cast, …), and run again"
        )
        raise TransformError(message)
    return _with_parser(batch, batch.unparsed, _marking_rows(stages.parser, found)) if found else None


def is_row_fault(error: BaseException) -> bool:
    """Whether a failure of Spark is one that a single row's values bring about."""
    text = full_text(error)
    is_one = _ROW_FAULT.search(text) is not None and _NO_ROW_FAULT.search(text) is None
    return is_one and isinstance(error, SPARK_FAILURES)


@dataclass(frozen=True, slots=True)
class _Search:
    """Looks for failing rows by halving the sorted identities of the well-formed ones."""

    parsed: DataFrame
    stages: Stages
    identity: Column

    def find_failing(self) -> Iterator[tuple[int, str]]:
        """Identity of each failing row, and why it fails."""
        rows = self.parsed.where(F.col(MALFORMED).isNull()).select(self.identity.alias("id")).distinct().sort("id")
        identities = rows.toArrow()["id"]
        if len(identities):
            yield from self._between(identities, 0, len(identities) - 1)

    def _between(
        self, identities: pa.ChunkedArray, first: int, last: int, *, must_fail: bool = False
    ) -> Iterator[tuple[int, str]]:
        rows = self.parsed.where(self.identity.between(identities[first].as_py(), identities[last].as_py()))
        reason = None if must_fail and first < last else _failure(annotate_well_formed(rows, self.stages))
        if reason is None and (first == last or not must_fail):
            return
        if first == last:
            yield identities[first].as_py(), f"{self._failing_stage(rows)} failed: {reason}"
            return
        middle = (first + last) // 2
        has_found = False
        for found in self._between(identities, first, middle):
            has_found = True
            yield found
        yield from self._between(identities, middle + 1, last, must_fail=not has_found)

    def _failing_stage(self, rows: DataFrame) -> str:
        pipeline = self.stages.pipeline
        well_formed = rows.where(F.col(MALFORMED).isNull()).drop(MALFORMED)
        for index in range(len(pipeline.spec.transforms)):
            spec = pipeline.spec.model_copy(update={"transforms": pipeline.spec.transforms[: index + 1]})
            first_ones = pipeline.model_copy(update={"spec": spec})
            if _failure(apply_transforms(well_formed, first_ones, self.stages.batch_time)):
                return f"transforms[{index}]"
        return "a check"


def _failure(df: DataFrame) -> str | None:
    """Compute a frame, writing nothing: what a row's values made fail, or None; other failures are raised."""
    try:
        _run(df)
    except SPARK_FAILURES as error:
        if not is_row_fault(error):
            raise
        return _first_line(error)
    return None


def _run(df: DataFrame) -> None:
    df.write.format("noop").mode("overwrite").save()


def _first_line(error: BaseException) -> str:
    """Of a Python worker's traceback the last line, of Spark's own messages the first."""
    text = full_text(error)
    raised = _PYTHON_ERROR.findall(text.partition("PythonException: ")[2].partition("\n\tat ")[0])
    return (raised[-1] if raised else root_cause(error).splitlines()[0])[:_SHOWN_CHARACTERS]


def _identity(record: set[str]) -> Column:
    """Hash of a row's origin and content; rows that share it are equal, and fail together."""
    return F.xxhash64(raw_bytes(record), coordinates(record))


def _with_parser(batch: SparkBatch, unparsed: DataFrame, parser: Parser) -> SparkBatch:
    stages = replace(batch.prepared.stages, parser=parser)
    return replace(batch, unparsed=unparsed, prepared=replace(batch.prepared, stages=stages))


def _marking_rows(parser: Parser, reasons: dict[int, str]) -> Parser:
    def parse(unparsed: DataFrame) -> DataFrame:
        parsed = parser(unparsed)
        known = F.create_map(*(F.lit(value) for pair in reasons.items() for value in pair))
        failed = known[_identity(record_fields(parsed.schema))]
        return parsed.withColumn(MALFORMED, F.coalesce(F.col(MALFORMED), failed))

    return parse


def _adding_files(parser: Parser, reasons: dict[SeenFile, str]) -> Parser:
    def parse(unparsed: DataFrame) -> DataFrame:
        parsed = parser(unparsed)
        rows = [
            (file.path_of_record, datetime.fromtimestamp(file.modified_ms / 1000, UTC), reason)
            for file, reason in reasons.items()
        ]
        files = unparsed.sparkSession.createDataFrame(rows, "path STRING, modified_at TIMESTAMP, reason STRING")
        return parsed.union(files.select(*_file_columns(parsed.schema)))

    return parse


def _file_columns(schema: StructType) -> Iterator[Column]:
    """Columns of a parsed row that stands for a whole file: where it lies, why it is malformed, and nothing else."""
    for field in schema.fields:
        if field.name == RECORD and isinstance(field.dataType, StructType):
            yield F.struct(*_known_fields(field.dataType, {"path", "modified_at"})).alias(RECORD)
        else:
            known = F.col("reason") if field.name == MALFORMED else F.lit(None).cast(field.dataType)
            yield known.alias(field.name)


def _known_fields(schema: StructType, known: set[str]) -> Iterator[Column]:
    for field in schema.fields:
        value = F.col(field.name) if field.name in known else F.lit(None).cast(field.dataType)
        yield value.alias(field.name)
