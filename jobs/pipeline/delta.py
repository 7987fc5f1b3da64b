"""Delta tables as the batch protocol needs them: creation, small idempotent commits, and what a commit holds.

Small commits (quarantine, ledger) go through delta-rs where it reaches the table, for they then need no Spark job;
elsewhere through Spark. Both know each other's application transactions.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import TableNotFoundError
from pyspark.sql import DataFrame, SparkSession

from jobs.pipeline.errors import LeaseLostError
from jobs.pipeline.file_lock import hold_new_table, hold_table_for_python, hold_table_for_spark
from jobs.pipeline.storage import exists, local_path, read_text

LAST_COMMIT = "spark.databricks.delta.lastCommitVersionInSession"
_COMMITS_SEARCHED = 200


@dataclass(frozen=True, slots=True)
class TransactionId:
    """Names one logical write for ever: Delta takes a commit with this id at most once."""

    app_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Commit:
    """What one table version holds; `version` is None if it is not known, `rows` for a commit without that figure."""

    version: int | None
    rows: int | None


def append_frame(df: DataFrame, path: str, transaction: TransactionId) -> Commit:
    """Append with one Spark job; Delta skips a transaction that is already there, and its version is not known."""
    session = df.sparkSession
    session.conf.unset(LAST_COMMIT)
    writer = df.write.format("delta").mode("append")
    writer = writer.option("txnAppId", transaction.app_id).option("txnVersion", transaction.version)
    with hold_table_for_spark(session, path):
        writer.save(path)
    version = session.conf.get(LAST_COMMIT, None)
    return Commit(None, None) if version is None else read_commit(session, path, int(version))


def read_commit(spark: SparkSession, path: str, version: int) -> Commit:
    """One version's row count, from its own log entry."""
    actions = _actions(spark, path, version)
    return Commit(version, _rows_of(actions))


def find_commit(spark: SparkSession, path: str, transaction: TransactionId, newest: int) -> Commit | None:
    """The commit that made this transaction, looking back from version `newest`; None if it is not near."""
    for version in range(newest, max(-1, newest - _COMMITS_SEARCHED), -1):
        if not exists(spark, _log_file(path, version)):
            return None
        actions = _actions(spark, path, version)
        wanted = {"appId": transaction.app_id, "version": transaction.version}
        if any(wanted.items() <= action.get("txn", {}).items() for action in actions):
            return Commit(version, _rows_of(actions))
    return None


def _log_file(path: str, version: int) -> str:
    return f"{path}/_delta_log/{version:020d}.json"


def _actions(spark: SparkSession, path: str, version: int) -> list[dict[str, Any]]:
    folder = local_path(path)
    name = _log_file(path if folder is None else folder, version)
    text = read_text(spark, name) if folder is None else Path(name).read_text()
    return [json.loads(line) for line in text.splitlines() if line]


def _rows_of(actions: list[dict[str, Any]]) -> int | None:
    """Rows added, from the files' own statistics: they count what the files hold, not what was meant."""
    added = [json.loads(action["add"].get("stats") or "{}") for action in actions if "add" in action]
    counts = [stats.get("numRecords") for stats in added]
    return None if None in counts else sum(counts)


class SmallTable:
    """A table that the driver appends a few rows to, batch by batch; creates it on first use."""

    def __init__(self, spark: SparkSession, path: str, schema: pa.Schema) -> None:
        self._spark = spark
        self._path = path
        self._schema = schema
        self._folder = local_path(path)
        self._table: DeltaTable | None = None

    @property
    def knows_transactions(self) -> bool:
        """Whether this process can ask the table which transactions it holds (delta-rs reaches it)."""
        return self._folder is not None

    def create(self) -> None:
        """Create the table if there is none; idempotent."""
        if self._folder is not None:
            with hold_new_table(self._folder):
                DeltaTable.create(self._folder, self._schema, mode="ignore")
        elif not exists(self._spark, f"{self._path}/_delta_log"):
            self._spark.createDataFrame(self._schema.empty_table()).write.format("delta").mode("ignore").save(
                self._path
            )

    def append(self, rows: list[dict[str, Any]], transaction: TransactionId) -> Commit:
        """Append rows (may be none); a transaction that is already there must not be passed again.

        LeaseLostError, having written nothing, if delta-rs finds it there: then another run has made it meanwhile.
        """
        table = pa.Table.from_pylist(rows, schema=self._schema)
        if self._folder is None:
            return append_frame(self._spark.createDataFrame(table), self._path, transaction)
        properties = CommitProperties(app_transactions=[Transaction(transaction.app_id, transaction.version)])
        with hold_table_for_python(self._folder):
            delta_table = self._refreshed()
            self._refuse_done(delta_table, transaction)
            write_deltalake(delta_table, table, mode="append", commit_properties=properties)
        return Commit(delta_table.version(), len(rows))

    def _refuse_done(self, table: DeltaTable, transaction: TransactionId) -> None:
        """delta-rs itself looks for the transaction in commits newer than what it has read."""
        last = table.transaction_version(transaction.app_id)
        if last is not None and last >= transaction.version:
            message = f"another run has committed {transaction.app_id} {transaction.version} to {self._path}"
            raise LeaseLostError(message)

    def last_version_of(self, app_id: str) -> int | None:
        """The newest transaction version that the table holds for an app id; only where knows_transactions."""
        return self._refreshed().transaction_version(app_id)

    def _refreshed(self) -> DeltaTable:
        if self._table is None:
            self._table = DeltaTable(str(self._folder))
        else:
            self._table.update_incremental()
        return self._table


def last_transaction(path: str, app_id: str) -> int | None:
    """The newest transaction version that a local table holds for an app id; None if there is no such table."""
    try:
        return DeltaTable(str(local_path(path))).transaction_version(app_id)
    except TableNotFoundError:
        return None


def newest_version(path: str) -> int:
    """The newest version of a local table."""
    return DeltaTable(str(local_path(path))).version()
