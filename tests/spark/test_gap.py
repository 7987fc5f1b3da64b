"""Offsets that are deleted before they are read. Each test deletes them for real, and looks at what the run makes of it."""

import json
import shutil

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from jobs.dev.produce import create_topic, produce
from jobs.pipeline import runner
from jobs.pipeline.batch import SparkBatch
from jobs.pipeline.errors import OffsetsLostError, StateMismatchError
from jobs.pipeline.gap import accept_gap

TIMEOUT_SECONDS = 30


class CrashError(Exception):
    """Stands for a kill."""


def crash(*_):
    raise CrashError("killed")


def delete_records(servers, topic, before, partition=0):
    """What retention does, at a moment of our choice."""
    admin = AdminClient({"bootstrap.servers": servers})
    [done] = admin.delete_records([TopicPartition(topic, partition, before)]).values()
    assert done.result(TIMEOUT_SECONDS).low_watermark == before


def figures(bench, status="done"):
    return [
        tuple(row[name] for name in ("rows_read", "source_count", "source_gaps", "source_lost"))
        for row in bench.ledger()
        if row["status"] == status
    ]


@pytest.fixture
def read_two_of_six(bench, servers, topic):
    """A topic of which offsets 0 and 1 are read, 2 to 5 not; returns its pipeline."""
    pipeline = bench.define_topic(servers, topic)
    produce(servers, topic, [b"0", b"1"])
    bench.run()
    produce(servers, topic, [b"2", b"3", b"4", b"5"])
    return pipeline


def test_plain_stream_that_ignores_loss_goes_on_without_a_word(bench, servers, topic, read_two_of_six):
    """The baseline: what `failOnDataLoss: false` makes of it."""
    delete_records(servers, topic, 4)
    stream = bench.spark.readStream.format("kafka").option("kafka.bootstrap.servers", servers)
    stream = stream.option("subscribe", topic).option("failOnDataLoss", "false").load().selectExpr("string(value)")
    writer = stream.writeStream.format("delta").option("checkpointLocation", read_two_of_six.checkpoint)
    writer.trigger(availableNow=True).start(str(bench.folder / "lake/p")).awaitTermination()
    assert bench.values() == ["0", "1", "4", "5"]


@pytest.mark.fault("R3", "I8")
@pytest.mark.usefixtures("read_two_of_six")
def test_missing_offsets_stop_the_start_and_are_named(bench, servers, topic):
    delete_records(servers, topic, 4)
    with pytest.raises(OffsetsLostError, match=rf"has not read: {topic}-0 from 2 until 4 \(2\)\."):
        bench.run()
    assert bench.values() == ["0", "1"]


@pytest.mark.fault("R3")
def test_accepted_gap_is_in_the_ledger_and_the_run_goes_on_behind_it(bench, servers, topic, read_two_of_six):
    delete_records(servers, topic, 4)
    message = accept_gap(bench.spark, read_two_of_six)
    assert message.endswith(f"accepted as lost: {topic}-0 from 2 until 4 (2)")
    bench.run()
    assert bench.values() == ["0", "1", "4", "5"]
    assert figures(bench) == [(2, 2, 0, 0), (2, 4, 0, 2)]
    [row] = [row for row in bench.ledger() if row["status"] == "gap"]
    assert (row["message"].partition(": ")[2], row["source_lost"]) == (message, 2)
    assert json.loads(row["source_range"]) == {"lost": [{"topic": topic, "partition": 0, "from": 2, "until": 4}]}
    assert bench.run() == []
    assert accept_gap(bench.spark, read_two_of_six).startswith("no offsets are missing")
    produce(servers, topic, [b"6"])
    bench.run()
    assert bench.values() == ["0", "1", "4", "5", "6"]


def test_only_what_was_missing_then_is_accepted(bench, servers, topic, read_two_of_six):
    delete_records(servers, topic, 3)
    accept_gap(bench.spark, read_two_of_six)
    delete_records(servers, topic, 5)
    with pytest.raises(OffsetsLostError, match=rf"{topic}-0 from 3 until 5 \(2\)"):
        bench.run()
    accept_gap(bench.spark, read_two_of_six)
    bench.run()
    assert bench.values() == ["0", "1", "5"]
    assert figures(bench)[-1] == (1, 4, 0, 3)


def test_loss_behind_an_accepted_gap_while_it_runs_stops_the_run(bench, servers, topic, read_two_of_six, monkeypatch):
    delete_records(servers, topic, 3)
    accept_gap(bench.spark, read_two_of_six)
    commit = runner.commit_batch
    monkeypatch.setattr(runner, "commit_batch", lambda *of: (delete_records(servers, topic, 5), commit(*of)))
    with pytest.raises(OffsetsLostError, match=rf"{topic}-0 from 3 until 5 \(2\)"):
        bench.run()
    assert bench.values() == ["0", "1"]


@pytest.mark.fault("R3", "D7")
@pytest.mark.usefixtures("read_two_of_six")
def test_loss_while_a_planned_batch_waits_stops_the_run_and_is_named(bench, servers, topic, monkeypatch):
    commit = runner.commit_batch
    monkeypatch.setattr(runner, "commit_batch", lambda *of: (delete_records(servers, topic, 5), commit(*of)))
    with pytest.raises(OffsetsLostError, match=rf"{topic}-0 from 2 until 5 \(3\)"):
        bench.run()
    assert bench.values() == ["0", "1"]


def test_planned_batch_that_lies_in_the_gap_in_part_runs_over_the_rest(bench, servers, topic, monkeypatch):
    """Offsets 0 to 2 are planned (K2) and 0 and 1 lost; in the other partition nothing is."""
    pipeline = bench.define_topic(servers, topic)
    create_topic(servers, f"{topic}x", 2)
    pipeline = bench.define_topic(servers, f"{topic},{topic}x")
    produce(servers, topic, [b"0", b"1", b"2"])
    produce(servers, f"{topic}x", [b"x"])
    with monkeypatch.context() as patch:
        patch.setattr(runner, "commit_batch", crash)
        with pytest.raises(Exception, match="killed"):
            bench.run()
    assert (bench.folder / "state/checkpoints/p/offsets/0").exists()
    delete_records(servers, topic, 2)
    with pytest.raises(OffsetsLostError, match=rf"{topic}-0 from 0 until 2 \(2\)\."):
        bench.run()
    accept_gap(bench.spark, pipeline)
    bench.run()
    assert bench.values() == ["2", "x"]
    assert figures(bench) == [(2, 4, 0, 2)]


def test_crash_in_a_batch_over_an_accepted_gap_doubles_nothing(bench, servers, topic, read_two_of_six, monkeypatch):
    delete_records(servers, topic, 4)
    accept_gap(bench.spark, read_two_of_six)
    with monkeypatch.context() as patch:
        patch.setattr(SparkBatch, "record", crash)
        with pytest.raises(Exception, match="killed"):
            bench.run()
    assert bench.values() == ["0", "1", "4", "5"]
    bench.run()
    assert bench.values() == ["0", "1", "4", "5"]
    assert figures(bench)[-1] == (2, 4, 0, 2)


def test_gap_under_a_half_written_batch_is_not_accepted(bench, servers, topic, read_two_of_six, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(SparkBatch, "record", crash)
        with pytest.raises(Exception, match="killed"):
            bench.run()
    delete_records(servers, topic, 4)
    with pytest.raises(StateMismatchError, match=r"batch 1 .* is committed in part \(target\)"):
        accept_gap(bench.spark, read_two_of_six)
    shutil.rmtree(bench.folder / "lake")
