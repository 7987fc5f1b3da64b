"""What a Delta log and a Spark checkpoint hold on disk, read without Spark: the checker's own eyes."""

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

_LOG = "logOffset"
_COMMIT = re.compile(r"\d{20}\.json")


@dataclass(frozen=True, slots=True)
class LoggedCommit:
    """One version of a table, from its own log file."""

    version: int
    transactions: dict[str, int]
    rows: int
    """By the statistics of the files it added."""
    files: tuple[str, ...] = ()
    """That it added, as the log names them."""
    columns: tuple[str, ...] | None = None
    """Of the table, if it set them."""


def read_commits(table: Path) -> list[LoggedCommit]:
    """Every version whose log file is still there, oldest first; empty if there is no table."""
    folder = table / "_delta_log"
    names = sorted(name.name for name in folder.iterdir() if _COMMIT.fullmatch(name.name)) if folder.is_dir() else []
    return [_read_commit(folder / name) for name in names]


def _read_commit(file: Path) -> LoggedCommit:
    actions = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    transactions = {action["txn"]["appId"]: action["txn"]["version"] for action in actions if "txn" in action}
    added = [action["add"] for action in actions if "add" in action]
    rows, files = sum(json.loads(one["stats"])["numRecords"] for one in added), tuple(one["path"] for one in added)
    schemas = [json.loads(action["metaData"]["schemaString"]) for action in actions if "metaData" in action]
    columns = tuple(field["name"] for field in schemas[0]["fields"]) if schemas else None
    return LoggedCommit(int(file.stem), transactions, rows, files, columns)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint directory of a query with one source."""

    folder: Path

    @property
    def query_id(self) -> str:
        """The id that names the query's writes."""
        return str(json.loads((self.folder / "metadata").read_text())["id"])

    @property
    def planned(self) -> list[int]:
        """Batches whose source range is fixed."""
        return _numbers(self.folder / "offsets")

    @property
    def committed(self) -> list[int]:
        """Batches that Spark holds for done."""
        return _numbers(self.folder / "commits")

    @cached_property
    def files(self) -> dict[str, list[int]]:
        """File name -> the entries of the file source's log that hold it.

        An entry's number is a batch's until a run dies between the two logs; `batch_of` knows the difference.
        """
        taken: dict[str, set[int]] = {}
        for entry in self._entries():
            taken.setdefault(Path(entry["path"]).name, set()).add(entry["batchId"])
        return {name: sorted(entries) for name, entries in taken.items()}

    def _entries(self) -> Iterator[dict[str, Any]]:
        folder = self.folder / "sources" / "0"
        for file in folder.iterdir() if folder.is_dir() else ():
            if re.fullmatch(r"\d+(\.compact)?", file.name):
                entries = [json.loads(line) for line in _lines(file) if line.startswith("{")]
                yield from (entry for entry in entries if "path" in entry)

    @cached_property
    def offsets(self) -> dict[int, dict[str, int]]:
        """Batch -> the offset, exclusive, up to which it reads each `topic/partition`; for a file source the number
        after its last entry in the source's log, as `logOffset`.
        """
        return {batch: _flatten(self._offsets(batch)) for batch in self.planned}

    def _offsets(self, batch: int) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads((self.folder / "offsets" / str(batch)).read_text().splitlines()[2])
        return parsed

    def count_finished(self) -> int:
        """Files, or records, of the batches that Spark holds for done."""
        committed = self.committed
        until = self.offsets[committed[-1]] if committed else {}
        if set(until) == {_LOG}:
            return sum(entries[0] < until[_LOG] for entries in self.files.values())
        return sum(until.values())

    def batch_of(self, place: str) -> int | None:
        """The batch that took an event from its place (a file's name, or topic/partition/offset); None if none has."""
        partition, _, offset = place.rpartition("/")
        if not partition:
            partition, offset = _LOG, str(min(self.files.get(place, [sys.maxsize])))
        return next((batch for batch in self.planned if int(offset) < self.offsets[batch].get(partition, 0)), None)


def _lines(file: Path) -> list[str]:
    """Empty for a log that Spark has compacted and removed meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return file.read_text(encoding="utf-8").splitlines()
    return []


def _numbers(folder: Path) -> list[int]:
    return sorted(int(file.name) for file in folder.iterdir() if file.name.isdigit()) if folder.is_dir() else []


def _flatten(offsets: dict[str, Any]) -> dict[str, int]:
    if set(offsets) == {_LOG}:
        return {_LOG: offsets[_LOG] + 1}
    return {
        f"{topic}/{partition}": offset
        for topic, partitions in offsets.items()
        for partition, offset in partitions.items()
    }
