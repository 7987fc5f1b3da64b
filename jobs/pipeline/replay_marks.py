"""The table of replays beside a quarantine: what became of each row that was replayed, and by which replay.

The quarantine itself is never changed. Marks are committed before the rows they speak of reach the target, so they
count only for replays that the target's transactions, and then the ledger, know: `finished_replays`.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.pipeline import quarantine
from jobs.pipeline.commit import Step, transaction
from jobs.pipeline.delta import TransactionId, find_restore, last_transaction, read_table
from jobs.pipeline.errors import TableBehindError
from jobs.pipeline.lease import Lease
from jobs.pipeline.ledger import Status
from jobs.pipeline.model import Pipeline
from jobs.pipeline.quality.verdict import MALFORMED_CHECK
from jobs.pipeline.record import ROW_ID
from jobs.pipeline.small_table import SmallTable

NEVER_SHAPED = "_esclusa_never_shaped"
SCHEMA = pa.schema(
    [
        ("pipeline", pa.string()),
        ("replay_id", pa.int64()),
        ("row_id", pa.string()),
        ("replayed_at", pa.timestamp("us", tz="UTC")),
        ("rules_fingerprint", pa.string()),
        ("outcome", pa.string()),
        ("rows_written", pa.int64()),
        quarantine.SCHEMA.field("_errors"),
    ]
)


class Outcome(StrEnum):
    """What became of a quarantined row in a replay."""

    WRITTEN = "written"
    QUARANTINED = "quarantined"
    """It stays, for the reasons in the mark."""
    DROPPED = "dropped"
    """Today's checks or transforms leave it out."""


class ReplayStep(StrEnum):
    """The commits of a replay, in their order; the second decides whether the replay has happened."""

    MARKS = "marks"
    TARGET = "target"
    LEDGER = "ledger"


def marks_path(pipeline: Pipeline) -> str:
    """Where the replays of a quarantine are recorded."""
    return f"{pipeline.quarantine_path}_replays"


def replay_transaction(pipeline: Pipeline, step: ReplayStep, replay_id: int) -> TransactionId:
    """The identity of one write of one replay; versions of one app id, so that Delta lets one of two replays win."""
    return TransactionId(f"replay:{pipeline.name}:{step}", replay_id)


def target_writers(pipeline: Pipeline, query_id: str) -> frozenset[str]:
    """App ids of what the pipeline commits to its target: its query's batches, and its replays."""
    own = transaction(query_id, Step.TARGET, 0), replay_transaction(pipeline, ReplayStep.TARGET, 0)
    return frozenset(one.app_id for one in own)


def refuse_restored(spark: SparkSession, pipeline: Pipeline, query_id: str) -> None:
    """TableBehindError if a RESTORE has taken rows of the pipeline away: a commit on top of it would hide that."""
    path = pipeline.spec.sink.path
    target = read_table(spark, path, "")
    restored = find_restore(spark, path, target_writers(pipeline, query_id), target.version) if target else None
    if restored is not None:
        message = (
            f"the table {path} was set back to version {restored}, from before rows of {pipeline.name}; nothing was "
            f"committed since. Set it forward again (RESTORE TABLE … TO VERSION AS OF …), and repeat this"
        )
        raise TableBehindError(message)


def last_replay(spark: SparkSession, pipeline: Pipeline, step: ReplayStep) -> int:
    """Number of the newest replay that made this write; 0 if none did, or there is no such table."""
    paths = {
        ReplayStep.MARKS: marks_path(pipeline),
        ReplayStep.TARGET: pipeline.spec.sink.path,
        ReplayStep.LEDGER: pipeline.ledger_path,
    }
    if not DeltaTable.isDeltaTable(spark, paths[step]):
        return 0
    return last_transaction(spark, paths[step], replay_transaction(pipeline, step, 0).app_id) or 0


def finished_replays(ledger_rows: list[dict[str, Any]], newest_in_target: int) -> list[int]:
    """Replays whose marks count: those of the ledger, and the newest one that reached the target."""
    recorded = {row["batch_id"] for row in ledger_rows if row["status"] == Status.REPLAYED}
    return sorted(recorded | ({newest_in_target} - {0}))


