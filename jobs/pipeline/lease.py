"""The lease: one effective writer a pipeline, whoever started it and wherever.

Three layers; each holds where the one before can be passed:

1. A run takes the lease before it does anything. On local and mounted paths that is a lock of the kernel's, held by
   Python and by the JVM: a driver that is paused, or whose Python is killed while its JVM still commits, keeps it.
   On other stores it is one file an epoch, created exclusively and renewed; a holder that does not renew it loses it.
2. The run asks again right before each commit. A lease that was taken over has another holder or a newer epoch by
   then, so a driver that was paused meanwhile does not commit.
3. Each commit carries its transaction. Where a driver is paused between that question and the end of its commit,
   the other's commit has the same transaction, and Delta refuses whichever comes second.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, TextIO
from uuid import uuid4

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.pipeline.errors import AlreadyRunningError, LeaseLostError
from jobs.pipeline.file_lock import hold_in_jvm, take_flock
from jobs.pipeline.storage import create_text, delete_file, exists, list_names, local_path, read_text, write_text

EXPIRY_SECONDS = 60.0
"""A lease on a store that its holder has not renewed for so long is free to take."""
RENEWAL_SECONDS = 10.0
JVM_WAIT_SECONDS = 60.0
"""How long a run waits for the JVM of a driver whose Python is gone; Spark ends it within seconds."""
_POLL_SECONDS = 0.5


class Lease(Protocol):
    """What a run holds while it may write."""

    def check(self) -> None:
        """Return if this run is still the one writer; LeaseLostError otherwise. Call it right before each commit."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, as its file says; `epoch` grows by one with every run."""

    id: str
    epoch: int
    host: str
    pid: int
    renewed_at: float
    """Seconds since 1970 on the holder's clock, as are all times here that other machines read."""
    is_released: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, epoch {self.epoch}"


@contextmanager
def hold_lease(spark: SparkSession, name: str, path: str) -> Iterator[Lease]:
    """Hold the lease of pipeline `name`, kept in directory `path`, while the body runs.

    AlreadyRunningError if another run holds it: at once, or, where that run gives no sign of life, after a minute.
    """
    folder = local_path(path)
    if folder is not None:
        with _hold_locally(spark, name, Path(folder)) as lease:
            yield lease
    else:
        with hold_on_store(name, HadoopFolder(spark, path)) as lease:
            yield lease


@dataclass(frozen=True, slots=True)
class LocalLease:
    """A lease that the kernel keeps. Its file shows whether somebody deleted it, so that another run could take it."""

    name: str
    file: Path
    holder: Holder

    def check(self) -> None:
        """One read of a small local file."""
        found = _parse(self.file.read_text()) if self.file.exists() else None
        if found != self.holder:
            raise _lost(self.name, f"{self.file} now names {found or 'nobody'}")


@contextmanager
def _hold_locally(spark: SparkSession, name: str, folder: Path) -> Iterator[Lease]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "holder").open("a+") as file:
        is_free = take_flock(file.fileno())
        file.seek(0)
        before = _parse(file.read())
        if not is_free:
            raise _held(name, before)
        dying = _held(name, before, "; its Python is gone, but its JVM still runs after a minute")
        with hold_in_jvm(spark, str(folder / "jvm"), JVM_WAIT_SECONDS, dying):
            holder = _new_holder(before.epoch + 1 if before else 1)
            _overwrite(file, holder)
            yield LocalLease(name, folder / "holder", holder)


def _overwrite(file: TextIO, holder: Holder) -> None:
    file.truncate(0)
    file.write(_as_text(holder))
    file.flush()


class LeaseFolder(Protocol):
    """Where the lease files of a pipeline lie on a store: one for each epoch, of which the newest counts."""

    def epochs(self) -> list[int]:
        """Epochs that have a file."""

    def read(self, epoch: int) -> Holder | None:
        """The holder of an epoch; None if there is no file, or one that is still being written."""

    def create(self, holder: Holder) -> None:
        """Create the file of a new epoch, if there is none. Says nothing of its success; `read` does."""

    def replace(self, holder: Holder) -> None:
        """Write the file of the holder's own epoch anew."""

    def remove(self, epoch: int) -> None:
        """Remove the file of an epoch that is over."""


