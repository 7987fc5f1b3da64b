"""Records into a Kafka topic, every one acknowledged."""

from collections.abc import Iterable

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # its stubs hide it

from jobs.pipeline.errors import UnavailableError

PARTITIONS = 2
TIMEOUT_SECONDS = 30


def create_topic(servers: str, topic: str, partitions: int = PARTITIONS) -> None:
    """Create the topic if there is none."""
    admin = AdminClient({"bootstrap.servers": servers})
    if topic not in admin.list_topics(timeout=TIMEOUT_SECONDS).topics:
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(TIMEOUT_SECONDS)


def count_records(servers: str, topic: str) -> int:
    """Sum of the partitions' end offsets."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "esclusa-count"})
    try:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic].partitions
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), TIMEOUT_SECONDS)[1] for p in partitions]
        return sum(ends)
    finally:
        consumer.close()


def produce(servers: str, topic: str, values: Iterable[bytes | None]) -> int:
    """Send values and wait until the broker has acknowledged all; returns how many."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "enable.idempotence": True})
    failures: list[str] = []
    sent = 0
    for value in values:
        while True:
            try:
                producer.produce(
                    topic, value, on_delivery=lambda error, _: failures.append(str(error)) if error else None
                )
                break
            except BufferError:
                producer.poll(0.1)
        sent += 1
        producer.poll(0)
    left = producer.flush(TIMEOUT_SECONDS)
    if left or failures:
        message = f"{left + len(failures)} of {sent} records were not acknowledged by {servers}: {failures[:1]}"
        raise UnavailableError(message)
    return sent


def produce_once(servers: str, topic: str, values: Iterable[bytes], expected: int) -> int:
    """Fill an empty topic; 0 if it already holds what is expected."""
    create_topic(servers, topic)
    return 0 if count_records(servers, topic) >= expected else produce(servers, topic, values)
