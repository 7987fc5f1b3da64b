"""Notices while a run goes on that another table lies where it writes."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jobs.pipeline.errors import TableRecreatedError
from jobs.pipeline.lease import Lease
from jobs.pipeline.storage import local_path


@dataclass(frozen=True, slots=True)
class Watch:
    """A lease, and the tables that were there when the run began."""

    lease: Lease
    logs: dict[str, int]
    """Directory of each local table's log, and an open descriptor of it: no other gets its number meanwhile."""

    def check(self) -> None:
        """As `Lease.check`; TableRecreatedError as well, if the log of a table is not the one that was opened."""
        self.lease.check()
        for log, descriptor in self.logs.items():
            if _identity(os.fstat(descriptor)) != _identity_of(log):
                message = (
                    f"the table {log.removesuffix(_LOG)} was deleted, moved or made anew while this run wrote to it; "
                    f"nothing was committed since. Put the earlier table back, and run again"
                )
                raise TableRecreatedError(message)


_LOG = "/_delta_log"


@contextmanager
def watch_tables(lease: Lease, paths: Iterable[str]) -> Iterator[Lease]:
    """Keep an eye on the tables at these paths, which are there, while the body runs; on local paths only."""
    folders = [folder for path in paths if (folder := local_path(path)) is not None]
    logs = {folder + _LOG: os.open(folder + _LOG, os.O_RDONLY | os.O_DIRECTORY) for folder in folders}
    try:
        yield Watch(lease, logs)
    finally:
        for descriptor in logs.values():
            os.close(descriptor)


def _identity_of(path: str) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        return _identity(Path(path).stat())
    return None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
