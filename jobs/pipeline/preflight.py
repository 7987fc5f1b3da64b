"""What is looked at before a query starts: a state in which going on would lose or double rows is refused.

All findings are StateMismatchErrors, each with a code of its own. Nothing is written before they are made.
"""

import json
from collections.abc import Iterable

from pyspark.sql import SparkSession

from jobs.pipeline.checkpoint import CheckpointState, read_state
from jobs.pipeline.commit import Step, transaction
from jobs.pipeline.delta import RETENTION, TableState, find_restore, read_table
from jobs.pipeline.errors import CheckpointGoneError, ReplayDiffersError, TableBehindError, TableForgetsError
from jobs.pipeline.ledger import find_source_range, find_writers
from jobs.pipeline.model import Pipeline

_RESET = "`esclusa run {} --reset-checkpoint` starts anew: it reads all that the source holds, also what is written"


def check_start(spark: SparkSession, pipeline: Pipeline) -> int:
    """The newest batch that the tables hold something of; -1 for none. Batches up to it are asked for what is done.

    To be called under the lease, before the tables are created. Starts no Spark job on local paths. Raises a
    StateMismatchError where going on would lose or double rows.
    """
    state = read_state(spark, pipeline.checkpoint)
    tables = _read_tables(spark, pipeline, state.query_id or "")
    for step, table in tables.items():
        _refuse_forgetting(_path(pipeline, step), table)
    newest = max((table.transaction for table in tables.values() if table.transaction is not None), default=-1)
    _refuse_lost_checkpoint(spark, pipeline, state, tables, newest)
    _refuse_lost_plans(pipeline, state, tables, newest)
    _refuse_table_behind(spark, pipeline, state, tables.get(Step.TARGET))
    return newest


def check_replay(spark: SparkSession, pipeline: Pipeline, query_id: str, batch_id: int, source_range: str) -> None:
    """Return if a batch that the ledger holds as done covered what it covers now; ReplayDiffersError otherwise.

    After a crash it does. It may not where an older checkpoint was restored, for then the batch was planned again.
    """
    written = find_source_range(spark, pipeline.ledger_path, query_id, batch_id)
    if written is not None and json.loads(written) != json.loads(source_range):
        message = (
            f"batch {batch_id} is written, over {written}, and the checkpoint {pipeline.checkpoint} has planned it "
            f"again, over {source_range}: it was restored from an older copy, and rows would be lost. Restore a copy "
            f"that is not older than that batch; or empty the tables, and {_RESET.format(pipeline.name)}"
        )
        raise ReplayDiffersError(message)


def _read_tables(spark: SparkSession, pipeline: Pipeline, query_id: str) -> dict[Step, TableState]:
    """Those tables of the pipeline that are there."""
    found = {step: read_table(spark, _path(pipeline, step), transaction(query_id, step, 0).app_id) for step in Step}
    return {step: table for step, table in found.items() if table is not None}


def _path(pipeline: Pipeline, step: Step) -> str:
    paths = {
        Step.TARGET: pipeline.spec.sink.path,
        Step.QUARANTINE: pipeline.quarantine_path,
        Step.LEDGER: pipeline.ledger_path,
    }
    return paths[step]


def _refuse_forgetting(path: str, table: TableState) -> None:
    """Whatever its value: Delta's default is to remember for ever, and any less is an outage that doubles rows."""
    if table.retention is not None:
        message = (
            f"the table {path} has the property {RETENTION} = {table.retention}: Delta would forget which batches are "
            f"written, and a replay would double them. ALTER TABLE delta.`{path}` UNSET TBLPROPERTIES ('{RETENTION}')"
        )
        raise TableForgetsError(message)


def _refuse_lost_checkpoint(
    spark: SparkSession, pipeline: Pipeline, state: CheckpointState, tables: dict[Step, TableState], newest: int
) -> None:
    has_lost_all_but_metadata = state.planned < 0 <= newest
    missing = state.missing or (["offsets", "commits", "sources"] if has_lost_all_but_metadata else [])
    if missing:
        message = (
            f"the checkpoint {pipeline.checkpoint} lacks {_listed(missing)}: it was deleted or copied in part. Restore "
            f"it; or empty the tables, and {_RESET.format(pipeline.name)}"
        )
        raise CheckpointGoneError(message)
    if Step.LEDGER not in tables or tables[Step.LEDGER].transaction is not None:
        return
    writers = find_writers(spark, pipeline.ledger_path)
    if writers:
        found = f"is that of query {state.query_id}" if state.query_id else "is gone"
        message = (
            f"the checkpoint {pipeline.checkpoint} {found}, and the ledger says that query {_listed(writers)} has "
            f"written the tables; a new query would write the same rows again. Restore the checkpoint of that query; "
            f"or empty the tables, and {_RESET.format(pipeline.name)}"
        )
        raise CheckpointGoneError(message)


def _refuse_lost_plans(pipeline: Pipeline, state: CheckpointState, tables: dict[Step, TableState], newest: int) -> None:
    """A batch committed in part must run over what it ran over, which only the checkpoint knows before the ledger."""
    ledger = tables.get(Step.LEDGER)
    recorded = ledger.transaction if ledger and ledger.transaction is not None else -1
    if newest > max(state.planned, recorded):
        message = (
            f"the checkpoint {pipeline.checkpoint} has planned batches up to {state.planned}, and a table holds a part "
            f"of batch {newest}, which is not in the ledger: an older checkpoint or ledger was restored. Restore a "
            f"newer one; or empty the tables, and {_RESET.format(pipeline.name)}"
        )
        raise CheckpointGoneError(message)


def _refuse_table_behind(
    spark: SparkSession, pipeline: Pipeline, state: CheckpointState, target: TableState | None
) -> None:
    if state.done < 0:
        return
    path = pipeline.spec.sink.path
    written = target.transaction if target and target.transaction is not None else -1
    if written < state.done:
        raise _table_behind(pipeline, f"lacks batches {written + 1} to {state.done}")
    assert target is not None  # noqa: S101 - it has the transaction
    app_id = transaction(state.query_id or "", Step.TARGET, 0).app_id
    restored = find_restore(spark, path, app_id, target.version)
    if restored is not None:
        raise _table_behind(pipeline, f"was set back to version {restored}, from before batch {state.done}")


def _table_behind(pipeline: Pipeline, found: str) -> TableBehindError:
    return TableBehindError(
        f"the table {pipeline.spec.sink.path} {found}, which the checkpoint {pipeline.checkpoint} says are written. "
        f"Set the table forward again (RESTORE TABLE … TO VERSION AS OF …), or restore a copy of the checkpoint, with "
        f"table and ledger, from one moment; or empty the tables, and {_RESET.format(pipeline.name)}"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
