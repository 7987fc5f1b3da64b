"""What Delta tables say of themselves and their commits: by delta-rs where it reaches them, by Spark elsewhere."""

import json
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.pipeline.jvm import jvm_class, jvm_session, scala_none
from jobs.pipeline.storage import exists, local_path, read_text, require_spark

RETENTION = "delta.setTransactionRetentionDuration"
"""After how long a table forgets a transaction; never, if it is not set."""
_COMMITS_SEARCHED = 200


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


def delta_log(spark: SparkSession, path: str) -> Any:
    """The JVM's DeltaLog of a table."""
    return jvm_class(spark, "org.apache.spark.sql.delta.DeltaLog").forTable(jvm_session(spark), path)


def find_commit(spark: SparkSession, path: str, transaction: TransactionId) -> Commit | None:
    """The commit that made this transaction, looking back from the newest; None if the log has it no more."""
    found = _find_actions(spark, path, transaction)
    return Commit(found[0], count_rows(found[1])) if found else None


def find_metrics(spark: SparkSession, path: str, transaction: TransactionId) -> dict[str, str]:
    """What Delta's own command counted in the commit that made this transaction; empty if the log has it no more."""
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
    wanted = {"appId": transaction.app_id, "version": transaction.version}
    for version in range(newest_version(spark, path), -1, -1):
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
    text = read_text(spark, name) if folder is None else Path(name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]  # statistics may hold U+2028, as data do


def count_rows(actions: Iterable[dict[str, Any]]) -> int | None:
    """Rows added, from the files' own statistics: they count what the files hold, not what was meant."""
    added = [json.loads(action["add"].get("stats") or "{}") for action in actions if "add" in action]
    counts = [stats.get("numRecords") for stats in added]
    return None if None in counts else sum(counts)


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


def has_version(spark: SparkSession, path: str, version: int) -> bool:
    """Whether the table's log holds this version."""
    return exists(spark, _log_file(path, version))


def find_restore(spark: SparkSession | None, path: str, app_ids: Container[str], newest: int) -> int | None:
    """The version that the table was set back to since the newest commit of these app ids; None if it was not.

    A RESTORE leaves the transactions as they are, so that they do not tell. Looks back over 200 commits.
    """
    shown = newest
    for version in range(newest, max(-1, newest - _COMMITS_SEARCHED), -1):
        if not exists(spark, _log_file(path, version)):
            return None
        actions = _actions(spark, path, version)
        if any(action.get("txn", {}).get("appId") in app_ids for action in actions):
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
    none = scala_none(spark)
    return delta_log(spark, path).update(False, none, none)
