"""The ledger: one row a batch, in a Delta table of its own for each pipeline."""

import getpass
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.pipeline.account import SourceFigures
from jobs.pipeline.delta import TransactionId
from jobs.pipeline.delta_reader import read_rows
from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.offsets import OffsetRange, as_rows
from jobs.pipeline.quality.verdict import Verdict, pick_examples
from jobs.pipeline.storage import local_path, require_spark

_TIMESTAMP = pa.timestamp("us", tz="UTC")
_CHECK = pa.struct(
    [
        ("name", pa.string()),
        ("type", pa.string()),
        ("on_failure", pa.string()),
        ("mostly", pa.float64()),
        ("element_count", pa.int64()),
        ("unexpected_count", pa.int64()),
        ("success", pa.bool_()),
    ]
)
_EXAMPLE = pa.struct([("check", pa.string()), ("message", pa.string()), ("raw", pa.string())])
SCHEMA = pa.schema(
    [
        ("pipeline", pa.string()),
        ("query_id", pa.string()),
        ("batch_id", pa.int64()),
        ("status", pa.string()),
        ("message", pa.string()),
        ("decision", pa.string()),
        ("started_at", _TIMESTAMP),
        ("finished_at", _TIMESTAMP),
        ("source_range", pa.string()),
        ("source_count", pa.int64()),
        ("source_gaps", pa.int64()),
        ("source_lost", pa.int64()),
        ("lag", pa.int64()),
        ("rows_read", pa.int64()),
        ("rows_written", pa.int64()),
        ("rows_quarantined", pa.int64()),
        ("rows_dropped", pa.int64()),
        ("rows_malformed", pa.int64()),
        ("rows_filtered", pa.int64()),
        ("checks", pa.list_(_CHECK)),
        ("examples", pa.list_(_EXAMPLE)),
        ("rules_fingerprint", pa.string()),
        ("target_version", pa.int64()),
        ("quarantine_version", pa.int64()),
        ("duration_ms", pa.map_(pa.string(), pa.int64())),
    ]
)


class Status(StrEnum):
    """What a row says of its batch."""

    BEGUN = "begun"
    """No batch: a query is about to make its first commit, so that its checkpoint can be missed from then on."""
    DONE = "done"
    HELD = "held"
    RESET = "reset"
    """No batch: an operator has set the checkpoint aside."""
    GAP = "gap"
    """No batch: an operator has accepted offsets as lost, which source_range names."""
    RELEASED = "released"
    """No end: a person's decision on a held batch, which the next run carries out."""
    REWOUND = "rewound"
    """No end: an operator has had the plan of the batch forgotten, of which nothing was committed."""
    REPLAYED = "replayed"
    """A replay of quarantined rows; batch_id is its number."""
    MAINTAINED = "maintained"
    """No batch: what `esclusa maintain` did to the tables."""
    DELETED = "deleted"
    """No batch: rows of the quarantine that maintenance has deleted; batch_id is the deletion's number."""