@dataclass(frozen=True, slots=True)
class HadoopFolder:
    """Lease files through Hadoop's FileSystem; as exclusive as the store's creation without overwriting is."""

    spark: SparkSession
    path: str

    def epochs(self) -> list[int]:
        """From one listing."""
        names = [name.removeprefix("lease.") for name in list_names(self.spark, self.path)]
        return [int(name) for name in names if name.isdigit()]

    def read(self, epoch: int) -> Holder | None:
        """From one small file."""
        file = self._file(epoch)
        return _parse(read_text(self.spark, file)) if exists(self.spark, file) else None

    def create(self, holder: Holder) -> None:
        """Exclusive on HDFS, ABFS and GCS, and on S3 where it takes conditional writes."""
        with suppress(Py4JJavaError):  # a store may report as failed what a retry of its own has done
            create_text(self.spark, self._file(holder.epoch), _as_text(holder))

    def replace(self, holder: Holder) -> None:
        """One small file."""
        write_text(self.spark, self._file(holder.epoch), _as_text(holder))

    def remove(self, epoch: int) -> None:
        """One file."""
        delete_file(self.spark, self._file(epoch))

    def _file(self, epoch: int) -> str:
        return f"{self.path}/lease.{epoch}"


@dataclass(slots=True)
class StoreLease:
    """A lease that lasts while its epoch is the newest and its holder renews it."""

    name: str
    folder: LeaseFolder
    holder: Holder
    renewed: float
    """When the last renewal began, by `elapsed_seconds`: another machine cannot have seen it earlier."""

    def check(self) -> None:
        """One listing."""
        newest = max(self.folder.epochs(), default=0)
        if newest != self.holder.epoch:
            raise _lost(self.name, f"epoch {self.holder.epoch} was followed by {newest or 'a deleted lease'}")
        age = elapsed_seconds() - self.renewed
        if age > EXPIRY_SECONDS:
            raise _lost(
                self.name, f"it was not renewed for {age:.0f} seconds: the driver was paused, or its store away"
            )

    def renew(self) -> None:
        """Write the file anew; LeaseLostError, writing nothing, once the lease is lost: it does not come back."""
        began = elapsed_seconds()
        self.check()
        found = self.folder.read(self.holder.epoch)
        if found is not None and found.id != self.holder.id:
            raise _lost(self.name, f"its file now names {found}")
        self.folder.replace(replace(self.holder, renewed_at=time.time()))
        self.renewed = began

    def release(self) -> None:
        """Let the next run take the lease at once."""
        self.check()
        self.folder.replace(replace(self.holder, is_released=True))


@contextmanager
def hold_on_store(name: str, folder: LeaseFolder) -> Iterator[StoreLease]:
    """Take the next epoch's lease, renew it from a thread, and release it behind the body."""
    lease = take_on_store(name, folder)
    stop = threading.Event()
    thread = threading.Thread(target=_keep_renewed, args=(lease, stop), name=f"lease of {name}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join()
        with suppress(AlreadyRunningError, Py4JJavaError):  # the run's own end is the one to report
            lease.release()


def take_on_store(name: str, folder: LeaseFolder) -> StoreLease:
    """Take the next epoch's lease once the newest is free; AlreadyRunningError if it does not become free."""
    newest = max(folder.epochs(), default=0)
    if newest:
        _await_end(name, folder, newest)
    lease = StoreLease(name, folder, _new_holder(newest + 1), elapsed_seconds())
    folder.create(lease.holder)
    found = folder.read(newest + 1)
    if found != lease.holder:
        raise _held(name, found)
    lease.check()
    for epoch in folder.epochs():
        if epoch < newest + 1:
            folder.remove(epoch)
    return lease


def _await_end(name: str, folder: LeaseFolder, epoch: int) -> None:
    """Return when the epoch is released or expired; AlreadyRunningError as soon as its holder shows life."""
    first = latest = folder.read(epoch)
    age = time.time() - first.renewed_at if first else 0.0
    deadline = elapsed_seconds() + EXPIRY_SECONDS - max(0.0, age)
    while not (latest and latest.is_released) and elapsed_seconds() < deadline:
        time.sleep(_POLL_SECONDS)
        latest = folder.read(epoch)
        if latest and latest != first and not latest.is_released:
            raise _held(name, latest)


def _keep_renewed(lease: StoreLease, stop: threading.Event) -> None:
    while not stop.wait(RENEWAL_SECONDS):
        try:
            lease.renew()
        except LeaseLostError:
            return
        except Exception:  # noqa: BLE001, S110 - a store that is away for a while; if it stays away, check says so
            pass


def elapsed_seconds() -> float:
    """A clock that nobody sets, and that runs on while the process or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _new_holder(epoch: int) -> Holder:
    return Holder(uuid4().hex, epoch, platform.node(), os.getpid(), time.time())


def _as_text(holder: Holder) -> str:
    return json.dumps(asdict(holder))


def _parse(text: str) -> Holder | None:
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError):
        return None


def _held(name: str, holder: Holder | None, why: str = "") -> AlreadyRunningError:
    return AlreadyRunningError(f"pipeline {name} is held by another run ({holder or 'unknown'}){why}; nothing done")


def _lost(name: str, why: str) -> LeaseLostError:
    return LeaseLostError(f"lost the lease of pipeline {name}: {why}; nothing was committed since")
