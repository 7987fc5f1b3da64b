"""Sends quarantined rows through today's transforms and rules; those that pass reach the target exactly once.

A replay is decided by one commit, the one to the target. Its marks come before it and count only with it; its ledger
row comes behind it and is made good by the next replay if it is missing. A replay that died before that commit has
left nothing that counts, and the next one judges the rows again, by the rules of its own day.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.pipeline import replay_marks
from jobs.pipeline.batch import annotate_well_formed
from jobs.pipeline.checkpoint import read_query_id
from jobs.pipeline.delta import read_table
from jobs.pipeline.errors import ConfError, LeaseLostError, Problem, ReconciliationError
from jobs.pipeline.failpoints import Point, reach
from jobs.pipeline.failures import classify
from jobs.pipeline.isolation import isolate_failing_rows
from jobs.pipeline.lease import Lease, hold_lease
from jobs.pipeline.ledger import read_ledger_anywhere
from jobs.pipeline.model import Pipeline
from jobs.pipeline.prepare import as_batch, open_tables
from jobs.pipeline.quality.gate import DROPPED, SET_APART, malformed_error, passed, row_errors
from jobs.pipeline.record import ERRORS_TYPE, MALFORMED, RECORD, ROW_ID
from jobs.pipeline.release import without_holds
from jobs.pipeline.replay_marks import (
    NEVER_SHAPED,
    Outcome,
    ReplayStep,
    finished_replays,
    last_replay,
    marks_path,
    open_rows,
    record_replay,
    refuse_restored,
    replay_transaction,
)
from jobs.pipeline.sinks import ensure_target, stage_rows
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.sources.source import rebuild_unparsed
from jobs.pipeline.sql_guard import UnsafeSqlError, check_predicate
from jobs.pipeline.staged_append import stage_append
from jobs.pipeline.stages import Stages, compile_stages, fingerprint

_SEVERAL = "transforms make several rows of this record, and some of them may be in the target"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which quarantined rows to replay; all conditions hold together."""

    check: str | None = None
    """A check that stands among a row's newest reasons."""
    since: datetime | None = None
    """Rows set apart at that time or later."""
    where: str | None = None
    """A SQL predicate over the columns of the quarantine."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What became of the rows, or would become of them."""

    rows: dict[Outcome, int]
    """Rows of the quarantine."""
    checks: dict[str, dict[Outcome, int]]
    """The same for each check that a row was set apart for; a row can have several."""
    rows_written: int
    """Rows in the target: more than the outcome says where transforms make several of one."""


@dataclass(frozen=True, slots=True)
class _Judged:
    annotated: DataFrame
    marks: DataFrame
    """ROW_ID, outcome, rows_written, _errors, and `was`: the checks a row was set apart for before."""


def replay(spark: SparkSession, pipeline: Pipeline, selection: Selection, *, is_dry: bool) -> ReplayReport:
    """Replay the selected rows; writes nothing at all if `is_dry`, or if no row is selected.

    Raises ConfError for a predicate or a source it cannot take, AlreadyRunningError while a run or another replay
    holds the pipeline.
    """
    _check_where(spark, selection)
    try:
        with hold_lease(spark, pipeline.name, pipeline.lease_path) as lease:
            return _replay(spark, pipeline, selection, lease, is_dry=is_dry)
    except Exception as error:
        raise classify(error) from error


