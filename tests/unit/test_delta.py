import pyarrow as pa
import pytest
from deltalake import DeltaTable

from jobs.pipeline.delta import SmallTable, TransactionId
from jobs.pipeline.errors import AlreadyRunningError, LeaseLostError
from jobs.pipeline.failures import classify

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
