"""Upkeep of one Delta table: small files joined, files that nobody needs removed, the log shortened, rows deleted.

Delta's own commands do the work. Each may be killed anywhere and repeated: what it has not committed, no reader sees,
and it removes nothing that a version which is to stay refers to. OPTIMIZE changes no rows, so appends go on beside it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentWriteException,
)
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from jobs.pipeline.command_lock import hold_table_at_commits
from jobs.pipeline.delta import TransactionId, delta_log, snapshot_of
from jobs.pipeline.errors import RetentionTooShortError
from jobs.pipeline.jvm import jvm_class, scala_none
from jobs.pipeline.storage import list_names

_CONFLICTS = (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentWriteException,
)
_TRIES = 5
_FIRST_PAUSE_SECONDS = 1.0
_LOG = "delta.logRetentionDuration"
_HOUR = timedelta(hours=1)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Size:
    """What the newest version of a table consists of."""

    files: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.files:,} files, {self.bytes:,} bytes"


def measure(spark: SparkSession, path: str) -> Size:
    """Files and bytes of the newest version."""
    [about] = DeltaTable.forPath(spark, path).detail().collect()
    return Size(about["numFiles"], about["sizeInBytes"])


def optimize(spark: SparkSession, path: str) -> int:
    """Join small files, clustered where the table is; returns how many files were replaced."""
    with hold_table_at_commits(spark, path):
        rows = _retry_conflicts(lambda: DeltaTable.forPath(spark, path).optimize().executeCompaction().collect())
    return int(rows[0]["metrics"]["numFilesRemoved"])


def require_horizon(spark: SparkSession, path: str, vacuum: timedelta, log: timedelta) -> None:
    """RetentionTooShortError if files or versions would go that the table's own properties promise its readers."""
    about = snapshot_of(spark, path).metadata()
    files = timedelta(
        milliseconds=jvm_class(spark, "org.apache.spark.sql.delta.DeltaLog").tombstoneRetentionMillis(about)
    )
    versions = timedelta(milliseconds=delta_log(spark, path).deltaRetentionMillis(about))
    promises = [("delta.deletedFileRetentionDuration", files, "vacuum", vacuum)]
    if about.configuration().contains(_LOG):  # Delta's default is no promise of this table
        promises.append((_LOG, versions, "log", log))
    for name, promised, key, wanted in promises:
        if promised > wanted:
            message = (
                f"the table {path} promises its readers more than the policy leaves: {name} is {promised}, "
                f"maintenance.{key} is {wanted}. Raise the policy, or lower the property. Nothing was removed"
            )
            raise RetentionTooShortError(message)


def vacuum(spark: SparkSession, path: str, retention: timedelta) -> int:
    """Remove files that no version of the last `retention` needs, and leftovers as old; returns their number.

    Files younger than that stay, whoever wrote them: those of a batch in flight among them.
    """
    table = DeltaTable.forPath(spark, path)
    with hold_table_at_commits(spark, path):
        table.vacuum(retention / _HOUR)
    ended = table.history(10).where("operation = 'VACUUM END'").orderBy("version", ascending=False).first()
    return int(ended["operationMetrics"]["numDeletedFiles"]) if ended else 0


def count_vacuumable(spark: SparkSession, path: str, retention: timedelta) -> int:
    """How many files `vacuum` would remove."""
    quoted = path.replace("`", "``")
    return spark.sql(f"VACUUM delta.`{quoted}` RETAIN {retention / _HOUR} HOURS DRY RUN").count()


def shorten_log(spark: SparkSession, path: str, retention: timedelta) -> int:
    """Checkpoint the log, and remove what is older and needed for no version of the last `retention`, in whole days.

    Returns how many files of the log went. Commits nothing. Delta takes versions away as far as a checkpoint before
    which all are as old: the one that is written here serves the maintenance of later days. A table that keeps its log
    for ever (delta.enableExpiredLogCleanup) keeps it.
    """
    log, snapshot, none = delta_log(spark, path), snapshot_of(spark, path), scala_none(spark)
    if not log.enableExpiredLogCleanup(snapshot.metadata()):
        return 0
    before = set(list_names(spark, f"{path}/_delta_log"))
    log.checkpoint(snapshot, none)
    milliseconds = jvm_class(spark, "java.util.OptionalLong").of(int(retention.total_seconds() * 1000))
    wanted = jvm_class(spark, "scala.jdk.javaapi.OptionConverters").toScala(milliseconds)
    log.cleanUpExpiredLogs(snapshot, none, wanted, getattr(log, "cleanUpExpiredLogs$default$4")())
    return len(before - set(list_names(spark, f"{path}/_delta_log")))


def delete_rows(own: SparkSession, path: str, row_ids: DataFrame, transaction: TransactionId) -> None:
    """Delete the rows whose `row_id` is in the frame, once for each transaction.

    `own` must be a session that does nothing else, and the frame's: a MERGE takes the transaction from the session.
    """
    own.conf.set("spark.databricks.delta.write.txnAppId", transaction.app_id)
    own.conf.set("spark.databricks.delta.write.txnVersion", str(transaction.version))
    merge = DeltaTable.forPath(own, path).alias("kept").merge(row_ids.alias("gone"), "kept.row_id = gone.row_id")
    with hold_table_at_commits(own, path):
        _retry_conflicts(merge.whenMatchedDelete().execute)


def _retry_conflicts(action: Callable[[], T]) -> T:
    """Repeat what another writer's commit has invalidated; any other failure, and the last, is raised."""
    for attempt in range(_TRIES - 1):
        try:
            return action()
        except _CONFLICTS:
            time.sleep(_FIRST_PAUSE_SECONDS * 2**attempt)
    return action()
