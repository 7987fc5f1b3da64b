import socket

import pytest

from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.option_values import read_server
from jobs.pipeline.source_model import KafkaSource
from jobs.pipeline.sources.kafka_client import _topics, require_broker


def source(servers, **topics):
    options = {"kafka.bootstrap.servers": servers} | (topics or {"subscribe": "clicks"})
    return KafkaSource(type="kafka", value_format="text", options=options)


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "{}:{}".format(*server.getsockname())


@pytest.mark.parametrize("first", ["", "127.0.0.1:1, ", ", SASL_SSL://127.0.0.1:1,"])
def test_one_broker_that_answers_is_enough(listening, first):
    require_broker(source(f"{first}{listening}"))


@pytest.mark.parametrize("other", ["nonsense", "other:99999"])
def test_beside_one_that_answers_an_address_that_kafka_cannot_read_is_named(listening, other):
    with pytest.raises(UnavailableError, match=rf"no Kafka broker answers at {other} \("):
        require_broker(source(f"{listening},{other}"))


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("broker:9092", ("broker", 9092)),
        ("[::1]:9092", ("::1", 9092)),
        ("SASL_SSL://a.b-c_d:65535", ("a.b-c_d", 65535)),
        (":9092", ("localhost", 9092)),
    ],
)
def test_servers_are_read_as_kafka_reads_them(server, address):
    assert read_server(server) == address


def test_a_broker_whose_address_is_a_secret_is_asked(listening, monkeypatch):
    monkeypatch.setenv("SERVERS", f"127.0.0.1:1,{listening}")
    require_broker(source("${secret:SERVERS}"))


def test_a_broker_that_does_not_answer_is_named():
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 \("):
        require_broker(source("127.0.0.1:1"))


@pytest.mark.parametrize("port", ["0", "65536", "99999999999999999999", "٩٠٩٢"])
def test_a_port_that_no_server_can_have_is_named(port):
    with pytest.raises(UnavailableError, match=f"'{port}' is no port from 1 to 65535"):
        require_broker(source(f"127.0.0.1:{port}"))


def test_a_port_that_is_too_high_is_not_cut_to_one_that_answers(listening):
    host, port = listening.split(":")
    with pytest.raises(UnavailableError):
        require_broker(source(f"{host}:{int(port) + 65536}"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:hunter2", "127.0.0.1:99999999999999999999"])
def test_an_address_that_is_a_secret_is_not_shown(monkeypatch, address):
    monkeypatch.setenv("SERVERS", address)
    with pytest.raises(UnavailableError) as caught:
        require_broker(source("${secret:SERVERS}"))
    assert "${secret:SERVERS}" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    ("topics", "secret"),
    [
        ({"subscribe": "${secret:TOPICS}"}, "clicks, views"),
        ({"subscribe": "views,${secret:TOPICS}"}, "clicks"),
        ({"assign": "${secret:TOPICS}"}, '{"clicks": [0], "views": [0, 1]}'),
    ],
)
def test_a_topic_whose_name_is_a_secret_is_found(monkeypatch, topics, secret):
    monkeypatch.setenv("TOPICS", secret)
    found = _topics(None, source("127.0.0.1:1", **topics), ["clicks", "orders", "views"])
    assert found == ["clicks", "views"]
