"""An append taken apart: data files are written first, and committed once it is known what they hold."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession

from jobs.pipeline.delta import Commit, TransactionId, count_rows, delta_log
from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.file_lock import hold_table_for_spark
from jobs.pipeline.jvm import jvm_class, jvm_session, scala_none
from jobs.pipeline.storage import delete_file
from jobs.pipeline.table_model import SHORTEST_RETENTION

_DELTA = "org.apache.spark.sql.delta"
_LONGEST_STAY = SHORTEST_RETENTION - timedelta(days=1)
"""How long staged files may wait; a day less than VACUUM leaves them alone."""


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
    written = _append_command(df, log, options).writeAndReturnCommitData(
        running, jvm_session(spark), scala_none(spark), False
    )
    rows = count_rows(map(json.loads, _texts(written)))
    return StagedAppend(path, rows, spark, running, written, _append_operation(spark), begun_at)


def _append_command(df: DataFrame, log: Any, options: dict[str, str]) -> Any:
    """Delta's command behind an append, with the options of Delta's writer; `txn…` put its id into the commit."""
    spark, none = df.sparkSession, scala_none(df.sparkSession)
    to_scala = jvm_class(spark, "org.apache.spark.api.python.PythonUtils")
    conf, empty, nothing = jvm_session(spark).sessionState().conf(), to_scala.toScalaMap({}), to_scala.toSeq([])
    parsed = jvm_class(spark, f"{_DELTA}.DeltaOptions")(to_scala.toScalaMap(options), conf)
    command = jvm_class(spark, f"{_DELTA}.commands.WriteIntoDelta")
    return command(log, _append_mode(spark), parsed, nothing, empty, df._jdf, none, none, False)  # noqa: SLF001


def _append_operation(spark: SparkSession) -> Any:
    """What the table's history shows of the commit."""
    write = jvm_class(spark, f"{_DELTA}.DeltaOperations$Write")
    return write(_append_mode(spark), *[scala_none(spark)] * 8)


def _append_mode(spark: SparkSession) -> Any:
    return jvm_class(spark, "org.apache.spark.sql.SaveMode").Append


def _texts(written: Any) -> Iterator[str]:
    """Each action of a commit, as the log will have it."""
    actions = written.actions()
    return (actions.apply(index).json() for index in range(actions.size()))
