"""Each test brings a fault about, shows that it is there, and then that the next start refuses or mends it."""

import shutil

import pytest
from deltalake import DeltaTable

from jobs.pipeline.checkpoint_report import describe, verify
from jobs.pipeline.errors import (
    CheckpointDamagedError,
    CheckpointGoneError,
    ConfError,
    EsclusaError,
    ReplayDiffersError,
    SourceChangedError,
    TableBehindError,
    TableForgetsError,
    TableRecreatedError,
)
from jobs.pipeline.failpoints import Point, arm
from jobs.pipeline.reset import reset_checkpoint
from jobs.run_pipeline import reset_all

COMPACT_INTERVAL = "spark.sql.streaming.fileSource.log.compactInterval"


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


@pytest.mark.fault("T3", "I8")
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


@pytest.mark.fault("T3")
def test_checkpoint_that_kept_only_its_query_id_is_refused(stream, checkpoint):
    stream(1)
    for name in ("offsets", "commits", "sources"):
        shutil.rmtree(checkpoint / name)
    with pytest.raises(CheckpointGoneError, match="lacks offsets, commits, sources"):
        stream()


@pytest.mark.fault("T5")
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


@pytest.mark.fault("T5", "I8")
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


@pytest.mark.fault("T5")
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


@pytest.mark.fault("T6")
def test_table_of_which_newer_versions_are_gone_is_refused_with_its_missing_batches(bench, stream):
    stream(1)
    shutil.copytree(bench.folder / "lake/p", bench.folder / "copy")
    stream(2, 3)
    shutil.rmtree(bench.folder / "lake/p")
    shutil.copytree(bench.folder / "copy", bench.folder / "lake/p")
    with pytest.raises(TableBehindError, match="lacks batches 1 to 2"):
        stream()
    assert ids(bench) == [1]


@pytest.mark.fault("T6")
def test_table_that_is_deleted_is_refused_and_not_created(bench, stream):
    stream(1)
    shutil.rmtree(bench.folder / "lake/p")
    with pytest.raises(TableBehindError, match="lacks batches 0 to 0"):
        stream(2)
    assert not (bench.folder / "lake/p").exists()


@pytest.mark.fault("T6")
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


@pytest.mark.fault("T13")
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


@pytest.mark.fault("T7")
def test_table_that_was_made_anew_is_refused(bench, stream):
    stream(1)
    lake = bench.folder / "lake/p"
    shutil.rmtree(lake)
    bench.spark.sql(f"CREATE TABLE delta.`{lake}` (id INT, name STRING) USING delta")
    with pytest.raises(TableRecreatedError, match="/lake/p was deleted and created again"):
        stream(2)
    assert ids(bench) == []


@pytest.mark.fault("R9")
def test_other_source_under_the_same_checkpoint_is_refused(bench, stream):
    stream(1)
    (bench.folder / "elsewhere").mkdir()
    bench.define(source=f"{{type: files, format: csv, path: {bench.folder}/elsewhere, schema: p}}")
    with pytest.raises(SourceChangedError, match="path was .*/landing, is .*/elsewhere"):
        bench.run()
    bench.define_files("csv", "{maxFilesPerTrigger: 2}")
    stream(2)
    assert ids(bench) == [1, 2]


def test_half_written_identity_is_passed_over(bench, stream, checkpoint):
    stream(1)
    identity = checkpoint / "esclusa/identity.0.json"
    identity.write_text(identity.read_text()[:20])
    (checkpoint / "esclusa/.identity.0.json.crc").unlink(missing_ok=True)
    stream(2)
    assert ids(bench) == [1, 2]
    assert (checkpoint / "esclusa/identity.1.json").exists()


def test_reset_sets_the_checkpoint_aside_and_says_so_in_the_ledger(bench, stream, checkpoint):
    pipeline = bench.load()
    stream(1)
    message = reset_checkpoint(bench.spark, pipeline)
    [aside] = checkpoint.parent.glob("p.*")
    assert message.endswith(str(aside))
    assert (aside / "metadata").exists()
    assert [(row["status"], row["message"]) for row in bench.ledger()] == [("done", None), ("reset", message)]
    stream(2)
    assert ids(bench) == [1, 1, 2]  # as the operator was told: the source is read anew
    shutil.rmtree(checkpoint)
    aside.rename(checkpoint)
    with pytest.raises(CheckpointGoneError, match="was set aside by --reset-checkpoint"):
        stream()
    reset_checkpoint(bench.spark, pipeline)
    shutil.rmtree(bench.folder / "lake")
    stream()
    assert ids(bench) == [1, 2]


def test_reset_after_a_lost_checkpoint_lets_the_pipeline_start(bench, stream, checkpoint):
    stream(1)
    shutil.rmtree(checkpoint)
    assert reset_checkpoint(bench.spark, bench.load()).endswith(f"there was no checkpoint {checkpoint}")
    shutil.rmtree(bench.folder / "lake")
    stream(2)
    assert ids(bench) == [1, 2]


def test_reset_sets_a_damaged_checkpoint_aside(bench, stream, checkpoint):
    stream(1)
    (checkpoint / "metadata").write_text('{"id"')
    with pytest.raises(CheckpointDamagedError):
        stream()
    reset_checkpoint(bench.spark, bench.load())
    shutil.rmtree(bench.folder / "lake")
    stream(2)
    assert ids(bench) == [1, 2]


def test_reset_that_the_disk_refuses_has_an_exit_code(bench):
    pipeline = bench.define_files("csv")
    bench.write("state/ledger", "no folder")
    with pytest.raises(EsclusaError, match="state/ledger"):
        reset_all(bench.spark, [pipeline])


