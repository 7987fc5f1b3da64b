"""A driver that outlives whoever started it: how it is started, found again, stopped, and what it left. No Airflow.

Each start has a folder of its own under the pipeline's: `process` (host, pid and start time of a small shell around the
driver), `log`, and in the end `exit_code`. The shell writes `process` itself, so that a starter killed at any moment
leaves no driver that nobody can find. It is the leader of a session; the driver's JVM and Python are members.
"""

import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

STARTS_KEPT = 10
"""Folders of earlier starts, with their logs; older ones are removed."""
_TAIL_BYTES = 20_000
_STARTING_SECONDS = 10.0
_BEGINNING_SECONDS = 1.0
_SHELL = """\
cd "$0" || exit 1
echo "$(uname -n) $$ $(cut -d' ' -f22 /proc/$$/stat)" >.process && mv .process process
[ -e stop ] || "$@" >>log 2>&1 </dev/null
echo $? >.exit_code && mv .exit_code exit_code
"""


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver that was started once; its folder says all about it."""

    folder: Path

    @property
    def log(self) -> Path:
        """All that the driver has printed."""
        return self.folder / "log"

    @property
    def host(self) -> str | None:
        """The machine that it was started on; None where the shell did not come so far."""
        return self._process[0] if self._process else None

    @property
    def is_running(self) -> bool:
        """Whether it runs on this machine; a process that has its pid by now is another."""
        if self._process is None or self.host != platform.node():
            return False
        _, pid, started = self._process
        return _start_of(int(pid)) == started

    @property
    def exit_code(self) -> int | None:
        """What it ended with; None while it runs, and where it was killed with its shell."""
        text = _read(self.folder / "exit_code")
        return int(text) if text else None

    def request_stop(self) -> None:
        """SIGTERM to its Python, which finishes the batch in flight; to all of it, while Python is not there yet.

        Where not even that has begun, it waits for it, a second at most: or else the shell finds the stop file first.
        """
        if not self.is_running or self._process is None:
            return
        (self.folder / "stop").touch()
        deadline = time.monotonic() + _BEGINNING_SECONDS
        while not (members := list(_members(int(self._process[1])))) and self.is_running:
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        drivers = [pid for pid in members if _is_pipeline_run(pid)]
        for pid in drivers or members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def tail(self) -> str:
        """The end of its log."""
        with suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
        return ""

    @property
    def _process(self) -> tuple[str, str, str] | None:
        words = _read(self.folder / "process").split()
        return (words[0], words[1], words[2]) if len(words) == 3 else None  # noqa: PLR2004 - host, pid, start


def find_driver(home: Path) -> Driver | None:
    """The driver that runs now, of those started under a pipeline's folder on this machine; the newest, if several."""
    return next((driver for driver in map(Driver, _starts(home)) if driver.is_running), None)


def start_driver(home: Path, command: Sequence[str], variables: Mapping[str, str]) -> Driver:
    """Start a driver in a session of its own; it is there, and can be found, when this returns."""
    folder = home / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    folder.mkdir(parents=True)
    for old in _starts(home)[STARTS_KEPT:]:
        if not Driver(old).is_running:
            shutil.rmtree(old, ignore_errors=True)
    process = subprocess.Popen(  # noqa: S603 - the words of the command are arguments of a fixed script
        ["/bin/sh", "-c", _SHELL, str(folder), *command],
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + _STARTING_SECONDS
    while not (folder / "process").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return Driver(folder)


def _starts(home: Path) -> list[Path]:
    """Newest first; their names are times."""
    return sorted(home.iterdir(), reverse=True) if home.is_dir() else []


def _members(session: int) -> Iterator[int]:
    """Processes of a session, its leader left out."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != session and _fields_of(int(entry.name))[3:4] == [str(session)]:
            yield int(entry.name)


def _is_pipeline_run(pid: int) -> bool:
    """Whether it is the Python that runs the pipeline: not its JVM, not a Python worker of Spark."""
    words = _read(Path(f"/proc/{pid}/cmdline")).split("\0")
    return len(words) > 1 and words[1].endswith("run_pipeline.py")


def _start_of(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None for none, and for one that has ended unburied."""
    fields = _fields_of(pid)
    return fields[19] if fields and fields[0] not in {"Z", "X"} else None


def _fields_of(pid: int) -> list[str]:
    """/proc/<pid>/stat from its third field, the state; the name before may hold anything."""
    return _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
