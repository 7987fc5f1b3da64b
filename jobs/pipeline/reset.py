"""Sets a checkpoint aside on an operator's word: `esclusa run NAME --reset-checkpoint`."""

from contextlib import suppress
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from jobs.pipeline import ledger
from jobs.pipeline.checkpoint import read_query_id
from jobs.pipeline.delta import TransactionId
from jobs.pipeline.errors import CheckpointDamagedError, UnavailableError
from jobs.pipeline.lease import hold_lease
from jobs.pipeline.model import Pipeline
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.storage import exists, rename


def reset_checkpoint(spark: SparkSession, pipeline: Pipeline) -> str:
    """Rename the checkpoint, and write who did it, when and to what name into the ledger; returns that sentence.

    Deletes nothing. The next run begins as a new query, at the source's beginning. AlreadyRunningError if another run
    holds the pipeline. Where a crash falls between the two writes, the next run refuses to start; then repeat this.
    """
    with hold_lease(spark, pipeline.name, pipeline.lease_path) as lease:
        at = datetime.now(UTC)
        query_id = _query_id(spark, pipeline.checkpoint)
        table = SmallTable(spark, pipeline.ledger_path, ledger.SCHEMA)
        table.create()
        message = _set_aside(spark, pipeline.checkpoint, at)
        row = ledger.operator_row(pipeline.name, ledger.Status.RESET, message, at) | {"query_id": query_id}
        table.append([row], TransactionId(reset_app_id(query_id), int(at.timestamp() * 1000)), lease)
    return str(row["message"])


def reset_app_id(query_id: str) -> str:
    """Whose transactions in the ledger say that the query's checkpoint was set aside."""
    return f"{query_id}:reset"


def _query_id(spark: SparkSession, checkpoint: str) -> str:
    """Empty for a checkpoint that names none: that it is damaged may be why it is set aside."""
    with suppress(CheckpointDamagedError):
        return read_query_id(spark, checkpoint) or ""
    return ""


def _set_aside(spark: SparkSession, checkpoint: str, at: datetime) -> str:
    if not exists(spark, checkpoint):
        return f"there was no checkpoint {checkpoint}"
    new_path = f"{checkpoint}.{at:%Y%m%dT%H%M%S%f}"
    if not rename(spark, checkpoint, new_path):
        message = f"cannot rename the checkpoint {checkpoint} to {new_path}; nothing was changed"
        raise UnavailableError(message)
    return f"the checkpoint is now {new_path}"
