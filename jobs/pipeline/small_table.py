"""A table that gets a few rows a batch, quarantine or ledger: by delta-rs where it reaches the table, for that needs no
Spark job, and through Spark elsewhere. Both know each other's application transactions.
"""

from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from pyspark.sql import DataFrameWriter, SparkSession

from jobs.pipeline.delta import Commit, TransactionId, last_transaction, snapshot_of
from jobs.pipeline.errors import LeaseLostError
from jobs.pipeline.file_lock import hold_new_table, hold_table_for_python
from jobs.pipeline.lease import Lease
from jobs.pipeline.staged_append import stage_append
from jobs.pipeline.storage import exists, local_path


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

    def append(self, rows: list[dict[str, Any]], transaction: TransactionId, lease: Lease | None = None) -> Commit:
        """Append rows (may be none); a transaction that is already there must not be passed again.

        The lease is asked right before the commit: on a store behind the staging, for what others commit from then on
        Delta refuses.
        LeaseLostError, having written nothing, if delta-rs finds it there: then another run has made it meanwhile.
        A local table that an earlier version made gets the columns that it lacks.
        """
        table = pa.Table.from_pylist(rows, schema=self._schema)
        if self._folder is None:
            staged = stage_append(self._spark.createDataFrame(table), self._path, transaction)
            if lease is None:  # what others commit from the staging on Delta refuses; what came before it looks over
                self._refuse_done(last_transaction(self._spark, self._path, transaction.app_id), transaction)
            _check(lease)
            return staged.commit()
        properties = CommitProperties(app_transactions=[Transaction(transaction.app_id, transaction.version)])
        with hold_table_for_python(self._folder):
            delta_table = self._refreshed()
            _check(lease)
            # delta-rs itself looks for the transaction in commits newer than what it has read.
            self._refuse_done(delta_table.transaction_version(transaction.app_id), transaction)
            write_deltalake(delta_table, table, mode="append", schema_mode="merge", commit_properties=properties)
        return Commit(delta_table.version(), len(rows))

    def _refuse_done(self, last: int | None, transaction: TransactionId) -> None:
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


def _check(lease: Lease | None) -> None:
    if lease is not None:
        lease.check()
