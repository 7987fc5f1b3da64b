"""Kafka topics: JSON, text or binary values."""

import json
import socket
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.pipeline.columns import read_ddl
from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.model import KafkaSource, ValueFormat
from jobs.pipeline.record import MALFORMED, RECORD, ROW_ID
from jobs.pipeline.secret_text import reveal
from jobs.pipeline.sources.text_values import Parser, compile_json, first_reason, text_reason

CONNECT_TIMEOUT_SECONDS = 5
_STREAM_ONLY = frozenset(
    "maxOffsetsPerTrigger minOffsetsPerTrigger maxTriggerDelay startingOffsets startingOffsetsByTimestamp "
    "startingTimestamp startingOffsetsByTimestampStrategy".split()
)


def open_stream(spark: SparkSession, source: KafkaSource) -> DataFrame:
    """Records from the checkpoint's offsets on; the first time from `startingOffsets`, by default the earliest."""
    _require_broker(source)
    options = {"startingOffsets": "earliest", "failOnDataLoss": "true"} | source.options
    return spark.readStream.format("kafka").options(**_revealed(options)).load()


def open_sample(spark: SparkSession, source: KafkaSource) -> DataFrame:
    """The records that the topics hold now, as a static frame of the same columns."""
    _require_broker(source)
    options = {key: value for key, value in source.options.items() if key not in _STREAM_ONLY}
    return spark.read.format("kafka").options(**_revealed(options)).load()


def read_topic_ids(spark: SparkSession, source: KafkaSource) -> dict[str, str]:
    """Ids of those topics of the source that are there, by name; asks the broker, with the stream's own options.

    A topic that is deleted and created again has another id, though its offsets may look the same.
    """
    _require_broker(source)
    jvm: Any = spark._jvm  # noqa: SLF001 - the client that Spark reads with takes all of its options
    settings = jvm.java.util.HashMap()
    for key, value in _revealed(source.options).items():
        if key.startswith("kafka."):
            settings.put(key.removeprefix("kafka."), value)
    admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(settings)
    try:
        names = admin.listTopics().names().get()
        wanted = jvm.java.util.ArrayList()
        for name in _topics(jvm, source, [str(name) for name in names]):
            wanted.add(name)
        found = admin.describeTopics(wanted).allTopicNames().get()
        return {str(name): str(found[name].topicId().toString()) for name in found}
    finally:
        admin.close()


def _topics(jvm: Any, source: KafkaSource, names: list[str]) -> list[str]:
    options = source.options
    if "subscribePattern" in options:
        return [name for name in names if jvm.java.util.regex.Pattern.matches(options["subscribePattern"], name)]
    chosen = json.loads(options["assign"]) if "assign" in options else options["subscribe"].split(",")
    return [name for name in names if name in {one.strip() for one in chosen}]


def rebuild_records(quarantined: DataFrame, source: KafkaSource) -> DataFrame:
    """Rows of the quarantine, with ROW_ID -> the unparsed records; their headers are NULL, it has none."""
    known = [F.col("source")[name].alias(name) for name in ("key", "topic", "partition", "offset", "timestamp")]
    if source.options.get("includeHeaders", "false").lower() == "true":
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


def _revealed(options: dict[str, str]) -> dict[str, str]:
    return {key: reveal(value) for key, value in options.items()}


def _require_broker(source: KafkaSource) -> None:
    """Ask before Spark does: its own answer to an absent broker is minutes of retries."""
    servers = [server.strip() for server in source.options["kafka.bootstrap.servers"].split(",")]
    failures = []
    for server in servers:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT_SECONDS).close()
        except (OSError, ValueError) as error:
            failures.append(f"{server} ({error})")
        else:
            return
    message = f"no Kafka broker answers at {', '.join(failures)}; start it, or correct kafka.bootstrap.servers"
    raise UnavailableError(message)
