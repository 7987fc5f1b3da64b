"""Rows read against the source's own figures. Each baseline shows that a row which vanishes on the way is missed."""

import uuid

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from deltalake import DeltaTable
from pyarrow import orc, parquet
from pyspark.sql import functions as F

from jobs.dev.produce import produce
from jobs.pipeline import runner
from jobs.pipeline.errors import ReconciliationError

TIMEOUT_SECONDS = 30


def figures(bench):
    return [(row["rows_read"], row["source_count"], row["source_gaps"], row["source_lost"]) for row in bench.ledger()]


def lose_a_row(monkeypatch):
    """Of each batch, behind the source and before our own scan: what counts itself does not notice."""
    commit = runner.commit_batch

    def commit_without_one(batch, done):
        batch.unparsed = batch.unparsed.where(~F.col("value").cast("string").isin("b"))
        return commit(batch, done)

    monkeypatch.setattr(runner, "commit_batch", commit_without_one)


def send_transaction(servers, topic, values, *, commit):
    producer = Producer({"bootstrap.servers": servers, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(TIMEOUT_SECONDS)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value)
    producer.flush(TIMEOUT_SECONDS)
    producer.commit_transaction(TIMEOUT_SECONDS) if commit else producer.abort_transaction(TIMEOUT_SECONDS)


@pytest.mark.fault("I5")
def test_record_that_vanishes_behind_the_source_fails_the_batch_and_comes_with_the_next_run(
    bench, servers, topic, monkeypatch
):
    bench.define_topic(servers, topic)
    produce(servers, topic, [b"a", b"b", b"c"])
    with monkeypatch.context() as patch:
        lose_a_row(patch)
        with pytest.raises(ReconciliationError, match="another consumer finds 3 records in its 3 offsets, 2 rows"):
            bench.run()
    assert bench.values() == []
    bench.run()
    assert bench.values() == ["a", "b", "c"]
    assert figures(bench) == [(3, 3, 0, 0)]


def test_more_rows_than_offsets_fail_the_batch(bench, servers, topic, monkeypatch):
    bench.define_topic(servers, topic)
    produce(servers, topic, [b"a", b"b"])
    commit = runner.commit_batch

    def commit_twofold(batch, done):
        batch.unparsed = batch.unparsed.union(batch.unparsed)
        return commit(batch, done)

    monkeypatch.setattr(runner, "commit_batch", commit_twofold)
    with pytest.raises(ReconciliationError, match="room for 2 records, 4 rows were read"):
        bench.run()


@pytest.mark.fault("R6")
@pytest.mark.parametrize(
    ("isolation", "seen"), [("read_committed", ["a", "d"]), ("read_uncommitted", ["a", "b", "c", "d"])]
)
def test_markers_and_aborted_records_are_offsets_without_a_record(bench, servers, topic, isolation, seen):
    bench.define_topic(servers, topic, **{"kafka.isolation.level": isolation})
    send_transaction(servers, topic, [b"a"], commit=True)
    send_transaction(servers, topic, [b"b", b"c"], commit=False)
    send_transaction(servers, topic, [b"d"], commit=True)
    bench.run()
    assert bench.values() == seen
    assert figures(bench) == [(len(seen), 7, 7 - len(seen), 0)]


def test_record_that_vanishes_among_markers_is_found_too(bench, servers, topic, monkeypatch):
    bench.define_topic(servers, topic, **{"kafka.isolation.level": "read_committed"})
    send_transaction(servers, topic, [b"a", b"b"], commit=True)
    lose_a_row(monkeypatch)
    with pytest.raises(ReconciliationError, match="another consumer finds 2 records in its 3 offsets, 1 rows"):
        bench.run()


@pytest.mark.parametrize(("format_", "write"), [("parquet", parquet.write_table), ("orc", orc.write_table)])
def test_footers_count_the_rows_of_columnar_files(bench, monkeypatch, format_, write):
    bench.define_files(format_, ddl="value STRING")
    for name in ("1", "2"):
        write(pa.table({"value": ["a", "b"]}), bench.folder / f"landing/{name}.{format_}")
    with monkeypatch.context() as patch:
        lose_a_row(patch)
        with pytest.raises(ReconciliationError, match="footers of its files say 4 rows, 2 rows were read"):
            bench.run()
    bench.run()
    assert bench.values() == ["a", "a", "b", "b"]
    assert figures(bench) == [(4, 4, None, None)]


def test_corrupt_file_counts_as_the_row_that_stands_for_it(bench):
    bench.define_files("parquet", ddl="value STRING")
    parquet.write_table(pa.table({"value": ["a", "b"]}), bench.folder / "landing/1.parquet")
    bench.write("landing/2.parquet", b"PAR1 is not parquet PAR1")
    bench.run()
    assert (bench.values(), len(bench.quarantine())) == (["a", "b"], 1)
    assert figures(bench) == [(3, 3, None, None)]


def test_ledger_of_an_earlier_release_goes_on_with_the_new_columns(bench, monkeypatch):
    bench.define_files("csv")
    bench.write("landing/1.csv", "1,a\n")
    with monkeypatch.context() as patch:
        from jobs.pipeline import ledger  # noqa: PLC0415

        new = ("source_count", "source_gaps", "source_lost")
        patch.setattr(ledger, "SCHEMA", pa.schema([field for field in ledger.SCHEMA if field.name not in new]))
        bench.run()
    assert "source_count" not in bench.ledger()[0]
    bench.write("landing/2.csv", "2,b\n")
    bench.run()
    assert [(row["batch_id"], row["source_count"]) for row in bench.ledger()] == [(0, None), (1, None)]
    assert DeltaTable(str(bench.folder / "lake/p")).to_pyarrow_table().num_rows == 2
