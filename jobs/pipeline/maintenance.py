"""Carries out a pipeline's maintenance policy: on its target, quarantine, table of replays, ledger and old checkpoints.

It runs beside the pipeline's runs and takes no lease of theirs: a stream that never ends would never be maintained.
OPTIMIZE conflicts with no append, VACUUM leaves files of the last seven days alone, and rows that a replay has
resolved stay resolved. It has a lease of its own, so that two maintenances of one pipeline do not undo each other.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.pipeline import ledger
from jobs.pipeline.delta import TransactionId, find_metrics, last_transaction
from jobs.pipeline.delta_upkeep import (
    Size,
    count_vacuumable,
    delete_rows,
    measure,
    optimize,
    require_horizon,
    shorten_log,
    vacuum,
)
from jobs.pipeline.durations import as_timedelta
from jobs.pipeline.failpoints import Point, reach
from jobs.pipeline.failures import classify
from jobs.pipeline.lease import hold_lease
from jobs.pipeline.ledger import Status, operator_row, read_ledger_anywhere
from jobs.pipeline.model import Pipeline
from jobs.pipeline.replay_marks import (
    ReplayStep,
    finished_replays,
    has_marks,
    last_replay,
    marks_path,
    resolved_rows,
)
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.storage import list_names, remove
from jobs.pipeline.table_model import Maintenance

_LISTING_TASKS = "spark.sql.sources.parallelPartitionDiscovery.parallelism"
_LISTING_TASKS_A_CORE = 2
_STAMP = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True, slots=True)
class TableReport:
    """What was done to one table."""

    name: str
    before: Size
    after: Size
    joined: int
    """Files replaced by larger ones."""
    vacuumed: int
    """Files removed that no version to be kept needs."""
    log_files: int

    def __str__(self) -> str:
        sizes = f"{self.before} -> {self.after}"
        return f"{self.name}: {sizes}; {self.joined:,} joined, {self.vacuumed:,} vacuumed, {self.log_files:,} log files"


@dataclass(frozen=True, slots=True)
class TablePreview:
    """What would be removed from one table; which files would be joined and which versions go is not foretold."""

    name: str
    size: Size
    to_vacuum: int

    def __str__(self) -> str:
        return f"{self.name}: {self.size}; {self.to_vacuum:,} to be vacuumed"


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What a maintenance did, or would do."""

    tables: Sequence[TableReport | TablePreview]
    deleted_rows: int
    """Of the quarantine."""
    checkpoints: list[str]
    """Set-aside checkpoints that were removed."""


def maintain(spark: SparkSession, pipeline: Pipeline, policy: Maintenance) -> MaintenanceReport:
    """Maintain the tables of a pipeline, and say so in its ledger; to be repeated if it was killed.

    Raises RetentionTooShortError, having removed nothing, where a table promises its readers more than the policy
    leaves; AlreadyRunningError while another maintenance of this pipeline runs.
    """
    try:
        with hold_lease(spark, f"{pipeline.name} (maintenance)", f"{pipeline.lease_path}.maintenance"):
            return _maintain(_own_session(spark), pipeline, policy)
    except Exception as error:
        raise classify(error) from error


def _maintain(spark: SparkSession, pipeline: Pipeline, policy: Maintenance) -> MaintenanceReport:
    began = datetime.now(UTC)
    tables = dict(_tables(spark, pipeline))
    for path in tables.values():
        require_horizon(spark, path, as_timedelta(policy.vacuum), as_timedelta(policy.log))
    reports = [_maintain_table(spark, name, path, policy) for name, path in tables.items()]
    deleted = _delete_expired(spark, pipeline, policy, began)  # last: a busy quarantine may let it fail
    report = MaintenanceReport(reports, deleted, _remove_checkpoints(spark, pipeline, policy, began))
    if "ledger" in tables:
        row = operator_row(pipeline.name, Status.MAINTAINED, "; ".join(describe(report)), began)
        at = TransactionId(f"maintenance:{pipeline.name}", int(began.timestamp() * 1000))
        _ledger(spark, pipeline).append([row], at)
    return report


def preview(spark: SparkSession, pipeline: Pipeline, policy: Maintenance) -> MaintenanceReport:
    """What `maintain` would do, writing nothing."""
    spark, now = _own_session(spark), datetime.now(UTC)
    reports = []
    for name, path in _tables(spark, pipeline):
        require_horizon(spark, path, as_timedelta(policy.vacuum), as_timedelta(policy.log))
        size, files = measure(spark, path), count_vacuumable(spark, path, as_timedelta(policy.vacuum))
        reports.append(TablePreview(name, size, files))
    expired = _expired(spark, pipeline, policy, now)
    rows = 0 if expired is None else expired.count()
    return MaintenanceReport(reports, rows, list(_old_checkpoints(spark, pipeline, policy, now)))


def describe(report: MaintenanceReport) -> list[str]:
    """A line a table, and one for each other thing that was done."""
    lines = list(map(str, report.tables))
    if report.deleted_rows:
        lines.append(f"{report.deleted_rows:,} rows of the quarantine deleted")
    return lines + [f"checkpoint {path} removed" for path in report.checkpoints]


def _own_session(spark: SparkSession) -> SparkSession:
    """VACUUM lists directories in ten thousand tasks unless told otherwise, however few directories there are."""
    own = spark.newSession()
    own.conf.set(_LISTING_TASKS, _LISTING_TASKS_A_CORE * spark.sparkContext.defaultParallelism)
    return own


