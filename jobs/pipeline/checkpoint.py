"""What Spark's checkpoint directory says, read only: the query's id, and the source range of a batch.

Checkpoints on local paths are read without Spark, too.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pyspark.sql import SparkSession

from jobs.pipeline.errors import CheckpointDamagedError, CheckpointGoneError
from jobs.pipeline.offsets import Offsets
from jobs.pipeline.storage import exists, list_names, read_text

_COMPACTED = ".compact"


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file that a file source took: its URL, and the modification time it had then."""

    path: str
    modified_ms: int

    @property
    def plain_path(self) -> str:
        """The path as Hadoop takes it, nothing escaped."""
        return unquote(self.path)

    @property
    def path_of_record(self) -> str:
        """The path as Spark writes it into `_metadata.file_path`."""
        return self.path.replace("file:///", "file:/", 1)


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """How far a checkpoint is, by its files alone."""

    query_id: str | None
    """Names this checkpoint's writes; None without `metadata`."""
    planned: int
    """The newest batch whose source range is fixed; -1 before the first."""
    done: int
    """The newest batch that Spark has marked as done; -1 before the first."""
    has_source_log: bool

    @property
    def missing(self) -> list[str]:
        """Parts that must be there, by what the others say; a crash leaves none of them out."""
        is_used = self.planned >= 0 or self.done >= 0 or self.has_source_log
        gone = {
            "metadata": self.query_id is None and is_used,
            "offsets": self.planned < self.done,
            "commits": self.done < self.planned - 1,
            "sources": not self.has_source_log and max(self.planned, self.done) >= 0,
        }
        return [name for name, is_gone in gone.items() if is_gone]


def read_state(spark: SparkSession | None, checkpoint: str) -> CheckpointState:
    """From three listings and a small file."""
    planned, done = _newest_batches(spark, checkpoint)
    has_source_log = any(not name.startswith(".") for name in list_names(spark, f"{checkpoint}/sources/0"))
    return CheckpointState(read_query_id(spark, checkpoint), planned, done, has_source_log)


def read_query_id(spark: SparkSession | None, checkpoint: str) -> str | None:
    """The id that names this checkpoint's writes; None before the first start. CheckpointDamagedError if it is torn."""
    path = f"{checkpoint}/metadata"
    if not exists(spark, path):
        return None
    try:
        return str(json.loads(read_text(spark, path))["id"])
    except (ValueError, LookupError, TypeError) as error:
        message = f"{path} does not name the query ({type(error).__name__}: {error}); restore it from a copy"
        raise CheckpointDamagedError(message) from error


def read_batch_ids(spark: SparkSession | None, checkpoint: str, folder: str) -> list[int]:
    """Batches that have a file in `offsets` (planned) or `commits` (done), in order; Spark removes old ones."""
    return sorted(int(name) for name in list_names(spark, f"{checkpoint}/{folder}") if name.isdigit())


def read_source_range(spark: SparkSession | None, checkpoint: str, batch_id: int) -> str:
    """JSON of what batch `batch_id` covers: offsets from (exclusive start of the batch) and until, or its files.

    Files are counted, and told apart from any others by a hash of their paths and times.
    """
    end = _offsets(spark, checkpoint, batch_id)
    if set(end) == {"logOffset"}:
        files = read_batch_files(spark, checkpoint, batch_id)
        return json.dumps({"files": len(files) or None, "hash": _hash(files)})
    start = _offsets(spark, checkpoint, batch_id - 1) if batch_id else None
    return json.dumps({"from": start, "until": end})


def read_position(spark: SparkSession | None, checkpoint: str, batch_id: int) -> Offsets:
    """What is read of a Kafka source once a batch is done, -1 for before the first; empty before the first start."""
    if batch_id >= 0:
        return _offsets(spark, checkpoint, batch_id)
    return _initial_offsets(spark, checkpoint) if exists(spark, f"{checkpoint}/sources/0/0") else {}


