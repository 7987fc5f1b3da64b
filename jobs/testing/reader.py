"""A reader that looks at a table while it is written: what it has seen once must stay, and be there once."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from jobs.testing.checker import Violation

_INTERVAL_SECONDS = 0.5


@dataclass(slots=True)
class Reader:
    """Polls a table from a thread of its own for the time of the body; `violations` holds what it saw go wrong."""

    table: Path
    id_column: str = "id"
    violations: list[Violation] = field(default_factory=list)
    polls: int = 0
    _seen: set[str] = field(default_factory=set)
    _files: dict[str, int] = field(default_factory=dict)
    _logs: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, name=f"reader of {self.table.name}")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(_INTERVAL_SECONDS):
            try:
                self.poll()
            except TableNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 - whatever a reader gets to see is the finding
                self.violations.append(Violation("I6", f"{self.table.name} cannot be read: {error!r}"))

    def poll(self) -> None:
        """Look once: I6 at the rows that are new since the last look, I4 at the log's files."""
        actions = DeltaTable(str(self.table)).get_add_actions(flatten=True)
        files = dict(zip(actions["path"].to_pylist(), actions["num_records"].to_pylist(), strict=True))
        if sum(files.values()) < sum(self._files.values()):
            self._report("I6", f"{sum(self._files.values())} rows became {sum(files.values())}")
        for path in files.keys() - self._files.keys():
            self._take_ids(self.table / path)
        self._files = files
        self._compare_logs()
        self.polls += 1

    def _take_ids(self, file: Path) -> None:
        ids = pq.read_table(file, columns=[self.id_column])[self.id_column].to_pylist()
        doubled = [name for name in ids if name in self._seen] + [None] * (len(ids) - len(set(ids)))
        if doubled:
            self._report("I6", f"{len(doubled)} ids were seen twice")
        self._seen.update(ids)

    def _compare_logs(self) -> None:
        for file in (self.table / "_delta_log").glob("*.json"):
            status = file.stat()
            print_of_file = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._logs.setdefault(file.name, print_of_file) != print_of_file:
                self._report("I4", f"version {file.stem} was written again")

    def _report(self, invariant: str, message: str) -> None:
        self.violations.append(Violation(invariant, f"{self.table.name}: {message}"))
