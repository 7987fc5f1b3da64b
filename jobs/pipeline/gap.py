"""Offsets that a topic no longer holds and the pipeline has not read: found, named, and accepted on an operator's word.

An accepted gap is data in the ledger: exactly these ranges are left out whenever a batch covers them, in a replay as
well. Spark's own way, `failOnDataLoss: false` for a whole run, would leave out whatever is missing by then.
"""

import json
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from jobs.pipeline import ledger
from jobs.pipeline.checkpoint import read_position, read_query_id, read_state
from jobs.pipeline.commit import Step
from jobs.pipeline.delta import TransactionId, last_transaction, read_table
from jobs.pipeline.errors import OffsetsLostError, OffsetsWentBackError, StateMismatchError
from jobs.pipeline.lease import hold_lease
from jobs.pipeline.ledger import find_gaps
from jobs.pipeline.model import Pipeline
from jobs.pipeline.offsets import OffsetRange, Offsets, find_lost, from_rows, ranges_between, skip_lost
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.source_model import KafkaSource
from jobs.pipeline.sources.source import read_bounds
from jobs.pipeline.tables import newest_attempted


def read_accepted(spark: SparkSession, pipeline: Pipeline) -> tuple[OffsetRange, ...]:
    """What persons have accepted as lost for this checkpoint; empty for sources without offsets."""
    query_id = read_query_id(spark, pipeline.checkpoint)
    if not isinstance(pipeline.spec.source, KafkaSource) or query_id is None:
        return ()
    app_id = gap_app_id(query_id)
    if read_table(spark, pipeline.ledger_path, "") is None:
        return ()
    if last_transaction(spark, pipeline.ledger_path, app_id) is None:
        return ()
    found = [json.loads(text)["lost"] for text in find_gaps(spark, pipeline.ledger_path, query_id)]
    return tuple(sorted(one for rows in found for one in from_rows(rows)))


def find_gap(spark: SparkSession, pipeline: Pipeline) -> list[OffsetRange]:
    """Ranges that the checkpoint wants next and its topics no longer hold, without those accepted before.

    Raises OffsetsWentBackError where a topic ends before what was read of it.
    """
    position = _read_position(spark, pipeline)
    if not position:
        return []
    earliest, end = read_bounds(spark, pipeline, position)
    _refuse_shorter_topic(pipeline, position, end)
    accepted = read_accepted(spark, pipeline)
    left = [skip_lost(lost, accepted) for lost in find_lost(position, earliest)]
    return [lost for lost in left if lost.count]


def check_gap(spark: SparkSession, pipeline: Pipeline) -> None:
    """Return if the topics hold all that the checkpoint wants next; OffsetsLostError with the missing ranges if not."""
    lost = find_gap(spark, pipeline)
    if lost:
        message = (
            f"retention has deleted offsets that {pipeline.name} has not read: {_listed(lost)}. "
            f"`esclusa run {pipeline.name} --accept-gap` goes on behind them, and keeps in the ledger who did so"
        )
        raise OffsetsLostError(message)


def accept_gap(spark: SparkSession, pipeline: Pipeline) -> str:
    """Write into the ledger who accepts which offsets as lost, and when; returns that sentence.

    Covers what is missing now and nothing else. AlreadyRunningError if another run holds the pipeline.
    """
    with hold_lease(spark, pipeline.name, pipeline.lease_path) as lease:
        lost = find_gap(spark, pipeline)
        if not lost:
            return "no offsets are missing; nothing to accept"
        query_id = read_query_id(spark, pipeline.checkpoint) or ""
        _refuse_half_written(spark, pipeline, query_id)
        at = datetime.now(UTC)
        message = f"accepted as lost: {_listed(lost)}"
        table = SmallTable(spark, pipeline.ledger_path, ledger.SCHEMA)
        table.create()
        row = ledger.gap_row(pipeline.name, query_id, message, at, lost)
        table.append([row], TransactionId(gap_app_id(query_id), int(at.timestamp() * 1000)), lease)
    return message


def gap_app_id(query_id: str) -> str:
    """Whose transactions in the ledger say that offsets were accepted as lost."""
    return f"{query_id}:gap"


def _read_position(spark: SparkSession, pipeline: Pipeline) -> Offsets:
    """Where the next batch that reads begins: the one in flight, unless the ledger has it as done."""
    if not isinstance(pipeline.spec.source, KafkaSource):
        return {}
    state = read_state(spark, pipeline.checkpoint)
    is_written = state.planned > state.done and newest_attempted(spark, pipeline, state)[Step.LEDGER] >= state.planned
    return read_position(spark, pipeline.checkpoint, state.planned if is_written else state.done)


def _refuse_half_written(spark: SparkSession, pipeline: Pipeline, query_id: str) -> None:
    """What is committed of a batch was judged with the rows that are gone; it can be neither finished nor undone."""
    state = read_state(spark, pipeline.checkpoint)
    newest = newest_attempted(spark, pipeline, state)
    written = [step for step in (Step.QUARANTINE, Step.TARGET) if newest[step] >= state.planned > newest[Step.LEDGER]]
    if state.planned > state.done and written:
        message = (
            f"batch {state.planned} of query {query_id} is committed in part ({', '.join(written)}), and offsets that "
            f"it covers are gone: it cannot be finished. Empty the tables, and `esclusa run {pipeline.name} "
            f"--reset-checkpoint` starts anew"
        )
        raise StateMismatchError(message)


def _refuse_shorter_topic(pipeline: Pipeline, position: Offsets, end: Offsets) -> None:
    there = {topic: position[topic] for topic in end}
    shorter = [one for one in ranges_between(end, there) if one.count > 0]
    if shorter:
        message = (
            f"topics end before what {pipeline.name} has read of them: {_listed(shorter)} are gone. The broker lost "
            f"the end of its log; new records take these offsets again, and would be passed over. Put the log back; or "
            f"`esclusa run {pipeline.name} --reset-checkpoint` starts anew"
        )
        raise OffsetsWentBackError(message)


def _listed(ranges: list[OffsetRange]) -> str:
    return "; ".join(map(str, ranges))
