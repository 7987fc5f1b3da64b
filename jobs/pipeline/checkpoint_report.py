"""What a checkpoint says, what the next start would do, and whether checkpoint and tables agree. Starts no Spark."""

from collections.abc import Iterator

from jobs.pipeline.checkpoint import CheckpointState, read_batch_ids, read_source_range, read_state
from jobs.pipeline.commit import Step
from jobs.pipeline.errors import CheckpointDamagedError, StateMismatchError, TableBehindError, UnavailableError
from jobs.pipeline.ledger import find_last_quarantine
from jobs.pipeline.model import Pipeline
from jobs.pipeline.preflight import check_state
from jobs.pipeline.storage import local_path
from jobs.pipeline.tables import read_tables

_UNREADABLE = (ValueError, LookupError, OSError)


def describe(pipeline: Pipeline) -> list[tuple[str, str]]:
    """Titles and texts, for people; UnavailableError for a checkpoint that only Spark reaches."""
    _require_local(pipeline)
    state = read_state(None, pipeline.checkpoint)
    return [
        ("checkpoint", pipeline.checkpoint),
        ("query", state.query_id or "none yet"),
        ("planned", _batch(pipeline, state.planned)),
        ("done", f"batch {state.done}" if state.done >= 0 else "none"),
        ("next start", _next_start(pipeline, state)),
    ]


def verify(pipeline: Pipeline) -> str:
    """Return what was looked at if all of it agrees; StateMismatchError with the first fault otherwise."""
    _require_local(pipeline)
    _check_files(pipeline)
    state = read_state(None, pipeline.checkpoint)
    check_state(None, pipeline)
    tables = read_tables(None, pipeline, state.query_id or "")
    wanted = {Step.LEDGER: state.done}
    if Step.LEDGER in tables:
        wanted[Step.QUARANTINE] = find_last_quarantine(None, pipeline.ledger_path, state.query_id or "")
    for step, batch_id in wanted.items():
        written = tables[step].transaction if step in tables else None
        if batch_id > (-1 if written is None else written):
            message = f"the {step} of {pipeline.name} lacks batch {batch_id}, which is done; restore the table"
            raise TableBehindError(message)
    reached = f"batch {state.done} is done" if state.done >= 0 else "no batch is done yet"
    return f"{pipeline.name}: checkpoint, target, quarantine and ledger agree; {reached}"


def _require_local(pipeline: Pipeline) -> None:
    if local_path(pipeline.checkpoint) is None:
        message = f"the checkpoint {pipeline.checkpoint} is on a store that only Spark reaches"
        raise UnavailableError(message)


def _batch(pipeline: Pipeline, batch_id: int) -> str:
    if batch_id < 0:
        return "none"
    try:
        return f"batch {batch_id}, over {read_source_range(None, pipeline.checkpoint, batch_id)}"
    except _UNREADABLE as error:
        return f"batch {batch_id}, whose files cannot be read ({type(error).__name__}: {error})"


def _next_start(pipeline: Pipeline, state: CheckpointState) -> str:
    try:
        check_state(None, pipeline)
    except StateMismatchError as error:
        return f"is refused. {error.code}: {error}"
    except _UNREADABLE as error:
        return f"fails: a file cannot be read ({type(error).__name__}: {error})"
    if state.planned > state.done:
        return f"finishes batch {state.planned}"
    return f"begins batch {state.planned + 1}"


def _check_files(pipeline: Pipeline) -> None:
    faults = list(_faults(pipeline.checkpoint))
    if faults:
        message = f"the checkpoint {pipeline.checkpoint}: {'; '.join(faults)}. Restore it from a copy"
        raise CheckpointDamagedError(message)


def _faults(checkpoint: str) -> Iterator[str]:
    for folder in ("offsets", "commits"):
        batches = read_batch_ids(None, checkpoint, folder)
        gaps = sorted(set(range(min(batches, default=0), max(batches, default=-1) + 1)) - set(batches))
        if gaps:
            yield f"{folder} lacks {', '.join(map(str, gaps))}"
    for batch_id in read_batch_ids(None, checkpoint, "offsets")[1:]:
        try:
            read_source_range(None, checkpoint, batch_id)
        except _UNREADABLE as error:
            yield f"batch {batch_id} cannot be read ({type(error).__name__}: {error})"
