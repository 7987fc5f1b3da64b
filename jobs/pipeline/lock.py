"""One run a pipeline on one machine: an advisory file lock, freed by the kernel however the process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.pipeline.errors import AlreadyRunningError
from jobs.pipeline.storage import local_path


@contextmanager
def hold_pipeline(name: str, path: str) -> Iterator[None]:
    """Hold the lock file while the body runs; AlreadyRunningError, at once, if another process holds it.

    Without effect for state on an object store, where there are no file locks.
    """
    folder = local_path(path)
    if folder is None:
        yield
        return
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    with Path(folder).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            message = (
                f"pipeline {name} is held by another run (process {file.read().strip() or 'unknown'}); nothing done"
            )
            raise AlreadyRunningError(message) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
