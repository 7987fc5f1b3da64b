"""Kafka topics: JSON, text or binary values."""

import json

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.pipeline.columns import read_ddl
from jobs.pipeline.offsets import OffsetRange, as_offsets
from jobs.pipeline.record import MALFORMED, RECORD, ROW_ID
from jobs.pipeline.secret_text import reveal
from jobs.pipeline.source_model import KafkaSource, ValueFormat
from jobs.pipeline.sources.kafka_client import require_broker, revealed
from jobs.pipeline.sources.text_values import Parser, compile_json, first_reason, text_reason

_STREAM_ONLY = frozenset(
    "maxOffsetsPerTrigger minOffsetsPerTrigger maxTriggerDelay startingOffsets startingOffsetsByTimestamp "
    "startingTimestamp startingOffsetsByTimestampStrategy".split()
)


def open_stream(spark: SparkSession, source: KafkaSource) -> DataFrame:
    """Records from the checkpoint's offsets on; the first time from `startingOffsets`, by default the earliest."""
    require_broker(source)
    options = {"startingOffsets": "earliest", "failOnDataLoss": "true"} | source.options
    return spark.readStream.format("kafka").options(**revealed(options)).load()


def open_sample(spark: SparkSession, source: KafkaSource) -> DataFrame:
    """The records that the topics hold now, as a static frame of the same columns."""
    require_broker(source)
    options = {key: value for key, value in source.options.items() if key not in _STREAM_ONLY}
    return spark.read.format("kafka").options(**revealed(options)).load()


def open_ranges(spark: SparkSession, source: KafkaSource, ranges: list[OffsetRange]) -> DataFrame:
    """Exactly the records of these ranges, as a static frame of the same columns; fails if one of them is gone."""
    named = {"subscribe", "subscribePattern", "assign"}
    options = {key: value for key, value in source.options.items() if key not in _STREAM_ONLY | named}
    partitions: dict[str, list[int]] = {}
    for one in ranges:
        partitions.setdefault(one.topic, []).append(one.partition)
    options |= {
        "assign": json.dumps(partitions),
        "startingOffsets": json.dumps(as_offsets(ranges, "start")),
        "endingOffsets": json.dumps(as_offsets(ranges, "until")),
        "failOnDataLoss": "true",
    }
    return spark.read.format("kafka").options(**revealed(options)).load()


def rebuild_records(quarantined: DataFrame, source: KafkaSource) -> DataFrame:
    """Rows of the quarantine, with ROW_ID -> the unparsed records; their headers are NULL, it has none."""
    known = [F.col("source")[name].alias(name) for name in ("key", "topic", "partition", "offset", "timestamp")]
    if reveal(source.options.get("includeHeaders", "false")).lower() == "true":
        known.append(F.lit(None).cast("array<struct<key:string,value:binary>>").alias("headers"))
    return quarantined.select(F.col("raw").alias("value"), *known, ROW_ID)


def compile_parser(columns: list[str], source: KafkaSource, ddl: str | None) -> Parser:
    """Parser of records with these columns; `_record` holds raw, key, topic, partition, offset, timestamp, headers."""
    raw = F.col("value")
    coordinates = [name for name in columns if name not in {"value", "timestampType"}]
    record = F.struct(raw.alias("raw"), *coordinates).alias(RECORD)
    match source.value_format:
        case ValueFormat.JSON:
            return compile_json(record, raw, read_ddl(ddl or ""), {})
        case ValueFormat.TEXT:
            text = raw.cast("string")
            reason = F.coalesce(first_reason(("null value (tombstone)", raw.isNull())), text_reason(text))
            return lambda unparsed: unparsed.select(record, reason.alias(MALFORMED), text.alias("value"))
        case ValueFormat.BINARY:
            fits = F.lit(None).cast("string").alias(MALFORMED)
            return lambda unparsed: unparsed.select(record, fits, raw)
