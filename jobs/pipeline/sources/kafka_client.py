"""Questions to a Kafka broker beside the stream, by the JVM's own clients and with the stream's own options."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.pipeline.errors import UnavailableError, root_cause
from jobs.pipeline.jvm import jvm_class
from jobs.pipeline.offsets import OffsetRange, Offsets
from jobs.pipeline.option_values import read_server, split_servers
from jobs.pipeline.secret_text import REFERENCE, reveal, reveal_quoted
from jobs.pipeline.source_model import KafkaSource

CONNECT_TIMEOUT_SECONDS = 5
_STALL_SECONDS = 60
_POLL_MS = 1000
_JAAS = "kafka.sasl.jaas.config"
_PARTITION = "org.apache.kafka.common.TopicPartition"
_BYTES = "org.apache.kafka.common.serialization.ByteArrayDeserializer"


def require_broker(source: KafkaSource) -> None:
    """Ask before Spark does: its own answer to an absent broker is minutes of retries."""
    written = source.options["kafka.bootstrap.servers"]
    servers = split_servers(reveal(written))
    # Kafka takes none of the servers if it cannot read one, and shows that one, secret or not.
    failures = list(_unreadable(servers)) or _unanswered(servers)
    if servers and not failures:
        return
    asked = written if REFERENCE.search(written) else ", ".join(failures)
    message = f"no Kafka broker answers at {asked}; start it, or correct kafka.bootstrap.servers"
    raise UnavailableError(message)


def _unreadable(servers: list[str]) -> Iterator[str]:
    for server in servers:
        try:
            read_server(server)
        except ValueError as error:
            yield f"{server} ({error})"


def _unanswered(servers: list[str]) -> list[str]:
    """Those that do not answer; none if one does."""
    failures = []
    for server in servers:
        try:
            socket.create_connection(read_server(server), CONNECT_TIMEOUT_SECONDS).close()
        except OSError as error:
            failures.append(f"{server} ({error})")
        else:
            return []
    return failures


def revealed(options: dict[str, str]) -> dict[str, str]:
    """Options as Spark takes them, secrets in them."""
    return {key: reveal_quoted(value) if key == _JAAS else reveal(value) for key, value in options.items()}


def read_topic_ids(spark: SparkSession, source: KafkaSource) -> dict[str, str]:
    """Ids of the source's topics, by name; UnavailableError for one that is named and is not there.

    A topic that is deleted and created again has another id, though its offsets may look the same.
    """
    with _admin(spark, source) as admin:
        names = admin.listTopics().names().get()
        wanted = jvm_class(spark, "java.util.ArrayList")()
        for name in _topics(spark, source, [str(name) for name in names]):
            wanted.add(name)
        found = admin.describeTopics(wanted).allTopicNames().get()
        return {str(name): str(found[name].topicId().toString()) for name in found}


def read_bounds(spark: SparkSession, source: KafkaSource, position: Offsets) -> tuple[Offsets, Offsets]:
    """Of the partitions of a position the offsets that the topics hold: the earliest, and the end.

    A topic that is gone is left out.
    """
    with _admin(spark, source) as admin:
        there = {str(name) for name in admin.listTopics().names().get()}
        partition_of = jvm_class(spark, _PARTITION)
        partitions = {
            (topic, partition): partition_of(topic, int(partition))
            for topic in there & position.keys()
            for partition in position[topic]
        }
        spec = jvm_class(spark, "org.apache.kafka.clients.admin.OffsetSpec")
        ends = (spec.earliest(), spec.latest())
        earliest, latest = (_list_offsets(spark, admin, partitions, which) for which in ends)
    return earliest, latest


def _list_offsets(spark: SparkSession, admin: Any, partitions: dict[tuple[str, str], Any], which: Any) -> Offsets:
    asked = jvm_class(spark, "java.util.HashMap")()
    for partition in partitions.values():
        asked.put(partition, which)
    found = admin.listOffsets(asked).all().get() if partitions else {}
    offsets: Offsets = {}
    for (topic, number), partition in partitions.items():
        offsets.setdefault(topic, {})[number] = int(found[partition].offset())
    return offsets


def count_records(spark: SparkSession, source: KafkaSource, ranges: list[OffsetRange]) -> int:
    """Records in these ranges as a consumer of its own reads them, with the stream's isolation level.

    Fewer than offsets: aborted records, the markers of transactions, and what compaction removed are none. Raises
    UnavailableError if the broker hands nothing over for a minute; the client's own error if a range's start is gone.
    """
    settings = _settings(spark, source)
    for key, value in {
        "key.deserializer": _BYTES,
        "value.deserializer": _BYTES,
        "enable.auto.commit": "false",
        "auto.offset.reset": "none",
        "max.poll.records": "10000",
    }.items():
        settings.put(key, value)
    consumer = jvm_class(spark, "org.apache.kafka.clients.consumer.KafkaConsumer")(settings)
    try:
        return sum(_count_range(spark, consumer, one) for one in ranges if one.count)
    finally:
        consumer.close()


def _count_range(spark: SparkSession, consumer: Any, wanted: OffsetRange) -> int:
    partition = jvm_class(spark, _PARTITION)(wanted.topic, wanted.partition)
    consumer.assign(jvm_class(spark, "java.util.Collections").singletonList(partition))
    consumer.seek(partition, wanted.start)
    patience = jvm_class(spark, "java.time.Duration").ofMillis(_POLL_MS)
    count, position, moved = 0, wanted.start, time.monotonic()
    while position < wanted.until:
        records = consumer.poll(patience).records(partition)
        reached = int(consumer.position(partition))
        if reached > wanted.until:
            count += sum(int(record.offset()) < wanted.until for record in records)
        else:
            count += int(records.size())
        if reached == position and time.monotonic() - moved > _STALL_SECONDS:
            message = f"the broker hands over nothing of {wanted} since {_STALL_SECONDS} seconds"
            raise UnavailableError(message)
        position, moved = reached, (time.monotonic() if reached > position else moved)
    return count


@contextmanager
def _admin(spark: SparkSession, source: KafkaSource) -> Iterator[Any]:
    """An AdminClient, of the JVM, which takes all options of the stream.

    A broker that does not answer it in time (kafka.default.api.timeout.ms) is unavailable.
    """
    require_broker(source)
    client = jvm_class(spark, "org.apache.kafka.clients.admin.AdminClient")
    admin = client.create(_settings(spark, source))
    try:
        yield admin
    except Py4JJavaError as error:
        if "TimeoutException" not in str(error):
            raise
        servers = source.options["kafka.bootstrap.servers"]
        message = f"the Kafka broker at {servers} takes connections and does not answer: {root_cause(error)}"
        raise UnavailableError(message) from error
    finally:
        admin.close()


def _settings(spark: SparkSession, source: KafkaSource) -> Any:
    settings = jvm_class(spark, "java.util.HashMap")()
    for key, value in revealed(source.options).items():
        if key.startswith("kafka."):
            settings.put(key.removeprefix("kafka."), value)
    return settings


def _topics(spark: SparkSession, source: KafkaSource, names: list[str]) -> list[str]:
    options = revealed(source.options)
    if "subscribePattern" in options:
        pattern = jvm_class(spark, "java.util.regex.Pattern").compile(options["subscribePattern"])
        return [name for name in names if pattern.matcher(name).find()]  # in the name, as Spark looks for it
    key = "assign" if "assign" in options else "subscribe"
    listed = json.loads(options[key]) if key == "assign" else options[key].split(",")
    chosen = [one.strip() for one in listed if one.strip()]
    absent = [name for name in chosen if name not in names]
    if absent:
        asked = source.options[key] if REFERENCE.search(source.options[key]) else ", ".join(absent)
        message = f"the broker has no topic {asked}; create it, or correct source.options.{key}"
        raise UnavailableError(message)
    return [name for name in names if name in chosen]