OF_BATCHES = (Status.DONE, Status.HELD, Status.RELEASED, Status.REWOUND)
"""What rows say that are of one batch."""
_ENDS = [str(Status.DONE), str(Status.RESET)]


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One row of the ledger. For done batches rows_read = rows_written + rows_quarantined + rows_dropped,
    where rows_dropped counts what checks dropped and what transforms filtered out (rows_filtered).
    """

    pipeline: str
    query_id: str
    batch_id: int
    status: Status
    message: str | None
    decision: str | None
    """By which a held batch went through; None for a batch that went through by itself."""
    started_at: datetime
    finished_at: datetime
    source_range: str
    source_figures: SourceFigures
    lag: int | None
    """Files or records that the source still holds, as it last said; None if it has not said."""
    rows_written: int
    verdict: Verdict
    rules_fingerprint: str
    target_version: int | None
    quarantine_version: int | None
    duration_ms: dict[str, int]

    @property
    def rows_dropped(self) -> int:
        """Rows left out on purpose, by checks and by transforms; negative if transforms made rows."""
        return self.verdict.rows_dropped + self.verdict.rows_filtered

    def as_row(self) -> dict[str, Any]:
        """The row as SCHEMA has it."""
        verdict = self.verdict
        return {
            "pipeline": self.pipeline,
            "query_id": self.query_id,
            "batch_id": self.batch_id,
            "status": str(self.status),
            "message": self.message,
            "decision": self.decision,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "source_range": self.source_range,
            "source_count": self.source_figures.count,
            "source_gaps": self.source_figures.gaps,
            "source_lost": self.source_figures.lost,
            "lag": self.lag,
            "rows_read": verdict.rows_read,
            "rows_written": self.rows_written,
            "rows_quarantined": verdict.rows_quarantined,
            "rows_dropped": self.rows_dropped,
            "rows_malformed": verdict.malformed.count,
            "rows_filtered": verdict.rows_filtered,
            "checks": _check_rows(verdict),
            "examples": pick_examples(verdict) if self.status is Status.HELD else [],
            "rules_fingerprint": self.rules_fingerprint,
            "target_version": self.target_version,
            "quarantine_version": self.quarantine_version,
            "duration_ms": list(self.duration_ms.items()),
        }


def _check_rows(verdict: Verdict) -> list[dict[str, Any]]:
    return [
        {
            "name": result.check.name,
            "type": result.check.type,
            "on_failure": str(result.check.on_failure),
            "mostly": result.check.mostly,
            "element_count": result.element_count,
            "unexpected_count": result.unexpected_count,
            "success": result.success,
        }
        for result in verdict.results
    ]


def rewind_app_id(query_id: str) -> str:
    """Whose transactions say when plans of the query were forgotten, in milliseconds since 1970."""
    return f"{query_id}:rewind"


def begun_transaction(query_id: str) -> TransactionId:
    """The identity of the row that says that a query begins to write."""
    return TransactionId(f"{query_id}:begun", 0)


def plan_number(rewound_at: datetime) -> int:
    """The version of `rewind_app_id` for a plan that was forgotten at that time."""
    return int(rewound_at.timestamp() * 1000)


def gap_row(pipeline: str, query_id: str, message: str, at: datetime, lost: list[OffsetRange]) -> dict[str, Any]:
    """The row that says who accepted which offsets as lost, and when; it counts no rows."""
    return operator_row(pipeline, Status.GAP, message, at) | {
        "query_id": query_id,
        "source_range": json.dumps({"lost": as_rows(lost)}),
        "source_lost": sum(one.count for one in lost),
    }


def name_operator() -> str:
    """Who acts, as the ledger names them: the user of this process, and its machine."""
    return f"{getpass.getuser()}@{platform.node()}"


def operator_row(pipeline: str, status: Status, message: str, at: datetime) -> dict[str, Any]:
    """The row that says what was done by hand or by maintenance, by whom and when; it counts no rows."""
    counts = dict.fromkeys((name for name in SCHEMA.names if name.startswith("rows_")), 0)
    return {
        **counts,
        "pipeline": pipeline,
        "query_id": "",
        "batch_id": -1,
        "status": str(status),
        "message": f"{name_operator()}: {message}",
        "started_at": at,
        "finished_at": datetime.now(UTC),
        "source_range": "{}",
        "checks": [],
        "rules_fingerprint": "",
        "duration_ms": [("total", int((datetime.now(UTC) - at).total_seconds() * 1000))],
    }


def find_source_range(spark: SparkSession | None, path: str, query_id: str, batch_id: int) -> str | None:
    """What a done batch of a ledger covered; None if the ledger has no such row."""
    found = [row for row in _read_rows(spark, path, query_id) if row["batch_id"] == batch_id]
    return str(found[0]["source_range"]) if found else None


def find_gaps(spark: SparkSession | None, path: str, query_id: str) -> list[str]:
    """The source ranges that a query's rows of status `gap` name."""
    return [str(row["source_range"]) for row in _read_rows(spark, path, query_id, [str(Status.GAP)])]


