"""Each test brings a fault about, shows that it is there, and then that the next start refuses or mends it."""

import shutil

import pytest
from deltalake import DeltaTable

from jobs.pipeline.errors import (
    CheckpointGoneError,
    ReplayDiffersError,
    TableBehindError,
    TableForgetsError,
)


@pytest.fixture
def stream(bench):
    """A pipeline over files of one row each; `stream(1, 2)` lands two files and runs it."""
    bench.define_files("csv", "{maxFilesPerTrigger: 1}")

    def land_and_run(*ids):
        for number in ids:
            bench.write(f"landing/{number}.csv", f"{number},a\n")
        return bench.run()

    return land_and_run


@pytest.fixture
def checkpoint(bench):
    return bench.folder / "state/checkpoints/p"


def ids(bench):
    return sorted(row["id"] for row in bench.target())


def plain_run(bench):
    """The same stream without the protocol."""
    stream = bench.spark.readStream.schema("id INT, name STRING").csv(str(bench.folder / "landing"))
    table = str(bench.folder / "lake/p")
    query = stream.writeStream.foreachBatch(lambda df, _: df.write.format("delta").mode("append").save(table))
    path = str(bench.folder / "state/checkpoints/p")
    query.option("checkpointLocation", path).trigger(availableNow=True).start().awaitTermination()


def remove_batch(checkpoint, folder, batch):
    (checkpoint / folder / str(batch)).unlink()
    (checkpoint / folder / f".{batch}.crc").unlink(missing_ok=True)


def test_plain_job_doubles_rows_when_its_checkpoint_is_gone(bench, checkpoint):
    """The baseline: were it to pass, refusing would be for nothing."""
    bench.write("landing/1.csv", "1,a\n")
    plain_run(bench)
    shutil.rmtree(checkpoint)
    plain_run(bench)
    assert ids(bench) == [1, 1]


@pytest.mark.parametrize("lost", ["", "metadata", "offsets", "commits", "sources"])
def test_lost_checkpoint_is_refused_and_goes_on_when_restored(bench, stream, checkpoint, lost):
    stream(1, 2)
    shutil.copytree(checkpoint, bench.folder / "copy")
    gone = checkpoint / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(CheckpointGoneError, match=f"lacks {lost}" if lost else "is gone, and the ledger says"):
        stream(3)
    assert ids(bench) == [1, 2]
    shutil.rmtree(checkpoint, ignore_errors=True)
    shutil.copytree(bench.folder / "copy", checkpoint)
    stream()
    assert ids(bench) == [1, 2, 3]


def test_checkpoint_that_kept_only_its_query_id_is_refused(stream, checkpoint):
    stream(1)
    for name in ("offsets", "commits", "sources"):
        shutil.rmtree(checkpoint / name)
    with pytest.raises(CheckpointGoneError, match="lacks offsets, commits, sources"):
        stream()


def test_older_checkpoint_replays_several_batches_and_doubles_nothing(bench, stream, checkpoint):
    stream(1)
    shutil.copytree(checkpoint, bench.folder / "copy")
    stream(2)
    stream(3)
    shutil.rmtree(checkpoint)
    shutil.copytree(bench.folder / "copy", checkpoint)
    stream(4)
    assert ids(bench) == [1, 2, 3, 4]
    assert [row["batch_id"] for row in bench.ledger()] == [0, 1, 2, 3]


def test_older_checkpoint_whose_batches_are_planned_otherwise_is_refused(bench, checkpoint):
    """Without the refusal file 4 would be lost: it would come as batch 2, which is written."""
    bench.define_files("csv")
    for number in (1, 2, 3):
        bench.write(f"landing/{number}.csv", f"{number},a\n")
        bench.run()
        if number == 1:
            shutil.copytree(checkpoint, bench.folder / "copy")
    shutil.rmtree(checkpoint)
    shutil.copytree(bench.folder / "copy", checkpoint)
    bench.write("landing/4.csv", "4,a\n")
    for _ in range(2):
        with pytest.raises(ReplayDiffersError, match='batch 1 is written, over {"files": 1'):
            bench.run()
    assert ids(bench) == [1, 2, 3]


def test_older_checkpoint_under_a_half_written_batch_is_refused(bench, stream, checkpoint):
    stream(1)
    shutil.copytree(checkpoint, bench.folder / "copy")
    ledger = bench.folder / "state/ledger/p"
    shutil.copytree(ledger, bench.folder / "ledger")
    stream(2)
    for place, copy in ((checkpoint, "copy"), (ledger, "ledger")):
        shutil.rmtree(place)
        shutil.copytree(bench.folder / copy, place)
    with pytest.raises(CheckpointGoneError, match="holds a part of batch 1"):
        stream()


def test_table_of_which_newer_versions_are_gone_is_refused_with_its_missing_batches(bench, stream):
    stream(1)
    shutil.copytree(bench.folder / "lake/p", bench.folder / "copy")
    stream(2, 3)
    shutil.rmtree(bench.folder / "lake/p")
    shutil.copytree(bench.folder / "copy", bench.folder / "lake/p")
    with pytest.raises(TableBehindError, match="lacks batches 1 to 2"):
        stream()
    assert ids(bench) == [1]


def test_table_that_is_deleted_is_refused_and_not_created(bench, stream):
    stream(1)
    shutil.rmtree(bench.folder / "lake/p")
    with pytest.raises(TableBehindError, match="lacks batches 0 to 0"):
        stream(2)
    assert not (bench.folder / "lake/p").exists()


def test_table_that_was_set_back_is_refused_until_it_is_set_forward(bench, stream):
    stream(1)
    stream(2)
    table = DeltaTable(str(bench.folder / "lake/p"))
    newest = table.version()
    table.restore(newest - 1)
    assert ids(bench) == [1]
    with pytest.raises(TableBehindError, match=f"set back to version {newest - 1}"):
        stream(3)
    DeltaTable(str(bench.folder / "lake/p")).restore(newest)
    stream()
    assert ids(bench) == [1, 2, 3]


@pytest.mark.parametrize("name", ["p", "p_quarantine"])
def test_table_that_forgets_its_transactions_is_refused_until_the_property_is_removed(bench, stream, name):
    stream(1)
    path = f"delta.`{bench.folder}/lake/{name}`"
    key = "delta.setTransactionRetentionDuration"
    bench.spark.sql(f"ALTER TABLE {path} SET TBLPROPERTIES ('{key}' = 'interval 1 day')")
    with pytest.raises(TableForgetsError, match=f"/lake/{name} has the property {key} = interval 1 day"):
        stream()
    bench.spark.sql(f"ALTER TABLE {path} UNSET TBLPROPERTIES ('{key}')")
    stream()
