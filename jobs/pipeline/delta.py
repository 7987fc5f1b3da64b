"""Delta tables as the batch protocol needs them: creation, small idempotent commits, and what a commit holds.

Small commits (quarantine, ledger) go through delta-rs where it reaches the table, for they then need no Spark job;
elsewhere through Spark. Both know each other's application transactions.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from pyspark.sql import DataFrame, DataFrameWriter, SparkSession

from jobs.pipeline.errors import LeaseLostError, UnavailableError
from jobs.pipeline.file_lock import hold_new_table, hold_table_for_python, hold_table_for_spark
from jobs.pipeline.storage import delete_file, exists, local_path, read_text, require_spark
from jobs.pipeline.table_model import SHORTEST_RETENTION

RETENTION = "delta.setTransactionRetentionDuration"
"""After how long a table forgets a transaction; never, if it is not set."""
_COMMITS_SEARCHED = 200
_LONGEST_STAY = SHORTEST_RETENTION - timedelta(days=1)
"""How long staged files may wait; a day less than VACUUM leaves them alone."""


@dataclass(frozen=True, slots=True)
class TransactionId:
    """Names one logical write for ever: a table takes a commit with this id at most once."""

    app_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Commit:
    """What one table version holds; `rows` is None for a commit without that figure."""

    version: int
    rows: int | None


@dataclass(frozen=True, slots=True)
class StagedAppend:
    """Data files that are written but not committed: no reader sees them, and VACUUM would remove them.

    `rows` is what the files' own statistics count; None for a table that keeps none.
    """

    path: str
    rows: int | None
    _spark: SparkSession
    _transaction: Any
    _written: Any
    _operation: Any
    _begun_at: float

    def commit(self) -> Commit:
        """Make the rows visible, all at once, together with the transaction's id; starts no Spark job.

        Raises Delta's ConcurrentTransactionException if another writer has committed the same app id meanwhile,
        UnavailableError for files so old that a VACUUM may have removed them.
        """
        self._refuse_stale()
        actions, tags = self._written.actions(), self._written.stringTags()
        with hold_table_for_spark(self._spark, self.path):
            version = self._transaction.commit(actions, self._operation, tags)
        return Commit(version, self.rows)

    def _refuse_stale(self) -> None:
        """A driver that was paused for days must not commit files that are gone."""
        if time.time() - self._begun_at > _LONGEST_STAY.total_seconds():
            message = f"files for {self.path} have waited {_LONGEST_STAY.days} days for their commit; write them anew"
            raise UnavailableError(message)

    def discard(self) -> None:
        """Remove the files."""
        names = [json.loads(action)["add"]["path"] for action in _texts(self._written) if '"add"' in action]
        for name in names:
            delete_file(self._spark, f"{self.path}/{unquote(name)}")


def stage_append(df: DataFrame, path: str, transaction: TransactionId, *, merges_schema: bool = False) -> StagedAppend:
    """Write the rows as data files of the table, with one Spark job; the commit is the caller's.

    With `merges_schema` columns that the table lacks join it by that same commit, as Delta's `mergeSchema` does.

    Delta's own command does the writing, with its checks of schema, constraints and invariants. Its public door
    (`txnAppId` and `txnVersion` on a writer) commits in the same breath, before anyone can look at what the scan
    observed, and reconstructs the whole table state for each write only to ask for one transaction's version.
    """
    spark, begun_at = df.sparkSession, time.time()
    log = delta_log(spark, path)
    running = log.startTransaction()
    getattr(running.readTxn(), "$plus$eq")(transaction.app_id)
    options = {"txnAppId": transaction.app_id, "txnVersion": str(transaction.version)}
    if merges_schema:
        options["mergeSchema"] = "true"
    written = _append_command(df, log, options).writeAndReturnCommitData(running, _session(spark), _none(spark), False)
    rows = _rows_of(map(json.loads, _texts(written)))
    return StagedAppend(path, rows, spark, running, written, _append_operation(spark), begun_at)


def _append_command(df: DataFrame, log: Any, options: dict[str, str]) -> Any:
    """Delta's command behind an append, with the options of Delta's writer; `txn…` put its id into the commit."""
    jvm, none = _jvm(df.sparkSession), _none(df.sparkSession)
    delta, to_scala = jvm.org.apache.spark.sql.delta, jvm.PythonUtils
    parsed = delta.DeltaOptions(to_scala.toScalaMap(options), _session(df.sparkSession).sessionState().conf())
    mode, nothing, frame = jvm.org.apache.spark.sql.SaveMode.Append, to_scala.toSeq([]), df._jdf  # noqa: SLF001
    empty = to_scala.toScalaMap({})
    return delta.commands.WriteIntoDelta(log, mode, parsed, nothing, empty, frame, none, none, False)


def _append_operation(spark: SparkSession) -> Any:
    """What the table's history shows of the commit."""
    jvm = _jvm(spark)
    write = getattr(jvm.org.apache.spark.sql.delta, "DeltaOperations$Write")
    return write(jvm.org.apache.spark.sql.SaveMode.Append, *[_none(spark)] * 8)


