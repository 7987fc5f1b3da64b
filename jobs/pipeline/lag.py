"""What the source still holds behind a batch: files or records that are there and not yet read."""

import json
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from jobs.pipeline.checkpoint import read_seen_files
from jobs.pipeline.model import Pipeline
from jobs.pipeline.offsets import Offsets, ranges_between
from jobs.pipeline.sources.source import count_files


@dataclass(slots=True)
class Lag:
    """Counts down through one run. Asked once a batch, in their order."""

    _spark: SparkSession
    _checkpoint: str
    _files_at_start: int | None
    """None for a source that is no directory, and for a run that goes on as files land."""
    _files_seen: int | None = None

    @classmethod
    def at_start(cls, spark: SparkSession, pipeline: Pipeline) -> "Lag":
        """Lists the files that are there; to be called before the query starts."""
        files = count_files(spark, pipeline) if pipeline.spec.trigger.available_now else None
        return cls(spark, pipeline.checkpoint, files)

    def behind(self, source_range: str, query: StreamingQuery | None) -> int | None:
        """Files or records left behind the batch of this range; None if the source has not said."""
        if self._files_at_start is not None:
            return self._files_left(self._files_at_start, source_range)
        progress, until = query.lastProgress if query else None, json.loads(source_range).get("until")
        return lag_behind(until, dict(progress)) if progress and until else None

    def _files_left(self, listed: int, source_range: str) -> int:
        """The first batch counts what the checkpoint has seen, itself included; later ones add their own files."""
        if self._files_seen is None:
            self._files_seen = len(read_seen_files(self._spark, self._checkpoint))
        else:
            self._files_seen += json.loads(source_range)["files"] or 0
        return max(0, listed - self._files_seen)


def lag_behind(until: Offsets, progress: dict[str, Any]) -> int | None:
    """Records that topics held beyond these offsets, as the progress of the batch before says; None if it does not."""
    held = [_as_offsets(source.get("latestOffset")) for source in progress.get("sources", [])]
    known = [latest for latest in held if latest is not None]
    ranges = [one for latest in known for one in ranges_between(until, latest)]
    return sum(max(0, one.count) for one in ranges) if known else None


def _as_offsets(value: Any) -> dict[str, dict[str, int]] | None:
    parsed = json.loads(value) if isinstance(value, str) and value.startswith("{") else value
    return parsed if isinstance(parsed, dict) and all(isinstance(item, dict) for item in parsed.values()) else None
