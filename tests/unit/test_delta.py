import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from jobs.pipeline.delta import TransactionId, find_restore
from jobs.pipeline.errors import AlreadyRunningError, LeaseLostError
from jobs.pipeline.failures import classify
from jobs.pipeline.small_table import SmallTable
from jobs.testing.logs import read_commits

SCHEMA = pa.schema([("id", pa.int64())])


@pytest.fixture
def rivals(tmp_path):
    """Two runs' views of one table; delta-rs needs no Spark."""
    tables = [SmallTable(None, str(tmp_path / "t"), SCHEMA) for _ in range(2)]
    for table in tables:
        table.create()
    return tables


def test_transaction_that_another_run_has_committed_is_refused(rivals, tmp_path):
    first, second = rivals
    first.append([{"id": 1}], TransactionId("q:ledger", 7))
    with pytest.raises(LeaseLostError, match="another run has committed q:ledger 7"):
        second.append([{"id": 1}], TransactionId("q:ledger", 7))
    second.append([{"id": 2}], TransactionId("q:ledger", 8))
    second.append([{"id": 3}], TransactionId("another:ledger", 7))
    assert sorted(DeltaTable(str(tmp_path / "t")).to_pyarrow_table()["id"].to_pylist()) == [1, 2, 3]


def test_transaction_that_another_run_commits_at_the_same_moment_is_refused_by_delta(rivals, tmp_path, monkeypatch):
    first, second = rivals
    stale = DeltaTable(str(tmp_path / "t"))
    first.append([{"id": 1}], TransactionId("q:ledger", 0))
    monkeypatch.setattr(second, "_refreshed", lambda: stale)
    with pytest.raises(Exception, match="Concurrent transaction failed") as caught:
        second.append([{"id": 1}], TransactionId("q:ledger", 0))
    error = classify(caught.value)
    assert isinstance(error, AlreadyRunningError)
    assert error.exit_code == 5
    assert DeltaTable(str(tmp_path / "t")).to_pyarrow_table().num_rows == 1


@pytest.mark.parametrize("later", [[], ["append"], ["optimize", "append", "optimize"]])
@pytest.mark.parametrize("is_restored", [False, True])
def test_a_restore_is_found_below_what_was_committed_behind_it(rivals, tmp_path, is_restored, later):
    table, path = rivals[0], str(tmp_path / "t")
    for number in range(3):
        table.append([{"id": number}], TransactionId("q:target", number))
    if is_restored:
        DeltaTable(path).restore(2)
    for commit in later:
        if commit == "append":
            write_deltalake(path, pa.table({"id": [9]}), mode="append")
        else:
            DeltaTable(path).optimize.compact()
    newest = DeltaTable(path).version()
    assert newest >= 3 + is_restored
    assert find_restore(None, path, {"q:target"}, newest) == (2 if is_restored else None)


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085"])
def test_a_commit_is_read_whose_statistics_hold_what_python_takes_for_the_end_of_a_line(tmp_path, sign):
    path = str(tmp_path / "t")
    properties = CommitProperties(app_transactions=[Transaction("q:target", 0)])
    write_deltalake(path, pa.table({"text": [f"a{sign}b"]}), commit_properties=properties)
    assert sign in (tmp_path / "t/_delta_log" / f"{0:020d}.json").read_text(encoding="utf-8")
    assert find_restore(None, path, {"q:target"}, 0) is None
    [commit] = read_commits(tmp_path / "t")
    assert (commit.rows, commit.transactions) == (1, {"q:target": 0})


def test_a_table_of_an_earlier_version_gets_the_columns_that_it_lacks_once(rivals, tmp_path):
    newer = SmallTable(None, str(tmp_path / "t"), SCHEMA.append(pa.field("more", pa.string())))
    rivals[0].append([{"id": 1}], TransactionId("q:ledger", 0))
    for number in (1, 2):
        newer.append([{"id": 2, "more": "x"}], TransactionId("q:ledger", number))
    table = DeltaTable(str(tmp_path / "t"))
    assert sorted(str(row["more"]) for row in table.to_pyarrow_table().to_pylist()) == ["None", "x", "x"]
    changed = [file for file in (tmp_path / "t/_delta_log").glob("*.json") if '"metaData"' in file.read_text()]
    assert len(changed) == 2


def test_table_of_an_earlier_release_gets_the_columns_it_lacks_and_keeps_its_rows(tmp_path):
    SmallTable(None, str(tmp_path / "t"), SCHEMA).create()
    SmallTable(None, str(tmp_path / "t"), SCHEMA).append([{"id": 1}], TransactionId("q:ledger", 0))
    wider = pa.schema([("new", pa.string()), ("id", pa.int64())])
    table = SmallTable(None, str(tmp_path / "t"), wider)
    table.create()
    version = DeltaTable(str(tmp_path / "t")).version()
    table.create()
    assert DeltaTable(str(tmp_path / "t")).version() == version
    assert table.last_version_of("q:ledger") == 0
    table.append([{"id": 2, "new": "a"}], TransactionId("q:ledger", 1))
    rows = DeltaTable(str(tmp_path / "t")).to_pyarrow_table().sort_by("id").to_pylist()
    assert rows == [{"id": 1, "new": None}, {"id": 2, "new": "a"}]
