"""Maintenance beside streams, readers, replays and restarts: what it removes, and what goes on all the same."""

import os
import re
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from deltalake import DeltaTable

from jobs.pipeline import file_lock, maintenance, staged_append
from jobs.pipeline.delta import TransactionId
from jobs.pipeline.delta_upkeep import optimize
from jobs.pipeline.errors import (
    AlreadyRunningError,
    EsclusaError,
    RetentionTooShortError,
    TableBehindError,
    UnavailableError,
)
from jobs.pipeline.file_lock import hold_table_for_python
from jobs.pipeline.lease import hold_lease
from jobs.pipeline.maintenance import maintain, preview
from jobs.pipeline.replay import Selection, replay
from jobs.pipeline.reset import reset_checkpoint

DAY = 86_400
SHORT = "{log: 7 days}"
SINK = "sink: {{type: delta, path: {folder}/lake/p, cluster_by: [id]}}\n"


class CrashError(EsclusaError):
    """The process ends here."""


@pytest.fixture
def table(bench):
    """Function: land files of one row each, run, and return the pipeline; its policy is `maintenance`."""

    def run(*ids, policy="{}", more=""):
        bench.define_files("csv", "{maxFilesPerTrigger: 1}", rest=f"maintenance: {policy}\n{more}")
        for number in ids:
            bench.write(f"landing/{number}.csv", f"{number},a\n")
        bench.run()
        return bench.load()

    return run


def keep_up(bench):
    pipeline = bench.load()
    return maintain(bench.spark, pipeline, pipeline.maintenance)


def of(report, name="target"):
    return next(table for table in report.tables if table.name == name)


def ids(bench):
    return sorted(row["id"] for row in bench.target())


def data_files(folder):
    return {file.name for file in folder.glob("*.parquet")}


def operations(folder):
    return [entry["operation"] for entry in reversed(DeltaTable(str(folder)).history())]


def age(files, days):
    """Let files be as old, in the order of their names: the log's are those of its versions."""
    for second, file in enumerate(sorted(files)):
        os.utime(file, (time.time() - days * DAY + second,) * 2)


def forget_snapshots(spark):
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


@pytest.mark.slow
def test_small_files_are_joined_and_clustered_and_the_ledger_says_so(bench, table):
    table(1, 2, 3, more=SINK.format(folder=bench.folder))
    report = keep_up(bench)
    assert (of(report).before.files, of(report).after.files, of(report).joined) == (3, 1, 3)
    assert (of(report, "ledger").joined, of(report, "ledger").after.files) == (
        4,
        1,
    )  # that the query began, and 3 batches
    assert ids(bench) == [1, 2, 3]
    [row] = [row for row in bench.ledger() if row["status"] == "maintained"]
    assert re.match(r".+@.+: target: 3 files, [\d,]+ bytes -> 1 files, .*3 joined, 0 vacuumed", row["message"])
    optimized = next(
        one for one in DeltaTable(str(bench.folder / "lake/p")).history() if one["operation"] == "OPTIMIZE"
    )
    assert "id" in optimized["operationParameters"]["clusterBy"]


@pytest.mark.slow
@pytest.mark.fault("T10")
def test_a_stream_appends_on_while_its_tables_are_maintained(bench, table):
    """Ten batches and maintenance after maintenance: their commits mingle, none fails, and each row is there once."""
    pipeline = table(0)
    for number in range(1, 11):
        bench.write(f"landing/{number}.csv", f"{number},a\n")
    over, failures = threading.Event(), []

    def maintain_all_the_while():
        while not over.is_set():
            try:
                maintain(bench.spark, pipeline, pipeline.maintenance)
            except Exception as error:  # noqa: BLE001 - the assertion below shows it
                failures.append(error)

    beside = threading.Thread(target=maintain_all_the_while)
    beside.start()
    try:
        assert len(bench.run()) == 10
    finally:
        over.set()
        beside.join()
    assert failures == []
    assert ids(bench) == list(range(11))
    done = operations(bench.folder / "lake/p")
    assert "OPTIMIZE" in done[: len(done) - 1 - done[::-1].index("WRITE")], "no maintenance fell between two batches"
    assert sum(row["rows_written"] for row in bench.ledger() if row["status"] == "done") == 11


@pytest.mark.slow
@pytest.mark.fault("T9", "T10")
def test_files_are_joined_outside_the_tables_lock_and_committed_inside(bench, table):
    pipeline, folder = table(1, 2), bench.folder / "lake/p"
    before, version = data_files(folder), DeltaTable(str(folder)).version()
    beside = threading.Thread(target=maintain, args=(bench.spark, pipeline, pipeline.maintenance))
    with hold_table_for_python(str(folder)):
        beside.start()
        _wait_until(lambda: data_files(folder) - before)
        beside.join(2)
        assert beside.is_alive()
        assert DeltaTable(str(folder)).version() == version
    beside.join()
    assert operations(folder)[version + 1] == "OPTIMIZE"