def test_report_says_what_the_next_start_would_do(bench, stream, checkpoint):
    pipeline = bench.load()
    assert dict(describe(pipeline))["next start"] == "begins batch 0"
    stream(1, 2)
    assert dict(describe(pipeline))["planned"].startswith('batch 1, over {"files": 1')
    assert dict(describe(pipeline))["next start"] == "begins batch 2"
    assert verify(pipeline).endswith("agree; batch 1 is done")
    remove_batch(checkpoint, "commits", 1)
    assert dict(describe(pipeline))["next start"] == "finishes batch 1"
    shutil.rmtree(checkpoint)
    assert dict(describe(pipeline))["next start"].startswith("is refused. CHECKPOINT_GONE: ")


def test_verify_finds_a_missing_file_an_unreadable_one_and_a_ledger_behind(bench, stream, checkpoint):
    stream(1, 2)
    ledger = bench.folder / "state/ledger/p"
    shutil.copytree(ledger, bench.folder / "ledger")
    stream(3)
    offsets = checkpoint / "offsets/1"
    text = offsets.read_text()
    offsets.write_text(text[:10])
    with pytest.raises(CheckpointDamagedError, match="batch 1 cannot be read"):
        verify(bench.load())
    offsets.unlink()
    with pytest.raises(CheckpointDamagedError, match="offsets lacks 1;"):
        verify(bench.load())
    offsets.write_text(text)
    shutil.rmtree(ledger)
    shutil.copytree(bench.folder / "ledger", ledger)
    with pytest.raises(TableBehindError, match="the ledger of p lacks batch 2"):
        verify(bench.load())


def test_the_torn_plan_of_a_batch_in_part_is_found_before_it_is_read(bench, stream, checkpoint, monkeypatch):
    stream(1)
    bench.write("landing/0.csv", "broken\n")
    with monkeypatch.context() as patch:
        patch.setattr("jobs.pipeline.commit.reach", arm(f"{Point.QUARANTINE_AFTER}:1:raise"))
        with pytest.raises(EsclusaError):
            stream()
    (checkpoint / "offsets/1").write_text("v1")
    with pytest.raises(CheckpointDamagedError, match="batch 1 cannot be read"):
        verify(bench.load())
    assert dict(describe(bench.load()))["next start"].startswith("fails: a file cannot be read")


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_checkpoint_lost_in_the_first_batch_is_refused_once_something_is_committed(
    bench, stream, checkpoint, monkeypatch, is_refused
):
    bench.write("landing/0.csv", "broken\n")
    point = Point.QUARANTINE_AFTER if is_refused else Point.TARGET_STAGED
    with monkeypatch.context() as patch:
        patch.setattr("jobs.pipeline.commit.reach", arm(f"{point}:1:raise"))
        with pytest.raises(EsclusaError):
            stream()
    assert len(bench.quarantine()) == is_refused
    shutil.copytree(checkpoint, bench.folder / "copy")
    shutil.rmtree(checkpoint)
    if is_refused:
        with pytest.raises(CheckpointGoneError, match="is gone"):
            stream(1)
        (bench.folder / "copy").rename(checkpoint)
    stream(1)
    assert (len(bench.quarantine()), ids(bench)) == (1, [1])


@pytest.mark.fault("K10")
def test_files_of_a_batch_that_the_ledger_has_as_done_may_be_gone(bench, stream, checkpoint):
    stream(1)
    remove_batch(checkpoint, "commits", 0)
    (bench.folder / "landing/1.csv").unlink()
    stream(2)
    assert ids(bench) == [1, 2]
    assert [row["batch_id"] for row in bench.ledger()] == [0, 1]


def test_the_log_of_files_may_be_summed_up_as_often_as_spark_is_told_to(bench, spark):
    spark.conf.set(COMPACT_INTERVAL, "3")
    try:
        bench.define_files("parquet", "{maxFilesPerTrigger: 1}")
        for number in range(5):
            frame = spark.createDataFrame([(number, "a")], "id INT, name STRING").coalesce(1)
            frame.write.mode("append").parquet(str(bench.folder / "landing"))
        bench.run()
    finally:
        spark.conf.unset(COMPACT_INTERVAL)
    assert ids(bench) == [0, 1, 2, 3, 4]
    assert len({row["source_range"] for row in bench.ledger()}) == len(bench.ledger()) == 5


def test_paths_that_python_and_spark_would_find_in_two_places_are_refused(bench, spark, stream):
    spark.conf.set("fs.defaultFS", "hdfs://name-node:9000")
    try:
        with pytest.raises(ConfError) as caught:
            stream(1)
    finally:
        spark.conf.unset("fs.defaultFS")
    assert [problem.path for problem in caught.value.problems] == [
        "source.path",
        "sink.path",
        "state",
    ]
    assert f"write file:{bench.folder}/lake/p or hdfs:{bench.folder}/lake/p" in str(caught.value)
    assert f"write file:{bench.folder}/state or" in str(caught.value)


def test_a_checkpoint_that_was_set_aside_before_its_first_ledger_row_and_put_back_is_refused(
    bench, stream, checkpoint, monkeypatch
):
    bench.write("landing/0.csv", "broken\n")
    with monkeypatch.context() as patch:
        patch.setattr("jobs.pipeline.commit.reach", arm(f"{Point.QUARANTINE_AFTER}:1:raise"))
        with pytest.raises(EsclusaError):
            stream()
    shutil.copytree(checkpoint, bench.folder / "copy")
    reset_checkpoint(bench.spark, bench.load())
    (bench.folder / "copy").rename(checkpoint)
    with pytest.raises(CheckpointGoneError, match="was set aside by --reset-checkpoint"):
        stream()
