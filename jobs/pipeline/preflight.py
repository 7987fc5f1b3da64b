"""What is looked at before a query starts: a state in which going on would lose or double rows is refused.

All findings are StateMismatchErrors, each with a code of its own. Nothing is written before they are made.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.sql import SparkSession

from jobs.pipeline.checkpoint import CheckpointState, SeenFile, read_batch_files, read_state
from jobs.pipeline.commit import Step
from jobs.pipeline.delta import RETENTION, TableState, find_restore, last_transaction, read_table
from jobs.pipeline.errors import (
    CheckpointGoneError,
    ConfError,
    FileChangedError,
    Problem,
    ReplayDiffersError,
    SourceChangedError,
    TableBehindError,
    TableForgetsError,
    TableRecreatedError,
    TopicRecreatedError,
)
from jobs.pipeline.gap import check_gap
from jobs.pipeline.identity import Identity, describe_source, read_identity, remember
from jobs.pipeline.ledger import find_source_range, find_writers
from jobs.pipeline.model import Pipeline
from jobs.pipeline.replay_marks import target_writers
from jobs.pipeline.reset import reset_app_id
from jobs.pipeline.source_model import FilesSource
from jobs.pipeline.sources.source import read_topic_ids
from jobs.pipeline.storage import default_scheme, exists, modified_ms
from jobs.pipeline.tables import newest_in, read_pinned_tables, read_tables, table_path

_COMPARED = (Step.TARGET, Step.QUARANTINE)
"""Tables that hold rows, which must stay the same tables."""
_FILES_NAMED = 5
_RESET = "`esclusa run {} --reset-checkpoint` starts anew: it reads all that the source holds, also what is written"


@dataclass(frozen=True, slots=True)
class Findings:
    """What a start has found to be in order."""

    newest_written: int
    """The newest batch that a table holds something of; -1 for none. Batches up to it may be replays."""
    target_version: int | None
    """Of the target, which no RESTORE has set back so far; None if there is none."""
    known: Identity
    topics: dict[str, str]


def is_absent(spark: SparkSession, pipeline: Pipeline) -> bool:
    """Whether a pipeline over a folder of an archive has nothing to read: no such folder, and none of it was begun.

    A folder that is gone since is no such case: what was planned over it would be lost without a word.
    """
    source = pipeline.spec.source
    if pipeline.name == pipeline.live_name or not isinstance(source, FilesSource):
        return False
    return not exists(spark, source.path) and not exists(spark, pipeline.checkpoint)


def refuse_two_places(spark: SparkSession, pipeline: Pipeline) -> None:
    """Return if every path is one place; ConfError for those without a scheme where Hadoop's default is not local.

    Python would find them on the driver's disk, Spark on that file system: two drivers would hold one lease.
    """
    scheme, sink, source = default_scheme(spark), pipeline.spec.sink, pipeline.spec.source
    paths = {
        (pipeline.file, "source.path"): source.path if isinstance(source, FilesSource) else None,
        (pipeline.file, "sink.path"): sink.path,
        (pipeline.file, "sink.quarantine_path"): sink.quarantine_path,
        ("the target's file", "state"): pipeline.checkpoint.removesuffix(f"/checkpoints/{pipeline.name}"),
    }
    bare = {key: path for key, path in paths.items() if path and path.startswith("/")}
    if scheme != "file" and bare:
        why = f"has no scheme, and Spark's default file system is {scheme}:"
        messages = {key: f"{path} {why}; write file:{path} or {scheme}:{path}" for key, path in bare.items()}
        raise ConfError([Problem(file, None, key, message) for (file, key), message in messages.items()])


def check_start(spark: SparkSession, pipeline: Pipeline) -> Findings:
    """Return if the query may go on from its checkpoint; a StateMismatchError where that would lose or double rows.

    To be called under the lease, before the tables are created. Starts no Spark job on local paths.
    """
    target = read_table(spark, pipeline.spec.sink.path, "")
    newest = check_state(spark, pipeline)
    known, topics = read_identity(spark, pipeline.checkpoint), read_topic_ids(spark, pipeline)
    _refuse_other_topics(pipeline, known.topics, topics)
    check_gap(spark, pipeline)
    return Findings(newest, target.version if target else None, known, topics)


def check_state(spark: SparkSession | None, pipeline: Pipeline) -> int:
    """All of `check_start` but for the source itself; without Spark for local paths. Returns `newest_written`."""
    state = read_state(spark, pipeline.checkpoint)
    tables = read_tables(spark, pipeline, state.query_id or "")
    known = read_identity(spark, pipeline.checkpoint)
    _refuse_other_source(pipeline, known)
    _refuse_other_tables(pipeline, known.tables, tables)
    for step, table in tables.items():
        _refuse_forgetting(table_path(pipeline, step), table)
    attempted = [tables, read_pinned_tables(spark, pipeline, state)]
    newest = max(newest for found in attempted for newest in newest_in(found).values())
    _refuse_lost_checkpoint(spark, pipeline, state, tables, newest)
    _refuse_lost_plans(pipeline, state, tables, newest)
    _refuse_table_behind(spark, pipeline, state, tables.get(Step.TARGET))
    if state.done < state.planned == newest:
        _refuse_changed_files(spark, pipeline, tables.get(Step.LEDGER), newest)
    return newest


def remember_start(spark: SparkSession, pipeline: Pipeline, found: Findings) -> None:
    """Keep what later starts are compared with; to be called when the tables are there, before the query starts."""
    tables = {step: read_table(spark, table_path(pipeline, step), "") for step in _COMPARED}
    ids = {str(step): table.id for step, table in tables.items() if table is not None}
    met = Identity(source=describe_source(pipeline.spec.source), topics=found.topics, tables=ids)
    remember(spark, pipeline.checkpoint, found.known, met)


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


def _refuse_other_source(pipeline: Pipeline, known: Identity) -> None:
    today = describe_source(pipeline.spec.source)
    if known.source and known.source != today:
        keys = [key for key in known.source | today if known.source.get(key) != today.get(key)]
        changes = "; ".join(
            f"{key} was {known.source.get(key, 'not set')}, is {today.get(key, 'not set')}" for key in keys
        )
        message = (
            f"the checkpoint {pipeline.checkpoint} counts through another source: {changes}. Put the source back, or "
            f"give the new one a pipeline of its own; or {_RESET.format(pipeline.name)}"
        )
        raise SourceChangedError(message)


def _refuse_other_topics(pipeline: Pipeline, known: dict[str, str], topics: dict[str, str]) -> None:
    others = [name for name, id_ in topics.items() if known.get(name, id_) != id_]
    if others:
        ids = "; ".join(f"{name} had the id {known[name]}, has {topics[name]}" for name in others)
        message = (
            f"a topic was deleted and created again: {ids}. The offsets of the checkpoint {pipeline.checkpoint} are "
            f"another's: its records would be skipped. {_RESET.format(pipeline.name)}; where the topic holds nothing "
            f"that is written, that is all there is to do"
        )
        raise TopicRecreatedError(message)


def _refuse_other_tables(pipeline: Pipeline, known: dict[str, str], tables: dict[Step, TableState]) -> None:
    for step in _COMPARED:
        table = tables.get(step)
        if table and known.get(step, table.id) != table.id:
            message = (
                f"the table {table_path(pipeline, step)} was deleted and created again: its id was {known[step]}, is "
                f"{table.id}. What was written before is not in it. Put the earlier table back; or empty the tables, "
                f"and {_RESET.format(pipeline.name)}"
            )
            raise TableRecreatedError(message)


def _refuse_forgetting(path: str, table: TableState) -> None:
    """Whatever its value: Delta's default is to remember for ever, and any less is an outage that doubles rows."""
    if table.retention is not None:
        message = (
            f"the table {path} has the property {RETENTION} = {table.retention}: Delta would forget which batches are "
            f"written, and a replay would double them. ALTER TABLE delta.`{path}` UNSET TBLPROPERTIES ('{RETENTION}')"
        )
        raise TableForgetsError(message)