@pytest.mark.slow
def test_a_table_that_stays_locked_is_exit_4_and_unchanged(bench, table, monkeypatch):
    pipeline, folder = table(1, 2), bench.folder / "lake/p"
    version = DeltaTable(str(folder)).version()
    monkeypatch.setattr(file_lock, "TABLE_WAIT_SECONDS", 0.5)
    with hold_table_for_python(str(folder)), pytest.raises(UnavailableError, match="locked by another writer"):
        optimize(bench.spark, pipeline.spec.sink.path)
    assert DeltaTable(str(folder)).version() == version
    assert optimize(bench.spark, pipeline.spec.sink.path) == 2


def _wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.fault("T11", "I6", "I7")
def test_only_files_older_than_the_retention_go_and_an_older_version_stays_readable(bench, table):
    table(1, 2, 3)
    folder = bench.folder / "lake/p"
    old, fresh = bench.write("lake/p/old.parquet", b"x"), bench.write("lake/p/fresh.parquet", b"x")
    age([old], 8)
    replaced = DeltaTable(str(folder))
    assert of(preview(bench.spark, bench.load(), bench.load().maintenance)).to_vacuum == 1
    assert old.exists()
    assert of(keep_up(bench)).vacuumed == 1
    assert (old.exists(), fresh.exists()) == (False, True)
    assert replaced.to_pyarrow_table().num_rows == 3, "a reader within the horizon"
    _backdate_removals(folder, 8)
    age(folder.glob("part-*"), 8)
    forget_snapshots(bench.spark)
    assert of(keep_up(bench)).vacuumed == 3
    assert ids(bench) == [1, 2, 3]
    with pytest.raises(
        Exception, match="(?i)not found|no such file"
    ):  # the baseline: files of that reader do go in the end
        replaced.to_pyarrow_table()


def _backdate_removals(folder, days):
    """As if OPTIMIZE had been so many days ago."""
    for checkpoint in list((folder / "_delta_log").glob("*checkpoint*")):
        checkpoint.unlink()
    for log in (folder / "_delta_log").glob("*.json"):
        log.write_text(
            re.sub(r'(?<="deletionTimestamp":)\d+', str(int((time.time() - days * DAY) * 1000)), log.read_text())
        )
        (log.parent / f".{log.name}.crc").unlink(missing_ok=True)


@pytest.mark.fault("T11", "I8")
def test_a_policy_under_what_the_table_promises_removes_nothing(bench, table):
    table(1, 2)
    folder = bench.folder / "lake/p"
    path = f"delta.`{folder}`"
    bench.spark.sql(f"ALTER TABLE {path} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 30 days')")
    before = operations(folder)
    with pytest.raises(
        RetentionTooShortError, match=r"deletedFileRetentionDuration is 30 days.*maintenance.vacuum is 7 days"
    ):
        keep_up(bench)
    assert operations(folder) == before


@pytest.fixture
def shortened(bench, table):
    """Three batches, then maintenance that takes their versions out of the log: they are older than it keeps."""
    table(0, 1, 2, policy=SHORT)
    keep_up(bench)  # leaves a checkpoint of the log, which must be old as well
    for name in ("lake/p", "state/ledger/p"):
        age((bench.folder / name / "_delta_log").iterdir(), 9)
    forget_snapshots(bench.spark)
    report = keep_up(bench)
    assert of(report).log_files >= 4
    assert of(report, "ledger").log_files >= 4
    assert not (bench.folder / f"lake/p/_delta_log/{1:020}.json").exists()
    return bench


