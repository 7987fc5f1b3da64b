"""File directories: csv, json, parquet, orc, avro, xml, text."""

from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.readwriter import DataStreamReader
from pyspark.sql.types import StructField, StructType

from jobs.pipeline.columns import column_list, quote, read_ddl
from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.jvm import input_files
from jobs.pipeline.path_text import GLOB_SIGNS
from jobs.pipeline.record import MALFORMED, RECORD, ROW_ID
from jobs.pipeline.source_model import FileFormat, FilesSource
from jobs.pipeline.sources import partitions
from jobs.pipeline.sources.json_files import allows_comments, holds_nothing, split_records
from jobs.pipeline.sources.ranges import beyond_calendar
from jobs.pipeline.sources.text_values import (
    CORRUPT,
    Parser,
    compile_csv,
    compile_json,
    first_reason,
    separator_of,
    text_reason,
)
from jobs.pipeline.storage import matches

_STREAM_ONLY = frozenset(
    "maxFilesPerTrigger maxBytesPerTrigger latestFirst cleanSource sourceArchiveDir retentionDuration".split()
)
_LISTING = _STREAM_ONLY | {"recursiveFileLookup", "pathGlobFilter", "lineSep"}
_WITH_CORRUPT_COLUMN = frozenset({FileFormat.CSV, FileFormat.XML})
# Spark's Avro reader ships with PySpark, its short name only with a jar of its own.
_SPARK_NAMES = {FileFormat.AVRO: "org.apache.spark.sql.avro.AvroFileFormat"}
_META = "_esclusa_file"
_LITERALLY = {"__globPaths__": "false"}
"""Names of files are no patterns."""
_UNREADABLE = (PySparkException, Py4JJavaError)
"""What Spark raises over files that it cannot learn columns from."""
_FILES_TRIED = 20
_NEVER = "36500d"
"""As `maxFileAge`: Spark would pass over a file that lands with an older time than what it has read."""
HEADER_DIFFERS = "HEADER_DIFFERS"
"""Stands in the error of a file whose header does not fit the schema."""
_LINE = "value"


def open_stream(spark: SparkSession, source: FilesSource, ddl: str | None) -> DataFrame:
    """New files under the path, each once: lines of text, or the format's own columns, plus file coordinates."""
    _require_path(spark, source.path)
    return _open(spark.readStream.options(**_reader_options(source), maxFileAge=_NEVER), spark, source, ddl)


def open_sample(spark: SparkSession, source: FilesSource, ddl: str | None) -> DataFrame:
    """All files under the path, as a static frame of the same columns."""
    _require_path(spark, source.path)
    options = {key: value for key, value in _reader_options(source).items() if key not in _STREAM_ONLY}
    return _open(spark.read.options(**options), spark, source, ddl)


def open_files(spark: SparkSession, source: FilesSource, ddl: str | None, paths: list[str]) -> DataFrame:
    """These files, as a static frame of the same columns; names are taken literally."""
    options = {key: value for key, value in _reader_options(source).items() if key not in _STREAM_ONLY}
    options |= _LITERALLY | _where_partitions_begin(source)
    return _open(spark.read.options(**options), spark, source, ddl, paths)


def rebuild_lines(quarantined: DataFrame, source: FilesSource, ddl: str | None) -> DataFrame:
    """Rows of the quarantine, with ROW_ID -> the unparsed lines that they came from, and their ROW_ID.

    Runs a job where there is a schema, to learn which of its columns the paths hold.
    """
    file = F.struct(*(F.col("source")[name].alias(name) for name in ("path", "modified_at", "block_start")))
    columns = [F.lit(None).cast("string").alias(name) for name in _quarantined_partitions(quarantined, source, ddl)]
    return quarantined.select(F.col("raw").cast("string").alias(_LINE), file.alias(_META), ROW_ID, *columns)


def partition_names(columns: list[str]) -> set[str]:
    """Of the columns of text files those that are partition directories, in lower case."""
    return {name.lower() for name in columns} - {_LINE, _META, ROW_ID}


def count_files(spark: SparkSession, source: FilesSource) -> int:
    """Files under the path as Spark lists them, hidden and filtered ones left out."""
    return len(input_files(_listing(spark, source)))