def find_last_quarantine(spark: SparkSession | None, path: str, query_id: str) -> int:
    """The newest batch of which the ledger says that rows were set apart; -1 for none."""
    return max((row["batch_id"] for row in _read_rows(spark, path, query_id) if row["rows_quarantined"]), default=-1)


def find_writers(spark: SparkSession | None, path: str) -> list[str]:
    """Ids of the queries that have begun to write since the checkpoint was last set aside, oldest first."""
    rows = sorted(_read_rows(spark, path, statuses=[Status.BEGUN, *_ENDS]), key=lambda row: row["finished_at"])
    set_aside = {row["query_id"] for row in rows if row["status"] == Status.RESET}
    writers: dict[str, None] = {}
    for row in rows:
        if row["status"] == Status.RESET:
            writers.clear()
        elif row["query_id"] not in set_aside:  # whatever the clock of the host said that set it aside
            writers[row["query_id"]] = None
    return list(writers)


def _read_rows(
    spark: SparkSession | None, path: str, query_id: str | None = None, statuses: list[str] = _ENDS
) -> list[dict[str, Any]]:
    """Rows of one query or of all; by default of done batches and of resets: nothing else is a batch done."""
    columns = ["query_id", "batch_id", "status", "finished_at", "source_range", "rows_quarantined"]
    folder = local_path(path)
    if folder is not None:
        wanted = [("status", "in", statuses)] + ([("query_id", "=", query_id)] if query_id else [])
        rows: list[dict[str, Any]] = read_rows(folder, columns, wanted).to_pylist()
        return rows
    df = require_spark(spark, path).read.format("delta").load(path).select(*columns)
    df = df.where(df["status"].isin(statuses))
    found = df.where(df["query_id"] == query_id) if query_id else df
    return [row.asDict() for row in found.collect()]


def read_ledger(path: str, newest: int | None = None) -> list[dict[str, Any]]:
    """Rows of a local ledger, oldest first, or only the `newest`; empty if there is none yet. Starts no Spark.

    Those of status `begun` are left out: they tell a reader nothing.

    UnavailableError for a ledger on a store that only Spark reaches.
    """
    folder = local_path(path)
    if folder is None:
        message = f"the ledger {path} is on a store that only Spark reaches; query it as a Delta table"
        raise UnavailableError(message)
    if not DeltaTable.is_deltatable(folder):
        return []
    rows = [row for row in _oldest_first(read_rows(folder)) if row["status"] != Status.BEGUN]
    return rows if newest is None else rows[-newest:]


def read_ledger_anywhere(spark: SparkSession, path: str) -> list[dict[str, Any]]:
    """Rows of a ledger that is there, oldest first; runs a Spark job where it is not local."""
    if local_path(path) is not None:
        return read_ledger(path)
    return _oldest_first(spark.read.format("delta").load(path).toArrow())


def _oldest_first(table: pa.Table) -> list[dict[str, Any]]:
    """By time, but the batches of a query by their ids: clocks of its hosts may differ."""
    rows: list[dict[str, Any]] = sorted(table.to_pylist(), key=lambda row: (row["started_at"], row["batch_id"]))
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        if row["status"] in OF_BATCHES:
            places.setdefault(row["query_id"], []).append(place)
    for own in places.values():
        in_order = sorted((rows[place] for place in own), key=_age_in_query)
        for place, row in zip(own, in_order, strict=True):
            rows[place] = row
    return rows


def _age_in_query(row: dict[str, Any]) -> tuple[int, bool, datetime]:
    """What comes later in a query; of what happens to a batch its end is the last."""
    return row["batch_id"], row["status"] == Status.DONE, row["started_at"]