def delta_log(spark: SparkSession, path: str) -> Any:
    """The JVM's DeltaLog of a table."""
    return _jvm(spark).org.apache.spark.sql.delta.DeltaLog.forTable(_session(spark), path)


def _jvm(spark: SparkSession) -> Any:
    return spark._jvm  # noqa: SLF001 - Delta's transactions have no Python door


def _session(spark: SparkSession) -> Any:
    return spark._jsparkSession  # noqa: SLF001


def _none(spark: SparkSession) -> Any:
    return _jvm(spark).scala.Option.empty()


def _texts(written: Any) -> Iterator[str]:
    """Each action of a commit, as the log will have it."""
    actions = written.actions()
    return (actions.apply(index).json() for index in range(actions.size()))


def find_commit(spark: SparkSession, path: str, transaction: TransactionId) -> Commit | None:
    """The commit that made this transaction, looking back from the newest; None if it is not near."""
    found = _find_actions(spark, path, transaction)
    return Commit(found[0], _rows_of(found[1])) if found else None


def find_metrics(spark: SparkSession, path: str, transaction: TransactionId) -> dict[str, str]:
    """What Delta's own command counted in the commit that made this transaction; empty if that is not near."""
    found = _find_actions(spark, path, transaction)
    metrics = (
        [action["commitInfo"].get("operationMetrics", {}) for action in found[1] if "commitInfo" in action]
        if found
        else []
    )
    return metrics[0] if metrics else {}


def _find_actions(
    spark: SparkSession, path: str, transaction: TransactionId
) -> tuple[int, list[dict[str, Any]]] | None:
    newest = newest_version(spark, path)
    wanted = {"appId": transaction.app_id, "version": transaction.version}
    for version in range(newest, max(-1, newest - _COMMITS_SEARCHED), -1):
        if not exists(spark, _log_file(path, version)):
            return None
        actions = _actions(spark, path, version)
        if any(wanted.items() <= action.get("txn", {}).items() for action in actions):
            return version, actions
    return None


def _log_file(path: str, version: int) -> str:
    return f"{path}/_delta_log/{version:020d}.json"


def _actions(spark: SparkSession | None, path: str, version: int) -> list[dict[str, Any]]:
    folder = local_path(path)
    name = _log_file(path if folder is None else folder, version)
    text = read_text(spark, name) if folder is None else Path(name).read_text()
    return [json.loads(line) for line in text.splitlines() if line]


def _rows_of(actions: Iterable[dict[str, Any]]) -> int | None:
    """Rows added, from the files' own statistics: they count what the files hold, not what was meant."""
    added = [json.loads(action["add"].get("stats") or "{}") for action in actions if "add" in action]
    counts = [stats.get("numRecords") for stats in added]
    return None if None in counts else sum(counts)


class SmallTable:
    """A table that the driver appends a few rows to, batch by batch; creates it on first use.

    A table on a local path needs no session.
    """

    def __init__(self, spark: SparkSession | None, path: str, schema: pa.Schema) -> None:
        self._session = spark
        self._path = path
        self._schema = schema
        self._folder = local_path(path)
        self._table: DeltaTable | None = None

    def create(self) -> None:
        """Create the table if there is none; one of an earlier release gets the columns that it lacks, a local one
        with its next row. Idempotent.
        """
        if self._folder is not None:
            with hold_new_table(self._folder):
                DeltaTable.create(self._folder, self._schema, mode="ignore")
        elif not exists(self._spark, f"{self._path}/_delta_log"):
            self._empty_write().mode("ignore").save(self._path)
        elif not set(self._schema.names) <= set(snapshot_of(self._spark, self._path).schema().fieldNames()):
            self._empty_write().mode("append").option("mergeSchema", "true").save(self._path)

    def _empty_write(self) -> DataFrameWriter:
        return self._spark.createDataFrame(self._schema.empty_table()).write.format("delta")

    def append(self, rows: list[dict[str, Any]], transaction: TransactionId) -> Commit:
        """Append rows (may be none); a transaction that is already there must not be passed again.

        LeaseLostError, having written nothing, if delta-rs finds it there: then another run has made it meanwhile.
        A local table that an earlier version made gets the columns that it lacks.
        """
        table = pa.Table.from_pylist(rows, schema=self._schema)
        if self._folder is None:
            return stage_append(self._spark.createDataFrame(table), self._path, transaction).commit()
        properties = CommitProperties(app_transactions=[Transaction(transaction.app_id, transaction.version)])
        with hold_table_for_python(self._folder):
            delta_table = self._refreshed()
            self._refuse_done(delta_table, transaction)
            write_deltalake(delta_table, table, mode="append", schema_mode="merge", commit_properties=properties)
        return Commit(delta_table.version(), len(rows))

    def _refuse_done(self, table: DeltaTable, transaction: TransactionId) -> None:
        """delta-rs itself looks for the transaction in commits newer than what it has read."""
        last = table.transaction_version(transaction.app_id)
        if last is not None and last >= transaction.version:
            message = f"another run has committed {transaction.app_id} {transaction.version} to {self._path}"
            raise LeaseLostError(message)

    def last_version_of(self, app_id: str) -> int | None:
        """The newest transaction version that the table holds for an app id; None if it holds none."""
        if self._folder is None:
            return last_transaction(self._spark, self._path, app_id)
        return self._refreshed().transaction_version(app_id)

    @property
    def _spark(self) -> SparkSession:
        assert self._session is not None  # noqa: S101 - the caller's part, where the path is not local
        return self._session

    def _refreshed(self) -> DeltaTable:
        if self._table is None:
            self._table = DeltaTable(str(self._folder))
        else:
            self._table.update_incremental()
        return self._table