@pytest.mark.slow
def test_a_stream_goes_on_and_a_replayed_batch_doubles_nothing_after_the_log_was_shortened(shortened, table):
    table(3, policy=SHORT)
    assert ids(shortened) == [0, 1, 2, 3]
    for name in ("commits/3", "commits/.3.crc"):
        (shortened.folder / "state/checkpoints/p" / name).unlink(missing_ok=True)
    assert not (shortened.folder / "state/checkpoints/p/commits/3").exists()
    table(4, policy=SHORT)
    assert ids(shortened) == [0, 1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.fault("T6")
def test_a_table_that_was_set_back_is_still_refused_after_maintenance(shortened, table):
    folder = shortened.folder / "lake/p"
    restored = DeltaTable(str(folder)).version()
    table(3, policy=SHORT)
    keep_up(shortened)
    shortened.spark.sql(f"RESTORE TABLE delta.`{folder}` TO VERSION AS OF {restored}")
    keep_up(shortened)
    with pytest.raises(TableBehindError, match=f"set back to version {restored}"):
        table(4, policy=SHORT)


@pytest.fixture
def replayed(bench, expect):
    """In the quarantine 9, which a replay has written, and 99, which is open; both set apart 40 days ago."""
    bench.suite(small(expect, 8))
    bench.define_files("csv")
    bench.write("landing/a.csv", "1,a\n9,b\n99,c\n")
    bench.run()
    bench.suite(small(expect, 10))
    assert replay(bench.spark, bench.load(), Selection(), is_dry=False).rows == {"written": 1, "quarantined": 1}
    path = f"delta.`{bench.folder}/lake/p_quarantine`"
    bench.spark.sql(f"UPDATE {path} SET quarantined_at = quarantined_at - INTERVAL 40 DAYS")
    return bench


def small(expect, most):
    return expect("column_values_to_be_between", "id", max_value=most, name="small")


def raw(bench):
    return sorted(row["raw"] for row in bench.quarantine())


def with_quarantine(bench, retention):
    bench.define_files("csv", rest=f"maintenance: {{quarantine: {retention}}}\n")


@pytest.mark.slow
def test_rows_leave_the_quarantine_only_as_declared_and_each_deletion_is_in_the_ledger(replayed):
    with_quarantine(replayed, "{resolved: 41 days, any: 42 days}")
    assert keep_up(replayed).deleted_rows == 0
    with_quarantine(replayed, "{resolved: 30 days}")
    assert preview(replayed.spark, replayed.load(), replayed.load().maintenance).deleted_rows == 1
    assert raw(replayed) == [b"9,b", b"99,c"]
    assert keep_up(replayed).deleted_rows == 1
    assert raw(replayed) == [b"99,c"]
    assert replay(replayed.spark, replayed.load(), Selection(), is_dry=False).rows == {"quarantined": 1}
    with_quarantine(replayed, "{any: 30 days}")
    assert keep_up(replayed).deleted_rows == 1
    assert raw(replayed) == []
    told = [(row["batch_id"], row["rows_dropped"]) for row in replayed.ledger() if row["status"] == "deleted"]
    assert told == [(1, 1), (2, 1)]
    assert ids(replayed) == [1, 9]


@pytest.mark.slow
def test_a_deletion_that_was_killed_before_its_ledger_row_gets_it_from_the_next(replayed, monkeypatch):
    with_quarantine(replayed, "{resolved: 30 days}")

    def crash(_):
        if raw(replayed) == [b"99,c"]:
            raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(maintenance, "reach", crash)
        with pytest.raises(CrashError):
            keep_up(replayed)
    assert raw(replayed) == [b"99,c"]
    assert [row for row in replayed.ledger() if row["status"] == "deleted"] == []
    keep_up(replayed)
    keep_up(replayed)
    assert [row["rows_dropped"] for row in replayed.ledger() if row["status"] == "deleted"] == [1]


@pytest.mark.slow
def test_checkpoints_that_were_set_aside_go_at_their_age_and_others_stay(bench, table):
    folder = bench.folder / "state/checkpoints"
    stamps = {days: f"{datetime.now(UTC) - timedelta(days=days):%Y%m%dT%H%M%S%f}" for days in (1, 31)}
    for name in (f"p.{stamps[31]}", f"p.{stamps[1]}", f"other.{stamps[31]}", "p.backup"):
        (folder / name / "offsets").mkdir(parents=True)
    table(1)
    assert keep_up(bench).checkpoints == []
    table(policy="{checkpoints: 30 days}")
    assert keep_up(bench).checkpoints == [f"{folder}/p.{stamps[31]}"]
    assert {file.name for file in folder.iterdir()} == {"p", f"p.{stamps[1]}", f"other.{stamps[31]}", "p.backup"}


@pytest.mark.slow
def test_it_needs_no_lease_of_the_runs_and_two_of_them_exclude_each_other(bench, table):
    pipeline = table(1)
    with hold_lease(bench.spark, "p", pipeline.lease_path):
        keep_up(bench)
    with hold_lease(bench.spark, "p", f"{pipeline.lease_path}.maintenance"), pytest.raises(AlreadyRunningError):
        keep_up(bench)


@pytest.mark.fault("T11", "E4")
def test_files_that_waited_too_long_for_their_commit_are_not_committed(bench, table, monkeypatch):
    """VACUUM may have removed them: the commit would break the table."""
    table(1)
    path = str(bench.folder / "lake/p")
    df = bench.spark.sql("SELECT 2 AS id, 'b' AS name")
    staged = staged_append.stage_append(df, path, TransactionId("late", 0))
    now = time.time()
    monkeypatch.setattr(staged_append.time, "time", lambda: now + 6.5 * DAY)
    with pytest.raises(UnavailableError, match="have waited 6 days"):
        staged.commit()
    assert ids(bench) == [1]


@pytest.mark.slow
def test_deletions_go_on_in_a_quarantine_that_was_made_anew(replayed):
    with_quarantine(replayed, "{any: 30 days}")
    assert keep_up(replayed).deleted_rows == 2
    for name in ("p", "p_quarantine", "p_quarantine_replays"):
        shutil.rmtree(replayed.folder / "lake" / name)
    reset_checkpoint(replayed.spark, replayed.load())
    replayed.write("landing/b.csv", "broken\n")
    replayed.run()
    path = f"delta.`{replayed.folder}/lake/p_quarantine`"
    replayed.spark.sql(f"UPDATE {path} SET quarantined_at = quarantined_at - INTERVAL 40 DAYS")
    assert [keep_up(replayed).deleted_rows for _ in range(2)] == [2, 0]
    assert [row["batch_id"] for row in replayed.ledger() if row["status"] == "deleted"] == [1, 2]