def _refuse_lost_checkpoint(
    spark: SparkSession | None, pipeline: Pipeline, state: CheckpointState, tables: dict[Step, TableState], newest: int
) -> None:
    has_lost_all_but_metadata = state.planned < 0 <= newest
    missing = state.missing or (["offsets", "commits", "sources"] if has_lost_all_but_metadata else [])
    if missing:
        message = (
            f"the checkpoint {pipeline.checkpoint} lacks {_listed(missing)}: it was deleted or copied in part. Restore "
            f"it; or empty the tables, and {_RESET.format(pipeline.name)}"
        )
        raise CheckpointGoneError(message)
    if Step.LEDGER not in tables:
        return
    _refuse_set_aside(spark, pipeline, state.query_id or "")
    if tables[Step.LEDGER].transaction is not None:
        return
    writers = [writer for writer in find_writers(spark, pipeline.ledger_path) if writer != state.query_id]
    if writers:
        found = f"is that of query {state.query_id}" if state.query_id else "is gone"
        message = (
            f"the checkpoint {pipeline.checkpoint} {found}, and the ledger says that query {_listed(writers)} has "
            f"written the tables; a new query would write the same rows again. Restore the checkpoint of that query; "
            f"or empty the tables, and {_RESET.format(pipeline.name)}"
        )
        raise CheckpointGoneError(message)