def last_transaction(spark: SparkSession | None, path: str, app_id: str) -> int | None:
    """The newest transaction version that a table holds for an app id; Spark jobs run only where delta-rs cannot."""
    folder = local_path(path)
    if folder is not None:
        return DeltaTable(folder).transaction_version(app_id)
    found = snapshot_of(spark, path).transactions().get(app_id)
    return int(found.get()) if found.isDefined() else None


@dataclass(frozen=True, slots=True)
class TableState:
    """What a table says about itself."""

    id: str
    """Given at its creation; a table made anew at the same path has another."""
    version: int
    retention: str | None
    """Its property RETENTION, if it is set."""
    transaction: int | None
    """The newest transaction version of the app id that was asked for."""


def read_table(spark: SparkSession | None, path: str, app_id: str) -> TableState | None:
    """None if there is no table; Spark jobs run only where delta-rs cannot look."""
    folder = local_path(path)
    if folder is None:
        return _read_table_by_spark(spark, path, app_id)
    if not DeltaTable.is_deltatable(folder):
        return None
    table = DeltaTable(folder)
    about = table.metadata()
    return TableState(
        str(about.id), table.version(), about.configuration.get(RETENTION), table.transaction_version(app_id)
    )


def _read_table_by_spark(spark: SparkSession | None, path: str, app_id: str) -> TableState | None:
    if not exists(spark, f"{path}/_delta_log"):
        return None
    snapshot = snapshot_of(spark, path)
    about = snapshot.metadata()
    retention = about.configuration().get(RETENTION)
    found = snapshot.transactions().get(app_id)
    return TableState(
        str(about.id()),
        int(snapshot.version()),
        str(retention.get()) if retention.isDefined() else None,
        int(found.get()) if found.isDefined() else None,
    )


def find_restore(spark: SparkSession | None, path: str, app_id: str, newest: int) -> int | None:
    """The version that the table was set back to since the newest commit of an app id; None if it was not.

    A RESTORE leaves the transactions as they are, so that they do not tell. Looks back as far as `find_commit` does.
    """
    shown = newest
    for version in range(newest, max(-1, newest - _COMMITS_SEARCHED), -1):
        if not exists(spark, _log_file(path, version)):
            return None
        actions = _actions(spark, path, version)
        if any(action.get("txn", {}).get("appId") == app_id for action in actions):
            return shown if shown < version else None
        if version == shown:  # what this version shows is what the one before it showed, unless it is a RESTORE
            shown = next((found for found in map(_restored_version, actions) if found is not None), version - 1)
    return None


def _restored_version(action: dict[str, Any]) -> int | None:
    """The version a RESTORE names; 0, the oldest, for one that names a time."""
    about = action.get("commitInfo", {})
    if about.get("operation") != "RESTORE":
        return None
    return int(about["operationParameters"].get("version") or 0)


def newest_version(spark: SparkSession, path: str) -> int:
    """The table's newest version."""
    folder = local_path(path)
    return DeltaTable(folder).version() if folder is not None else int(snapshot_of(spark, path).version())


def snapshot_of(spark: SparkSession | None, path: str) -> Any:
    """The JVM's Snapshot of a table's newest version."""
    spark = require_spark(spark, path)
    none = _none(spark)
    return delta_log(spark, path).update(False, none, none)
