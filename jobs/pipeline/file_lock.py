"""Advisory locks on local files, freed by the kernel when the process that holds them ends, however it ends.

PySpark's driver is two processes, Python and its JVM, and either can outlive the other for a while. So whoever
commits holds the lock: the JVM for what Spark commits, Python for what delta-rs commits. Both take POSIX record locks
on the whole file, and these keep each other out, between processes and, on NFS, between machines.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from jobs.pipeline.errors import EsclusaError, UnavailableError
from jobs.pipeline.jvm import jvm_class
from jobs.pipeline.storage import local_path

TABLE_WAIT_SECONDS = 60
"""A commit takes well under a second; who holds a table for longer is paused."""
_POLL_SECONDS = 0.01
_THREADS: dict[str, threading.Lock] = {}
"""One for each file: record locks belong to a process, and closing the file anywhere in it would drop them."""


@contextmanager
def hold_table_for_spark(spark: SparkSession, path: str) -> Iterator[None]:
    """Keep other writers of a local table out while Spark commits to it; without effect on other stores.

    Without it commits get lost: Delta looks whether a version is there and then renames, and on a local disk a rename
    replaces what another process put there in between. UnavailableError if the table is not free within a minute.
    """
    folder = local_path(path)
    if folder is None:
        yield
        return
    with hold_in_jvm(spark, _table_lock(folder), TABLE_WAIT_SECONDS, _table_is_busy(path)):
        yield


@contextmanager
def hold_table_for_python(folder: str) -> Iterator[None]:
    """As hold_table_for_spark, around a commit that this Python process makes."""
    lock = _table_lock(folder)
    error = _table_is_busy(folder)
    with _hold_among_threads(lock, TABLE_WAIT_SECONDS, error), Path(lock).open("ab") as file:
        _wait(lambda: _is_free(lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)), TABLE_WAIT_SECONDS, error)
        yield


@contextmanager
def hold_new_table(path: str) -> Iterator[None]:
    """Create the directory of a local table and let one process at a time look whether the table is there.

    Locks the directory itself, for Delta creates tables in empty directories only.
    """
    folder = local_path(path)
    if folder is None:
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _wait(lambda: take_flock(descriptor), TABLE_WAIT_SECONDS, _table_is_busy(path))
        yield
    finally:
        os.close(descriptor)


@contextmanager
def hold_in_jvm(spark: SparkSession, file: str, wait_seconds: float, otherwise: EsclusaError) -> Iterator[None]:
    """Let the JVM hold a lock while the body runs; if Python is killed in it, until the JVM has ended too.

    Raises `otherwise` if the lock is not free within the time.
    """
    with _hold_among_threads(file, wait_seconds, otherwise), _channel(spark, file) as channel:
        _wait(lambda: channel.tryLock() is not None, wait_seconds, otherwise)
        yield


def take_flock(file: int) -> bool:
    """Try for a flock on an open file, which lasts until it is closed; whether it is had, at once."""
    return _is_free(lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB))


def _table_lock(folder: str) -> str:
    """Inside the table, the one place that all its writers share; Delta reads no names in its log but its own."""
    return f"{os.path.realpath(folder)}/_delta_log/.esclusa.lock"


def _table_is_busy(path: str) -> UnavailableError:
    return UnavailableError(f"the table {path} has been locked by another writer for {TABLE_WAIT_SECONDS} seconds")


@contextmanager
def _hold_among_threads(file: str, wait_seconds: float, otherwise: EsclusaError) -> Iterator[None]:
    lock = _THREADS.setdefault(file, threading.Lock())
    if not lock.acquire(timeout=wait_seconds):
        raise otherwise
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _channel(spark: SparkSession, file: str) -> Iterator[Any]:
    """A FileChannel that the JVM keeps, even when Python's references to it are gone: closed, it holds no lock."""
    channel = jvm_class(spark, "java.io.RandomAccessFile")(file, "rw").getChannel()
    kept = jvm_class(spark, "java.lang.System").getProperties()
    kept.put(f"esclusa.lock.{file}", channel)
    try:
        yield channel
    finally:
        with suppress(Py4JError, OSError):  # a JVM that has ended holds nothing, and the body says why
            kept.remove(f"esclusa.lock.{file}")
            channel.close()


def _wait(attempt: Callable[[], bool], wait_seconds: float, otherwise: EsclusaError) -> None:
    deadline = time.monotonic() + wait_seconds
    while not attempt():
        if time.monotonic() >= deadline:
            raise otherwise
        time.sleep(_POLL_SECONDS)


def _is_free(take: Callable[[], None]) -> bool:
    try:
        take()
    except BlockingIOError:
        return False
    return True