def _tables(spark: SparkSession, pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    """Those that are there; the ledger last, for it grows meanwhile."""
    paths = {
        "target": pipeline.spec.sink.path,
        "quarantine": pipeline.quarantine_path,
        "replays": marks_path(pipeline),
        "ledger": pipeline.ledger_path,
    }
    return ((name, path) for name, path in paths.items() if DeltaTable.isDeltaTable(spark, path))


def _maintain_table(spark: SparkSession, name: str, path: str, policy: Maintenance) -> TableReport:
    before = measure(spark, path)
    joined = optimize(spark, path) if policy.optimize else 0
    reach(Point.MAINTENANCE_STEP)
    vacuumed = vacuum(spark, path, as_timedelta(policy.vacuum))
    reach(Point.MAINTENANCE_STEP)
    log_files = shorten_log(spark, path, as_timedelta(policy.log))
    reach(Point.MAINTENANCE_STEP)
    return TableReport(name, before, measure(spark, path), joined, vacuumed, log_files)


def _delete_expired(spark: SparkSession, pipeline: Pipeline, policy: Maintenance, now: datetime) -> int:
    """Delete what the policy lets go of the quarantine; the ledger row comes behind it, as that of a replay does."""
    if not DeltaTable.isDeltaTable(spark, pipeline.quarantine_path):
        return 0
    _record_deletion(spark, pipeline)
    own = spark.newSession()
    expired = _expired(own, pipeline, policy, now)
    if expired is None or expired.isEmpty():
        return 0
    # The ledger outlives a quarantine that was made anew, and so do its numbers.
    known = (_last_deletion(spark, pipeline, path) or 0 for path in (pipeline.quarantine_path, pipeline.ledger_path))
    number = max(known) + 1
    delete_rows(own, pipeline.quarantine_path, expired, _deletion(pipeline, number))
    reach(Point.MAINTENANCE_STEP)
    return _record_deletion(spark, pipeline)


def _record_deletion(spark: SparkSession, pipeline: Pipeline) -> int:
    """Append the ledger row of the newest deletion, by what its commit counted, if it is missing; returns the rows."""
    number = _last_deletion(spark, pipeline, pipeline.quarantine_path)
    if number is None or number <= (_last_deletion(spark, pipeline, pipeline.ledger_path) or 0):
        return 0
    wanted, now = _deletion(pipeline, number), datetime.now(UTC)
    rows = int(find_metrics(spark, pipeline.quarantine_path, wanted).get("numTargetRowsDeleted", 0))
    row = operator_row(pipeline.name, Status.DELETED, f"{rows:,} rows of the quarantine, by its retention", now)
    _ledger(spark, pipeline).append([row | {"batch_id": number, "rows_read": rows, "rows_dropped": rows}], wanted)
    return rows


def _deletion(pipeline: Pipeline, number: int) -> TransactionId:
    return TransactionId(f"retention:{pipeline.name}", number)


def _last_deletion(spark: SparkSession, pipeline: Pipeline, path: str) -> int | None:
    return last_transaction(spark, path, _deletion(pipeline, 0).app_id)


def _expired(spark: SparkSession, pipeline: Pipeline, policy: Maintenance, now: datetime) -> DataFrame | None:
    """`row_id` of rows that the policy lets go; None if it lets none go."""
    retention = policy.quarantine
    if not (retention.any or retention.resolved) or not DeltaTable.isDeltaTable(spark, pipeline.quarantine_path):
        return None
    rows = spark.read.format("delta").load(pipeline.quarantine_path).where(F.col("pipeline") == pipeline.name)
    old = rows.where(_is_before(now, retention.any)).select("row_id")
    if retention.resolved is None:
        return old
    newest = last_replay(spark, pipeline, ReplayStep.TARGET)
    finished = finished_replays(read_ledger_anywhere(spark, pipeline.ledger_path), newest)
    if not finished or not has_marks(spark, pipeline):
        return old
    resolved = rows.join(resolved_rows(spark, pipeline, finished), "row_id", "left_semi")
    return old.union(resolved.where(_is_before(now, retention.resolved)).select("row_id")).distinct()


def _is_before(now: datetime, retention: str | None) -> Column:
    return F.lit(False) if retention is None else F.col("quarantined_at") < F.lit(now - as_timedelta(retention))


def _remove_checkpoints(spark: SparkSession, pipeline: Pipeline, policy: Maintenance, now: datetime) -> list[str]:
    paths = list(_old_checkpoints(spark, pipeline, policy, now))
    for path in paths:
        remove(spark, path)
    return paths


def _old_checkpoints(spark: SparkSession, pipeline: Pipeline, policy: Maintenance, now: datetime) -> Iterator[str]:
    """Checkpoints that --reset-checkpoint has renamed, as old by their names as the policy says."""
    folder, _, name = pipeline.checkpoint.rpartition("/")
    stamped = re.compile(rf"{re.escape(name)}\.(\d{{8}}T\d{{12}})")
    limit = now - as_timedelta(policy.checkpoints) if policy.checkpoints else datetime.min.replace(tzinfo=UTC)
    for found in filter(None, map(stamped.fullmatch, sorted(list_names(spark, folder)))):
        if datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC) < limit:
            yield f"{folder}/{found[0]}"


def _ledger(spark: SparkSession, pipeline: Pipeline) -> SmallTable:
    return SmallTable(spark, pipeline.ledger_path, ledger.SCHEMA)