def _refuse_set_aside(spark: SparkSession | None, pipeline: Pipeline, query_id: str) -> None:
    if query_id and last_transaction(spark, pipeline.ledger_path, reset_app_id(query_id)) is not None:
        message = (
            f"the checkpoint {pipeline.checkpoint} was set aside by --reset-checkpoint, says the ledger, and is back: "
            f"another query may have written the same rows since. Set it aside again: {_RESET.format(pipeline.name)}"
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
    spark: SparkSession | None, pipeline: Pipeline, state: CheckpointState, target: TableState | None
) -> None:
    if state.done < 0:
        return
    path = pipeline.spec.sink.path
    written = target.transaction if target and target.transaction is not None else -1
    if written < state.done:
        raise _table_behind(pipeline, f"lacks batches {written + 1} to {state.done}")
    assert target is not None  # noqa: S101 - it has the transaction
    restored = find_restore(spark, path, target_writers(pipeline, state.query_id or ""), target.version)
    if restored is not None:
        raise _table_behind(pipeline, f"was set back to version {restored}, from before batch {state.done} or a replay")


def _refuse_changed_files(
    spark: SparkSession | None, pipeline: Pipeline, ledger: TableState | None, batch_id: int
) -> None:
    """The rest of a batch must come of what its beginning came of; files that are gone are found elsewhere."""
    if ledger is not None and ledger.transaction == batch_id:
        return
    files = read_batch_files(spark, pipeline.checkpoint, batch_id)
    changed = [file.plain_path for file in files if _was_changed(spark, file)]
    if changed:
        message = (
            f"batch {batch_id} is committed in part, and of its {len(files)} files these have changed since: "
            f"{_listed(changed[:_FILES_NAMED])}. Put the earlier content back, with its modification time (cp -p), and "
            f"run again; place the new content under a new name"
        )
        raise FileChangedError(message)


def _was_changed(spark: SparkSession | None, file: SeenFile) -> bool:
    return exists(spark, file.plain_path) and modified_ms(spark, file.plain_path) != file.modified_ms


def _table_behind(pipeline: Pipeline, found: str) -> TableBehindError:
    return TableBehindError(
        f"the table {pipeline.spec.sink.path} {found}, which the checkpoint {pipeline.checkpoint} says are written. "
        f"Set the table forward again (RESTORE TABLE … TO VERSION AS OF …), or restore a copy of the checkpoint, with "
        f"table and ledger, from one moment; or empty the tables, and {_RESET.format(pipeline.name)}"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
