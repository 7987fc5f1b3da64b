import pytest
from confluent_kafka.admin import AdminClient

from jobs.dev.broker import running_broker
from jobs.dev.produce import create_topic, produce
from jobs.pipeline.errors import TopicRecreatedError

TIMEOUT_SECONDS = 30


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with running_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.servers


def recreate(servers, topic):
    admin = AdminClient({"bootstrap.servers": servers})
    admin.delete_topics([topic])[topic].result(TIMEOUT_SECONDS)
    create_topic(servers, topic, 1)


@pytest.mark.fault("R4")
def test_topic_that_was_made_anew_is_refused_though_its_offsets_look_right(bench, servers):
    """With more records than the checkpoint has read, neither Spark nor the offsets tell: two would be skipped."""
    create_topic(servers, "t", 1)
    produce(servers, "t", [b"a", b"b"])
    options = f"{{kafka.bootstrap.servers: '{servers}', subscribe: t}}"
    bench.define(source=f"{{type: kafka, value_format: text, options: {options}}}")
    bench.run()
    assert len(bench.target()) == 2
    recreate(servers, "t")
    produce(servers, "t", [b"c", b"d", b"e"])
    with pytest.raises(TopicRecreatedError, match="t had the id .*, has "):
        bench.run()
    assert len(bench.target()) == 2
