"""Forgets the newest plan of a checkpoint on an operator's word: `esclusa checkpoint rewind NAME --to-batch N`.

A plan fixes what a batch covers. While nothing of the batch is committed anywhere it binds nobody: without it the next
start plans the batch anew, within the limits that conf has by then. No more than that can be undone: whatever is
committed stays, and so do the plans by which it was committed.
"""

from datetime import UTC, datetime

from pyspark.sql import SparkSession

from jobs.pipeline.checkpoint import CheckpointState, find_logs_beyond, read_query_id, read_state
from jobs.pipeline.delta import TransactionId
from jobs.pipeline.errors import RewindRefusedError
from jobs.pipeline.lease import Lease, hold_lease
from jobs.pipeline.ledger import SCHEMA, Status, operator_row, plan_number, rewind_app_id
from jobs.pipeline.model import Pipeline
from jobs.pipeline.preflight import check_state
from jobs.pipeline.release import is_decided
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.source_model import FilesSource
from jobs.pipeline.storage import delete_file


def rewind_checkpoint(spark: SparkSession, pipeline: Pipeline, to_batch: int) -> str:
    """Forget the plan of the batch behind `to_batch`; returns who did it and what, as the ledger has it by then.

    RewindRefusedError, with nothing changed, where something of that batch is committed or decided. A crash halfway
    does no harm: repeat it, or start the pipeline, and the batch runs as it was planned.
    """
    with hold_lease(spark, pipeline.name, pipeline.lease_path) as lease:
        newest_written = check_state(spark, pipeline)
        state = read_state(spark, pipeline.checkpoint)
        _refuse_other_batch(pipeline, state, to_batch)
        logs = _find_logs(spark, pipeline, to_batch)
        _refuse_nothing(pipeline, state, logs)
        _refuse_bound(spark, pipeline, to_batch + 1, newest_written)
        _refuse_summed_up(pipeline, logs)
        message = _record(spark, pipeline, to_batch + 1, lease)
        # In this order: a log of files that is ahead of the plans is what a crash leaves, and Spark copes with that.
        for name in (f"offsets/{to_batch + 1}", *logs):
            delete_file(spark, f"{pipeline.checkpoint}/{name}")
    return message


def _find_logs(spark: SparkSession, pipeline: Pipeline, to_batch: int) -> list[str]:
    """Entries in the log of files that only the forgotten plan speaks of; where topics begin is kept."""
    if not isinstance(pipeline.spec.source, FilesSource):
        return []
    return [f"sources/0/{name}" for name in find_logs_beyond(spark, pipeline.checkpoint, to_batch)]


def _refuse_other_batch(pipeline: Pipeline, state: CheckpointState, to_batch: int) -> None:
    if to_batch != state.done:
        reached = f"batch {state.done} is" if state.done >= 0 else "no batch is"
        why = f"{reached} the newest that is done: only the plan behind that can be forgotten (--to-batch {state.done})"
        raise _refused(pipeline, why)


def _refuse_nothing(pipeline: Pipeline, state: CheckpointState, logs: list[str]) -> None:
    if state.planned == state.done and not logs:
        raise _refused(pipeline, f"no batch is planned behind batch {state.done}: the next start plans anew as it is")


def _refuse_bound(spark: SparkSession, pipeline: Pipeline, batch_id: int, newest_written: int) -> None:
    if newest_written >= batch_id:
        why = f"batch {batch_id} is committed in part, and only this plan finishes it. Start the pipeline"
        raise _refused(pipeline, why)
    if is_decided(_ledger(spark, pipeline), read_query_id(spark, pipeline.checkpoint) or "", batch_id):
        why = f"the ledger has a decision on batch {batch_id} as it is planned; a start carries it out"
        raise _refused(pipeline, why)


def _refuse_summed_up(pipeline: Pipeline, logs: list[str]) -> None:
    """Such an entry holds those before it too, which are gone by themselves."""
    if any(name.endswith(".compact") for name in logs):
        why = (
            "the log of files was summed up with this plan, as it is with one plan in ten, and cannot be taken back. "
            "Start the pipeline, or release the batch, if it is held"
        )
        raise _refused(pipeline, why)


def _refused(pipeline: Pipeline, why: str) -> RewindRefusedError:
    return RewindRefusedError(f"the checkpoint of {pipeline.name} was not rewound: {why}")


def _record(spark: SparkSession, pipeline: Pipeline, batch_id: int, lease: Lease) -> str:
    at, query_id = datetime.now(UTC), read_query_id(spark, pipeline.checkpoint) or ""
    row = operator_row(pipeline.name, Status.REWOUND, f"the plan of batch {batch_id} was forgotten", at)
    row |= {"query_id": query_id, "batch_id": batch_id}
    _ledger(spark, pipeline).append([row], TransactionId(rewind_app_id(query_id), plan_number(at)), lease)
    return str(row["message"])


def _ledger(spark: SparkSession, pipeline: Pipeline) -> SmallTable:
    return SmallTable(spark, pipeline.ledger_path, SCHEMA)