def compile_parser(columns: list[str], source: FilesSource, ddl: str | None) -> Parser:
    """Parser of rows with these columns; `_record` holds raw or columns, path, modified_at, block_start.

    Header lines and blank lines are no rows.
    """
    if not source.is_text:
        from_text = source.format in _WITH_CORRUPT_COLUMN
        return _compile_columns(columns, read_ddl(ddl) if ddl and from_text else StructType())
    line = F.col(_LINE)
    row_id = [F.col(ROW_ID)] if ROW_ID in columns else []
    record = _record(line.cast("binary").alias("raw"), *row_id)
    if source.format is FileFormat.TEXT:
        return lambda unparsed: unparsed.select(record, text_reason(line).alias(MALFORMED), line)
    declared = read_ddl(ddl or "")
    schema, in_path = partitions.split_schema(declared, partition_names(columns))
    is_data = _is_data_line(source, schema)
    if source.format is FileFormat.JSON:
        parser = compile_json(record, line.cast("binary"), schema, _parsing(source))
    else:
        parser = compile_csv(record, line, schema, _parsing(source))
    if not in_path:
        return lambda unparsed: parser(unparsed.where(is_data))
    return lambda unparsed: parser(unparsed.where(is_data)).select(*_with_partitions(declared, in_path))


def _listing(spark: SparkSession, source: FilesSource) -> DataFrame:
    """The files under the path as lines, with the columns of partition directories; nothing of them is read."""
    options = {key: value for key, value in source.options.items() if key in _LISTING - _STREAM_ONLY}
    return spark.read.options(**options).format("text").load(source.path)


def _quarantined_partitions(quarantined: DataFrame, source: FilesSource, ddl: str | None) -> list[str]:
    if ddl is None or not partitions.has_partitions(source):
        return []
    folder = F.regexp_extract("source.path", "^.*/", 0)
    found = quarantined.select(folder.alias("folder")).where("folder > ''").distinct().toArrow()["folder"].to_pylist()
    names = partitions.names_in_paths([unquote(path) for path in found], source.path)
    return [name for name in read_ddl(ddl).fieldNames() if name.lower() in names]


def _require_path(spark: SparkSession, path: str) -> None:
    if not matches(spark, path):
        message = f"source path {path} does not exist; create the directory, or correct source.path"
        raise UnavailableError(message)


def _parsing(source: FilesSource) -> dict[str, str]:
    """Options for the text of one record."""
    return {key: value for key, value in source.options.items() if key not in _LISTING | {"multiLine"}}


def _reader_options(source: FilesSource) -> dict[str, str]:
    if source.is_text:
        return {key: value for key, value in source.options.items() if key in _LISTING}
    if source.format not in _WITH_CORRUPT_COLUMN:
        return source.options
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
    if source.format is FileFormat.CSV:
        options["enforceSchema"] = "false"  # a header with other names is an error, not a line to pass over
    return source.options | options


def _where_partitions_begin(source: FilesSource) -> dict[str, str]:
    """For files given by name: partition columns (`day=2026-01-01/`) as the stream has them; a glob cannot say."""
    if source.is_text or GLOB_SIGNS.intersection(source.path):
        return {"recursiveFileLookup": "true"}
    return {"basePath": source.path}


def _open(
    reader: DataFrameReader | DataStreamReader,
    spark: SparkSession,
    source: FilesSource,
    ddl: str | None,
    paths: list[str] | None = None,
) -> DataFrame:
    splits = source.format is FileFormat.JSON and source.is_multi_line
    if source.is_text:
        reader = reader.format("text").option("wholetext", splits)
    else:
        reader = reader.format(_spark_name(source)).schema(_columns_on_disk(spark, source, ddl))
    rows = reader.load(paths or source.path)  # type: ignore[arg-type] # only a static reader is given paths
    file = F.struct(
        F.col("_metadata.file_path").alias("path"),
        F.col("_metadata.file_modification_time").alias("modified_at"),
        F.col("_metadata.file_block_start").alias("block_start"),
    )
    if splits:
        record = F.explode(split_records(F.col(_LINE), _parsing(source))).alias(_LINE)
        return rows.select(record, *map(quote, rows.columns[1:]), file.alias(_META))
    return rows.select("*", file.alias(_META))


def _columns_on_disk(spark: SparkSession, source: FilesSource, ddl: str | None) -> str:
    if ddl is not None:
        columns = column_list(read_ddl(ddl))
        return f"{columns}, {CORRUPT} string" if source.format in _WITH_CORRUPT_COLUMN else columns
    return column_list(_learn_columns(spark, source))