def _replay(
    spark: SparkSession, pipeline: Pipeline, selection: Selection, lease: Lease, *, is_dry: bool
) -> ReplayReport:
    quarantined = read_table(spark, pipeline.quarantine_path, "")
    if quarantined is None:
        return ReplayReport({}, {}, 0)
    refuse_restored(spark, pipeline, read_query_id(spark, pipeline.checkpoint) or "")
    newest = last_replay(spark, pipeline, ReplayStep.TARGET)
    ledger_rows = read_ledger_anywhere(spark, pipeline.ledger_path)
    rows = open_rows(spark, pipeline, quarantined.version, finished_replays(ledger_rows, newest))
    rows = _select(rows, selection)
    unparsed = rebuild_unparsed(rows, pipeline)
    stages = replace(compile_stages(spark, unparsed, without_holds(pipeline)), batch_time=datetime.now(UTC))
    with _judge(rows, unparsed, stages, lease) as judged:
        report = _report(judged.marks)
        if not is_dry:
            recorded = _open_all(spark, pipeline, stages)
            record_replay(spark, pipeline, recorded, lease)
            if report.rows:
                _commit(stages, judged, lease, newest, report.rows_written)
                record_replay(spark, pipeline, recorded, lease)
    return report


def _check_where(spark: SparkSession, selection: Selection) -> None:
    if selection.where is not None:
        try:
            check_predicate(spark, selection.where)
        except UnsafeSqlError as error:
            raise _bad_where(str(error)) from error


def _bad_where(message: str) -> ConfError:
    return ConfError([Problem("--where", None, "", message)])


def _select(rows: DataFrame, selection: Selection) -> DataFrame:
    if selection.check is not None:
        rows = rows.where(F.array_contains(F.col("_errors")["check"], selection.check))
    if selection.since is not None:
        rows = rows.where(F.col("quarantined_at") >= F.lit(selection.since))
    if selection.where is None:
        return rows
    try:
        return rows.where(selection.where)
    except AnalysisException as error:
        raise _bad_where(str(error).splitlines()[0]) from error


def _open_all(spark: SparkSession, pipeline: Pipeline, stages: Stages) -> SmallTable:
    ensure_target(spark, pipeline, stages.target)
    _, recorded = open_tables(spark, pipeline)
    SmallTable(spark, marks_path(pipeline), replay_marks.SCHEMA).create()
    return recorded


@contextmanager
def _judge(rows: DataFrame, unparsed: DataFrame, stages: Stages, lease: Lease) -> Iterator[_Judged]:
    """Judge the rows, and keep what came out of them while the body runs; rows that cannot be computed stay."""
    judged = _judge_lazily(rows, unparsed, stages)
    try:
        judged.marks.persist().count()
    except Exception as error:
        judged.marks.unpersist()
        judged.annotated.unpersist()
        mended = isolate_failing_rows(as_batch(unparsed, stages, lease), error)
        if mended is None:
            raise
        judged = _judge_lazily(rows, unparsed, mended.prepared.stages)
        judged.marks.persist()
    try:
        yield judged
    finally:
        judged.marks.unpersist()
        judged.annotated.unpersist()


def _judge_lazily(rows: DataFrame, unparsed: DataFrame, stages: Stages) -> _Judged:
    parsed = stages.parser(unparsed)
    annotated = annotate_well_formed(parsed, stages).persist()
    is_bad, row_id = F.col(SET_APART), F.col(RECORD)[ROW_ID].alias(ROW_ID)
    shaped = annotated.groupBy(row_id).agg(
        F.count(F.lit(1)).alias("shaped"),
        F.count_if(~is_bad & ~F.col(DROPPED)).alias("passed"),
        F.flatten(F.collect_list(F.when(is_bad, row_errors(stages.gate)))).alias("unfit"),
    )
    reason = F.array(malformed_error()).cast(ERRORS_TYPE).alias("malformed")
    malformed = parsed.where(F.col(MALFORMED).isNotNull()).select(row_id, reason)
    before = rows.select(ROW_ID, NEVER_SHAPED, F.array_distinct(F.col("_errors")["check"]).alias("was"))
    joined = before.join(malformed, ROW_ID, "left").join(shaped, ROW_ID, "left").select("*", _new_errors())
    marks = joined.select(ROW_ID, "was", _outcome().alias("outcome"), "passed", "_errors")
    written = F.when(F.col("outcome") == Outcome.WRITTEN.value, F.col("passed")).otherwise(F.lit(0))
    return _Judged(annotated, marks.select(ROW_ID, "was", "outcome", written.alias("rows_written"), "_errors"))


