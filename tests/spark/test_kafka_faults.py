"""A broker and a network that fail. Each test shows that the fault happened, and then that each record is there once."""

import os
import signal
import socket
import threading
import time

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from jobs.dev.broker import running_broker, start_broker, stop_broker
from jobs.dev.produce import create_topic, produce
from jobs.pipeline import runner
from jobs.pipeline.errors import OffsetsWentBackError, UnavailableError
from jobs.testing.proxy import Fault, running_proxy

TIMEOUT_SECONDS = 30
PATIENCE_SECONDS = 60
SMALL_FETCHES = {"kafka.max.partition.fetch.bytes": "50000", "kafka.fetch.max.bytes": "50000"}
SHORT_PATIENCE = {"kafka.request.timeout.ms": "3000", "kafka.default.api.timeout.ms": "5000"}


class CrashError(Exception):
    """Stands for a kill."""


@pytest.fixture
def own_broker(tmp_path):
    """A broker that a test may kill; its folder, and where it is."""
    folder = tmp_path / "kafka"
    with running_broker(folder) as broker:
        yield folder, broker


def kill(folder, broker):
    os.kill(broker.pid, signal.SIGKILL)
    os.waitpid(broker.pid, 0)
    assert not broker.is_alive
    (folder / "broker.json").unlink()


def wait_until(is_true):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def add_partition(servers, topic, total):
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_partitions([NewPartitions(topic, total)])[topic].result(TIMEOUT_SECONDS)


def send(servers, topic, values, partition):
    producer = Producer({"bootstrap.servers": servers})
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(TIMEOUT_SECONDS) == 0


def before_the_first_batch(monkeypatch, act):
    """Run something once a batch is planned and has not been read."""
    commit, todo = runner.commit_batch, [act]
    monkeypatch.setattr(runner, "commit_batch", lambda *of: (todo and todo.pop()(), commit(*of)))


@pytest.mark.slow
@pytest.mark.fault("R1")
def test_broker_that_is_killed_under_a_batch_and_comes_back_costs_nothing_but_time(bench, own_broker, monkeypatch):
    folder, broker = own_broker
    create_topic(broker.servers, "t", 2)
    produce(broker.servers, "t", [str(number).encode() for number in range(100)])
    bench.define_topic(broker.servers, "t")
    restart = threading.Timer(5, lambda: start_broker(folder, broker.port))
    before_the_first_batch(monkeypatch, lambda: (kill(folder, broker), restart.start()))
    [batch] = bench.run()
    restart.join()
    assert batch.duration_ms["write"] > 5000
    assert bench.values() == sorted(str(number) for number in range(100))


@pytest.mark.slow
def test_broker_that_stays_away_is_an_unavailable_source_and_the_next_run_reads_the_batch(
    bench, own_broker, monkeypatch
):
    folder, broker = own_broker
    create_topic(broker.servers, "t", 1)
    produce(broker.servers, "t", [b"a"])
    bench.define_topic(broker.servers, "t", **SHORT_PATIENCE, **{"kafkaConsumer.pollTimeoutMs": "3000"})
    with monkeypatch.context() as patch:
        before_the_first_batch(patch, lambda: kill(folder, broker))
        with pytest.raises(UnavailableError):
            bench.run()
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="no Kafka broker answers"):
        bench.run()
    assert time.monotonic() - began < 20
    assert bench.target() == []
    start_broker(folder, broker.port)
    bench.run()
    assert bench.values() == ["a"]


@pytest.mark.fault("R2")
def test_broker_that_takes_connections_and_says_nothing_is_unavailable_in_bounded_time(bench):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        servers = f"127.0.0.1:{mute.getsockname()[1]}"
        bench.define_topic(servers, "t", **{"kafka.request.timeout.ms": "2000", "kafka.default.api.timeout.ms": "4000"})
        began = time.monotonic()
        with pytest.raises(UnavailableError, match=f"broker at {servers} takes connections and does not answer"):
            bench.run()
        assert time.monotonic() - began < 20


@pytest.mark.fault("R5")
def test_partition_added_after_a_crash_or_in_a_run_is_read_from_its_beginning(bench, servers, topic, monkeypatch):
    bench.define_topic(servers, topic, maxOffsetsPerTrigger=1)
    send(servers, topic, [b"0a", b"0b"], 0)

    def crash():
        raise CrashError("killed")

    with monkeypatch.context() as patch:
        before_the_first_batch(patch, crash)
        with pytest.raises(Exception, match="killed"):
            bench.run()
    assert (bench.folder / "state/checkpoints/p/offsets/0").exists()
    add_partition(servers, topic, 2)
    send(servers, topic, [b"1a"], 1)

    def add_another():
        add_partition(servers, topic, 3)
        send(servers, topic, [b"2a"], 2)

    with monkeypatch.context() as patch:
        before_the_first_batch(patch, add_another)
        bench.run()
    bench.run()
    assert bench.values() == ["0a", "0b", "1a", "2a"]


