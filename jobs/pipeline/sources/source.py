"""Source -> DataFrame of unparsed rows, and the parser for them. Dispatches on the kind."""

from typing import assert_never

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import CalendarIntervalType

from jobs.pipeline.checkpoint import SeenFile
from jobs.pipeline.columns import read_ddl
from jobs.pipeline.errors import ConfError, Problem
from jobs.pipeline.model import Pipeline
from jobs.pipeline.offsets import OffsetRange, Offsets
from jobs.pipeline.source_model import FilesSource, KafkaSource
from jobs.pipeline.sources import files, kafka, kafka_client
from jobs.pipeline.sources.file_faults import has_glob_signs, refuse_mixed
from jobs.pipeline.sources.partitions import has_partitions, lacks_partition, undeclared
from jobs.pipeline.sources.ranges import leaf_test
from jobs.pipeline.sources.text_values import Parser


def open_stream(spark: SparkSession, pipeline: Pipeline) -> DataFrame:
    """Streaming DataFrame of unparsed rows; UnavailableError if the source does not answer."""
    match pipeline.spec.source:
        case FilesSource() as source:
            return files.open_stream(spark, source, pipeline.schema_ddl)
        case KafkaSource() as source:
            return kafka.open_stream(spark, source)
        case _ as never:
            assert_never(never)


def open_files(spark: SparkSession, pipeline: Pipeline, paths: list[str]) -> DataFrame:
    """Static DataFrame of the unparsed rows of these files; for file sources only."""
    source = pipeline.spec.source
    if not isinstance(source, FilesSource):
        message = f"{source.type} holds no files"
        raise TypeError(message)
    return files.open_files(spark, source, pipeline.schema_ddl, paths)


def open_ranges(spark: SparkSession, pipeline: Pipeline, ranges: list[OffsetRange]) -> DataFrame:
    """Static DataFrame of the unparsed records of these offsets; for Kafka only."""
    source = pipeline.spec.source
    if not isinstance(source, KafkaSource):
        message = f"{source.type} has no offsets"
        raise TypeError(message)
    return kafka.open_ranges(spark, source, ranges)


def count_files(spark: SparkSession, pipeline: Pipeline) -> int | None:
    """Files that the source lists now; None for a source that is no directory."""
    source = pipeline.spec.source
    return files.count_files(spark, source) if isinstance(source, FilesSource) else None


def is_misread(unparsed: DataFrame, pipeline: Pipeline, seen: list[SeenFile]) -> bool:
    """Whether Spark's stream reads files of a batch twice or not at all, so that they have to be read by name.

    Raises StateMismatchError for files beside partition directories that are not read as text: by name neither.
    """
    source = pipeline.spec.source
    if not isinstance(source, FilesSource):
        return False
    if source.is_text:
        names = files.partition_names(unparsed.columns)
        return has_glob_signs(seen) or any(lacks_partition(file.plain_path, names) for file in seen)
    refuse_mixed(source, seen)
    return has_glob_signs(seen)


def read_topic_ids(spark: SparkSession, pipeline: Pipeline) -> dict[str, str]:
    """Ids of the source's topics by name; empty for a source that has none."""
    source = pipeline.spec.source
    return kafka_client.read_topic_ids(spark, source) if isinstance(source, KafkaSource) else {}


def read_bounds(spark: SparkSession, pipeline: Pipeline, position: Offsets) -> tuple[Offsets, Offsets]:
    """Of the partitions of a position that are there: the earliest offset that each holds, and its end."""
    source = pipeline.spec.source
    return kafka_client.read_bounds(spark, source, position) if isinstance(source, KafkaSource) else ({}, {})


def open_sample(spark: SparkSession, pipeline: Pipeline, rows: int) -> DataFrame:
    """Static DataFrame of at most `rows` unparsed rows, from the oldest that the source holds."""
    match pipeline.spec.source:
        case FilesSource() as source:
            return files.open_sample(spark, source, pipeline.schema_ddl).limit(rows)
        case KafkaSource() as source:
            return kafka.open_sample(spark, source).limit(rows)
        case _ as never:
            assert_never(never)


def rebuild_unparsed(quarantined: DataFrame, pipeline: Pipeline) -> DataFrame:
    """Rows of the quarantine, with ROW_ID -> the unparsed rows that they came from; the source itself is not asked.

    Raises ConfError for a format of which the quarantine holds no records to parse again.
    """
    match pipeline.spec.source:
        case FilesSource() as source if not source.is_text:
            message = f"{source.format} files cannot be replayed, only csv and text by lines, json, and Kafka"
            raise ConfError([Problem(pipeline.file, 1, "source.format", message)])
        case FilesSource() as source:
            return files.rebuild_lines(quarantined, source, pipeline.schema_ddl)
        case KafkaSource() as source:
            return kafka.rebuild_records(quarantined, source)
        case _ as never:
            assert_never(never)


def compile_parser(unparsed: DataFrame, pipeline: Pipeline) -> Parser:
    """The parser for rows like those of `unparsed`; starts no Spark job.

    Raises ConfError for an INTERVAL without units in the schema, and for partition columns that it lacks.
    """
    _refuse_intervals(pipeline)
    match pipeline.spec.source:
        case FilesSource() as source:
            _refuse_undeclared_partitions(unparsed, pipeline)
            return files.compile_parser(unparsed.columns, source, pipeline.schema_ddl)
        case KafkaSource() as source:
            return kafka.compile_parser(unparsed.columns, source, pipeline.schema_ddl)
        case _ as never:
            assert_never(never)


def _refuse_undeclared_partitions(unparsed: DataFrame, pipeline: Pipeline) -> None:
    source = pipeline.spec.source
    if not isinstance(source, FilesSource) or not source.is_text or not pipeline.schema_ddl:
        return
    names = files.partition_names(unparsed.columns)
    if names and not has_partitions(source):
        message = f"{source.path} is a pattern above partition directories ({min(names)}=…/); name the directory itself"
        raise ConfError([Problem(pipeline.file, 1, "source.path", message)])
    for name in undeclared(read_ddl(pipeline.schema_ddl), names):
        message = (
            f"it lacks the column '{name}', for which {source.path} has directories ({name}=…/); declare it; "
            f"or, if they are no columns, set recursiveFileLookup: true"
        )
        raise ConfError([Problem(pipeline.file, 1, "source.schema", message)])


def _refuse_intervals(pipeline: Pipeline) -> None:
    schema = read_ddl(pipeline.schema_ddl) if pipeline.schema_ddl else None
    if schema and leaf_test(
        schema, lambda type_: (lambda value: value) if isinstance(type_, CalendarIntervalType) else None
    ):
        message = "Spark reads bad text for an INTERVAL as NULL; write STRING, or INTERVAL DAY TO SECOND"
        raise ConfError([Problem(pipeline.file, 1, "source.schema", message)])