def _new_errors() -> Column:
    """Why a row stays; NULL if it does not."""
    several = F.array(F.struct(F.lit("replay"), F.lit(None).cast("string"), F.lit(_SEVERAL))).cast(ERRORS_TYPE)
    return (
        F.when(F.col("malformed").isNotNull(), F.col("malformed"))
        .when(F.size("unfit") > 0, F.col("unfit"))
        .when((F.col("shaped") > 1) & ~F.col(NEVER_SHAPED), several)
        .alias("_errors")
    )


def _outcome() -> Column:
    return (
        F.when(F.col("_errors").isNotNull(), F.lit(Outcome.QUARANTINED.value))
        .when(F.coalesce(F.col("passed"), F.lit(0)) == 0, F.lit(Outcome.DROPPED.value))
        .otherwise(F.lit(Outcome.WRITTEN.value))
    )


def _report(marks: DataFrame) -> ReplayReport:
    rows: dict[Outcome, int] = {}
    checks: dict[str, dict[Outcome, int]] = {}
    written = 0
    for group in marks.groupBy("was", "outcome").agg(F.count(F.lit(1)), F.sum("rows_written")).collect():
        names, outcome, count, made = group[0], Outcome(group[1]), group[2], group[3]
        rows[outcome] = rows.get(outcome, 0) + count
        written += made
        for name in names:
            of_check = checks.setdefault(name, {})
            of_check[outcome] = of_check.get(outcome, 0) + count
    return ReplayReport(rows, checks, written)


def _commit(stages: Stages, judged: _Judged, lease: Lease, newest: int, rows_written: int) -> None:
    """Marks, then target. `newest` is the replay in the target that the judged rows are known to be open after."""
    pipeline, spark = stages.pipeline, judged.marks.sparkSession
    known = (last_replay(spark, pipeline, step) for step in (ReplayStep.MARKS, ReplayStep.LEDGER))
    replay_id = max(newest, *known) + 1
    of_target = replay_transaction(pipeline, ReplayStep.TARGET, replay_id)
    staged = stage_rows(_rows_written(stages, judged), pipeline.spec.sink, of_target)
    if staged.rows not in {None, rows_written}:
        message = f"replay {replay_id} does not add up: {staged.rows} rows staged, {rows_written} expected"
        raise ReconciliationError(message)
    if last_replay(spark, pipeline, ReplayStep.TARGET) != newest:
        message = f"another replay of pipeline {pipeline.name} reached the target meanwhile; nothing was committed"
        raise LeaseLostError(message)
    of_marks = replay_transaction(pipeline, ReplayStep.MARKS, replay_id)
    marks = stage_append(_mark_rows(pipeline, judged.marks, replay_id), marks_path(pipeline), of_marks)
    lease.check()
    marks.commit()
    reach(Point.REPLAY_MARKED)
    lease.check()
    staged.commit()
    reach(Point.REPLAY_WRITTEN)


def _rows_written(stages: Stages, judged: _Judged) -> DataFrame:
    written = judged.marks.where(F.col("outcome") == Outcome.WRITTEN.value).select(ROW_ID)
    rows = judged.annotated.join(written, F.col(RECORD)[ROW_ID] == F.col(ROW_ID), "left_semi")
    return passed(rows, stages.target.names)


def _mark_rows(pipeline: Pipeline, marks: DataFrame, replay_id: int) -> DataFrame:
    values = {
        "pipeline": F.lit(pipeline.name),
        "replay_id": F.lit(replay_id).cast("bigint"),
        "row_id": F.col(ROW_ID),
        "replayed_at": F.lit(datetime.now(UTC)),
        "rules_fingerprint": F.lit(fingerprint(pipeline)),
    }
    return marks.select(*(values.get(name, F.col(name)).alias(name) for name in replay_marks.SCHEMA.names))