@pytest.mark.fault("R6")
def test_open_transaction_and_what_is_behind_it_are_waited_for(bench, servers, topic):
    bench.define_topic(servers, topic, **{"kafka.isolation.level": "read_committed"})
    producer = Producer({"bootstrap.servers": servers, "transactional.id": topic})
    producer.init_transactions(TIMEOUT_SECONDS)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    producer.flush(TIMEOUT_SECONDS)
    produce(servers, topic, [b"behind"])
    bench.run()
    assert bench.target() == []
    producer.commit_transaction(TIMEOUT_SECONDS)
    bench.run()
    assert bench.values() == ["behind", "open"]


@pytest.mark.slow
def test_offsets_that_compaction_took_are_counted_and_are_no_loss(bench, tmp_path):
    settings = {"log.cleaner.backoff.ms": 100}
    folder = tmp_path / "kafka"
    broker = start_broker(folder, settings=settings)
    try:
        config = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
        admin = AdminClient({"bootstrap.servers": broker.servers})
        admin.create_topics([NewTopic("t", 1, 1, config=config)])["t"].result(TIMEOUT_SECONDS)
        producer = Producer({"bootstrap.servers": broker.servers})
        for number in range(20):
            producer.produce("t", str(number).encode(), key=b"k")
        producer.flush(TIMEOUT_SECONDS)
        segments = folder / "logs" / "t-0"

        def is_compacted():
            producer.produce("t", b"end", key=b"end")
            producer.flush(TIMEOUT_SECONDS)
            first = segments / f"{0:020d}.log"
            return first.stat().st_size < 200

        wait_until(is_compacted)
        bench.define_topic(broker.servers, "t")
        bench.run()
    finally:
        stop_broker(folder)
    [row] = bench.ledger()
    assert row["source_gaps"] >= 19
    assert row["rows_read"] == row["source_count"] - row["source_gaps"]
    assert bench.values().count("19") == 1


@pytest.mark.fault("R7")
def test_log_whose_end_the_broker_lost_is_refused(bench, own_broker):
    folder, broker = own_broker
    create_topic(broker.servers, "t", 1)
    log = folder / "logs" / "t-0" / f"{0:020d}.log"
    produce(broker.servers, "t", [b"a"])
    wait_until(lambda: log.stat().st_size > 0)
    size = log.stat().st_size
    produce(broker.servers, "t", [b"b", b"c"])
    bench.define_topic(broker.servers, "t")
    bench.run()
    kill(folder, broker)
    os.truncate(log, size)
    start_broker(folder, broker.port)
    with pytest.raises(OffsetsWentBackError, match=r"t-0 from 1 until 3 \(2\) are gone"):
        bench.run()
    produce(broker.servers, "t", [b"d"])
    with pytest.raises(OffsetsWentBackError, match=r"t-0 from 2 until 3 \(1\) are gone"):
        bench.run()
    assert bench.values() == ["a", "b", "c"]


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    """A broker that is reached through a proxy only; where, and the proxy."""
    folder = tmp_path_factory.mktemp("proxied")
    with running_proxy() as proxy:
        settings = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port}"}
        proxy.target_port = start_broker(folder, settings=settings).port
        try:
            yield f"127.0.0.1:{proxy.port}", proxy
        finally:
            stop_broker(folder)


@pytest.mark.fault("R8")
@pytest.mark.parametrize(
    "fault",
    [Fault.CUT, Fault.RESET, *(pytest.param(slow, marks=pytest.mark.slow) for slow in (Fault.DELAY, Fault.SILENCE))],
)
def test_connections_that_are_lost_in_the_middle_of_a_batch_lose_no_record(bench, proxied, fault):
    servers, proxy = proxied
    create_topic(servers, fault, 1)
    records = [f"{number:0>10000}".encode() for number in range(200)]
    produce(servers, fault, records)
    bench.define_topic(servers, fault, **SMALL_FETCHES, **SHORT_PATIENCE)
    proxy.arm(fault, after_bytes=1_000_000)
    bench.run()
    assert proxy.struck > 0
    assert bench.values() == sorted(record.decode() for record in records)