def read_batch_files(spark: SparkSession | None, checkpoint: str, batch_id: int) -> list[SeenFile]:
    """Files of one of the last batches, in the order of the source's log; empty for other sources."""
    last = _offsets(spark, checkpoint, batch_id).get("logOffset", -1)
    first = _offsets(spark, checkpoint, batch_id - 1)["logOffset"] + 1 if batch_id and last >= 0 else 0
    return [file for offset in range(first, last + 1) for file in _files(spark, checkpoint, offset)]


def find_logs_beyond(spark: SparkSession | None, checkpoint: str, batch_id: int) -> list[str]:
    """Names in the log of a file source of all entries behind those of a batch, or all for -1; newest first."""
    end = _offsets(spark, checkpoint, batch_id)["logOffset"] if batch_id >= 0 else -1
    numbers = {
        name: int(name.removesuffix(_COMPACTED))
        for name in list_names(spark, f"{checkpoint}/sources/0")
        if name.removesuffix(_COMPACTED).isdigit()
    }
    return sorted((name for name in numbers if numbers[name] > end), key=numbers.__getitem__, reverse=True)


def read_seen_files(spark: SparkSession | None, checkpoint: str) -> list[SeenFile]:
    """Files that a file source has taken so far, batch in flight included; empty before the first start."""
    names = list_names(spark, f"{checkpoint}/sources/0")
    newest = max(_compacted(names), default=-1)
    logs = [name for name in names if name == f"{newest}.compact" or (name.isdigit() and int(name) > newest)]
    return [file for name in logs for file, _ in _entries(spark, f"{checkpoint}/sources/0/{name}")]


def _compacted(names: list[str]) -> list[int]:
    return [int(name.removesuffix(_COMPACTED)) for name in names if name.endswith(_COMPACTED) and name[0] != "."]


def _hash(files: list[SeenFile]) -> str:
    names = sorted(f"{file.modified_ms} {file.path}" for file in files)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _newest_batches(spark: SparkSession | None, checkpoint: str) -> tuple[int, int]:
    """The newest batch planned, and the newest done; -1 for none."""
    planned, done = (max(read_batch_ids(spark, checkpoint, name), default=-1) for name in ("offsets", "commits"))
    return planned, done


def _offsets(spark: SparkSession | None, checkpoint: str, batch_id: int) -> dict[str, Any]:
    """Line 1 of an offset file is its version, line 2 metadata, line 3 the offsets of the one source."""
    lines = read_text(spark, f"{checkpoint}/offsets/{batch_id}").splitlines()
    return dict(json.loads(lines[2]))


def _initial_offsets(spark: SparkSession | None, checkpoint: str) -> Offsets:
    """Where a Kafka source began: a zero byte, a version, and the offsets behind it."""
    text = read_text(spark, f"{checkpoint}/sources/0/0")
    return dict(json.loads(text[text.index("{") :]))


def _files(spark: SparkSession | None, checkpoint: str, log_offset: int) -> list[SeenFile]:
    path = _find_log(spark, f"{checkpoint}/sources/0", log_offset)
    return [file for file, offset in _entries(spark, path) if offset == log_offset]


def _find_log(spark: SparkSession | None, folder: str, log_offset: int) -> str:
    """The file that has the entries of an offset: its own, or one that sums up what was before. Spark says how often
    (`spark.sql.streaming.fileSource.log.compactInterval`), and removes what is summed up.
    """
    for own in (f"{folder}/{log_offset}", f"{folder}/{log_offset}{_COMPACTED}"):
        if exists(spark, own):
            return own
    later = [number for number in _compacted(list_names(spark, folder)) if number > log_offset]
    if not later:
        message = f"{folder} lacks entry {log_offset}, which says what files a batch has; restore the checkpoint"
        raise CheckpointGoneError(message)
    return f"{folder}/{min(later)}{_COMPACTED}"


def _entries(spark: SparkSession | None, path: str) -> list[tuple[SeenFile, int]]:
    """Files in one log of a file source, each with the offset that took it; line 1 is the log's version."""
    entries = [json.loads(line) for line in read_text(spark, path).splitlines()[1:]]
    return [(SeenFile(entry["path"], entry["timestamp"]), entry["batchId"]) for entry in entries]
