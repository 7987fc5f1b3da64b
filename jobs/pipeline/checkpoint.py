"""What Spark's checkpoint directory says, read only: the query's id, and the source range of a batch."""

import json
from typing import Any

from pyspark.sql import SparkSession

from jobs.pipeline.storage import exists, list_names, read_text

_COMPACT_EVERY = 10
"""Spark's default of spark.sql.streaming.fileSource.log.compactInterval."""


def read_query_id(spark: SparkSession, checkpoint: str) -> str | None:
    """The id that names this checkpoint's writes; None before the first start."""
    path = f"{checkpoint}/metadata"
    return str(json.loads(read_text(spark, path))["id"]) if exists(spark, path) else None


def read_source_range(spark: SparkSession, checkpoint: str, batch_id: int) -> str:
    """JSON of what batch `batch_id` covers: offsets from (exclusive start of the batch) and until, or its files."""
    end = _offsets(spark, checkpoint, batch_id)
    start = _offsets(spark, checkpoint, batch_id - 1) if batch_id else None
    if set(end) == {"logOffset"}:
        return json.dumps({"files": _count_files(spark, checkpoint, start, end)})
    return json.dumps({"from": start, "until": end})


def count_seen_files(spark: SparkSession, checkpoint: str) -> int:
    """Files that a file source has taken so far, batch in flight included; 0 before the first start."""
    names = list_names(spark, f"{checkpoint}/sources/0")
    compacted = [int(name.removesuffix(".compact")) for name in names if name.endswith(".compact")]
    newest = max(compacted, default=-1)
    logs = [name for name in names if name == f"{newest}.compact" or (name.isdigit() and int(name) > newest)]
    return sum(len(read_text(spark, f"{checkpoint}/sources/0/{name}").splitlines()) - 1 for name in logs)


def _offsets(spark: SparkSession, checkpoint: str, batch_id: int) -> dict[str, Any]:
    """Line 1 of an offset file is its version, line 2 metadata, line 3 the offsets of the one source."""
    lines = read_text(spark, f"{checkpoint}/offsets/{batch_id}").splitlines()
    return dict(json.loads(lines[2]))


def _count_files(spark: SparkSession, checkpoint: str, start: dict[str, Any] | None, end: dict[str, Any]) -> int | None:
    """More than one entry of the source's log where a run died after it had listed files, before it planned them."""
    first = start["logOffset"] + 1 if start else 0
    counts = [_files(spark, checkpoint, entry) for entry in range(first, end["logOffset"] + 1)]
    return sum(count for count in counts if count is not None) if None not in counts else None


def _files(spark: SparkSession, checkpoint: str, log_offset: int) -> int | None:
    path = f"{checkpoint}/sources/0/{log_offset}"
    if (log_offset + 1) % _COMPACT_EVERY == 0:
        path += ".compact"
    if not exists(spark, path):
        return None
    entries = [json.loads(line) for line in read_text(spark, path).splitlines()[1:]]
    return sum(1 for entry in entries if entry["batchId"] == log_offset)