def _learn_columns(spark: SparkSession, source: FilesSource) -> StructType:
    """Columns as Spark learns them; where a file stops it, those of the newest file (by name) that can be read."""
    options = {key: value for key, value in _reader_options(source).items() if key not in _STREAM_ONLY}
    reader = spark.read.format(_spark_name(source)).options(**options)
    try:
        return reader.load(source.path).schema
    except _UNREADABLE as error:
        learned = next(_learn_from_files(reader.options(**_LITERALLY), _listing(spark, source)), None)
        if learned:
            return learned
        message = (
            f"no {source.format} file in {source.path} that can be read, to learn the columns from; "
            "place one, or name a schema (source.schema)"
        )
        raise UnavailableError(message) from error


def _learn_from_files(reader: DataFrameReader, listing: DataFrame) -> Iterator[StructType]:
    in_path = listing.schema.fields[1:]  # behind the line
    named = {field.name for field in in_path}
    for url in sorted(input_files(listing), reverse=True)[:_FILES_TRIED]:
        with suppress(*_UNREADABLE):
            columns = reader.load(unquote(url)).schema.fields
            yield StructType([field for field in columns if field.name not in named] + in_path)


def _spark_name(source: FilesSource) -> str:
    return _SPARK_NAMES.get(source.format, source.format.value)


def _record(*raw: Column) -> Column:
    file = F.col(_META)
    return F.struct(*raw, *(file[name].alias(name) for name in ("path", "modified_at", "block_start"))).alias(RECORD)


def _compile_columns(columns: list[str], schema: StructType) -> Parser:
    """Parser of rows that Spark has read from text by this schema, or from a format that has its own (no fields)."""
    names = [name for name in columns if name not in {_META, CORRUPT}]
    data = [F.col(quote(name)) for name in names]
    corrupt = F.col(CORRUPT) if CORRUPT in columns else F.lit(None).cast("string")
    row = F.struct(*data)
    record = _record(corrupt.cast("binary").alias("raw"), row.alias("columns"))
    reason = first_reason(
        ("malformed record, or a field does not fit its type", corrupt.isNotNull()),
        *beyond_calendar(row, schema),
    )
    return lambda unparsed: unparsed.select(record, reason.alias(MALFORMED), *data)


def _with_partitions(schema: StructType, in_path: list[StructField]) -> Iterator[Column]:
    """The columns of a parsed row, in the schema's order, with what its path says."""
    path = F.col(f"{RECORD}.path")
    yield F.col(RECORD)
    yield F.coalesce(F.col(MALFORMED), first_reason(*partitions.path_reasons(path, in_path))).alias(MALFORMED)
    for field in schema.fields:
        name = quote(field.name)
        yield partitions.value_in_path(path, field).alias(field.name) if field in in_path else F.col(name)


def _is_data_line(source: FilesSource, schema: StructType) -> Column:
    """Not blank, not a comment, and not the header: a line that holds just the columns' names, in order."""
    line = F.col(_LINE)
    is_data = F.trim(line) != ""
    if source.format is FileFormat.JSON and allows_comments(source.options):
        return ~holds_nothing(line, source.options)
    comment = source.options.get("comment")
    if comment:
        is_data = is_data & ~line.startswith(comment)
    if source.options.get("header", "false").lower() == "true":
        is_data = (
            is_data & ~F.trim(line).isin(_header_lines(source, schema)) & _has_no_other_order(line, source, schema)
        )
    return is_data


def _has_no_other_order(line: Column, source: FilesSource, schema: StructType) -> Column:
    """TRUE, or an error: a header with the schema's names in another order would put every value in a wrong column."""
    names = F.split(F.regexp_replace(F.trim(line), r'["\ufeff]', ""), f"\\Q{separator_of(source.options)}\\E")
    is_header = F.array_sort(names) == F.array(*map(F.lit, sorted(schema.fieldNames())))
    as_long = F.length(line) >= sum(map(len, schema.fieldNames()))
    is_permuted = as_long & line.contains(schema.fieldNames()[0]) & is_header
    message = F.concat(F.lit(f"{HEADER_DIFFERS}: a header has another order than the schema: "), line)
    return F.when(is_permuted, F.raise_error(message).cast("boolean")).otherwise(F.lit(True))


def _header_lines(source: FilesSource, schema: StructType) -> list[str]:
    """The header as an upstream may write it: bare, or every name in quotes; with or without a byte order mark."""
    separator, mark = separator_of(source.options), source.options.get("quote", '"') or '"'
    quoted = [f"{mark}{name.replace(mark, mark * 2)}{mark}" for name in schema.fieldNames()]
    needed = [
        quoted_name if separator in name or mark in name else name
        for name, quoted_name in zip(schema.fieldNames(), quoted, strict=True)
    ]
    lines = (separator.join(needed), separator.join(quoted))
    return [order_mark + line for order_mark in ("", "\ufeff") for line in lines]