def open_rows(spark: SparkSession, pipeline: Pipeline, version: int, finished: list[int]) -> DataFrame:
    """Rows of a version of the quarantine that no finished replay has resolved, plus ROW_ID and NEVER_SHAPED; lazy.

    The version is fixed: a replay scans the quarantine more than once, and runs over an archive add to it meanwhile.
    `_errors` are the newest reasons. NEVER_SHAPED says that no row made of this record can be in the target.
    Files that could not be read have no record, and are left out.
    """
    was_malformed = F.array_contains(F.col("_errors")["check"], MALFORMED_CHECK)
    has_record = F.col("raw").isNotNull() | F.col("source")["topic"].isNotNull()
    rows = (
        spark.read.format("delta")
        .option("versionAsOf", version)
        .load(pipeline.quarantine_path)
        .where((F.col("pipeline") == pipeline.name) & has_record)
        .select("*", F.col("row_id").alias(ROW_ID), was_malformed.alias(NEVER_SHAPED))
    )
    if not finished or not has_marks(spark, pipeline):
        return rows
    newest = _newest_marks(spark, pipeline, finished)
    is_open = F.coalesce(F.col("newest.outcome"), F.lit(Outcome.QUARANTINED.value)) == Outcome.QUARANTINED.value
    errors = F.coalesce(F.col("newest._errors"), F.col("_errors"))
    return rows.join(newest, "row_id", "left").where(is_open).withColumn("_errors", errors).drop("newest")


def has_marks(spark: SparkSession, pipeline: Pipeline) -> bool:
    """Whether there is a table of replays; it may be gone where tables were deleted to start anew."""
    return DeltaTable.isDeltaTable(spark, marks_path(pipeline))


def resolved_rows(spark: SparkSession, pipeline: Pipeline, finished: list[int]) -> DataFrame:
    """`row_id` of the rows that a finished replay has written or dropped; lazy. Once resolved, a row stays so."""
    newest = _newest_marks(spark, pipeline, finished)
    return newest.where(F.col("newest.outcome") != Outcome.QUARANTINED.value).select("row_id")


def record_replay(spark: SparkSession, pipeline: Pipeline, ledger: SmallTable, lease: Lease) -> None:
    """Append the ledger row of the newest replay that reached the target, from its marks; idempotent."""
    replay_id = last_replay(spark, pipeline, ReplayStep.TARGET)
    if replay_id > last_replay(spark, pipeline, ReplayStep.LEDGER):
        wanted = replay_transaction(pipeline, ReplayStep.LEDGER, replay_id)
        ledger.append([_ledger_row(spark, pipeline, replay_id)], wanted, lease)


def _newest_marks(spark: SparkSession, pipeline: Pipeline, finished: list[int]) -> DataFrame:
    """`row_id`, and the outcome and reasons of the newest finished replay of it."""
    marks = _marks(spark, pipeline).where(F.col("replay_id").isin(finished))
    return marks.groupBy("row_id").agg(F.max_by(F.struct("outcome", "_errors"), "replay_id").alias("newest"))


def _marks(spark: SparkSession, pipeline: Pipeline) -> DataFrame:
    return spark.read.format("delta").load(marks_path(pipeline)).where(F.col("pipeline") == pipeline.name)


def _ledger_row(spark: SparkSession, pipeline: Pipeline, replay_id: int) -> dict[str, Any]:
    marks = _marks(spark, pipeline).where(F.col("replay_id") == replay_id)
    sums: list[dict[str, Any]] = (
        marks.agg(
            F.count(F.lit(1)).alias("rows_read"),
            F.coalesce(F.sum("rows_written"), F.lit(0)).alias("rows_written"),
            F.count_if(F.col("outcome") == Outcome.QUARANTINED.value).alias("rows_quarantined"),
            F.max("replayed_at").alias("started_at"),
            F.max("rules_fingerprint").alias("rules_fingerprint"),
        )
        .toArrow()
        .to_pylist()
    )
    [found], now = sums, datetime.now(UTC)
    return found | {
        "pipeline": pipeline.name,
        "batch_id": replay_id,
        "status": str(Status.REPLAYED),
        "message": f"replay {replay_id} of quarantined rows",
        "finished_at": now,
        "source_range": f'{{"replay": {replay_id}}}',
        "rows_dropped": found["rows_read"] - found["rows_written"] - found["rows_quarantined"],
        "rows_malformed": 0,
        "rows_filtered": 0,
        "checks": [],
        "duration_ms": [("total", int((now - found["started_at"]).total_seconds() * 1000))],
    }
