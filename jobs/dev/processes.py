"""Processes of this machine: found by session, told from others that got their id later, waited for, ended."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_POLL_SECONDS = 0.05
_STATE, _PARENT, _SESSION, _START = 0, 1, 3, 19
"""Places of fields in /proc/PID/stat, counted behind the name."""
_CPU_FIELDS = slice(11, 15)
"""User and system time, own and of dead children."""
_ZOMBIE = "Z"


def members(session: int) -> dict[int, str]:
    """Process id -> command name of the session's processes that are not dead."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, words = _status(int(process.name))
            if int(words[_SESSION]) == session and words[_STATE] != _ZOMBIE:
                found[int(process.name)] = name
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of its children that have ended; 0 if it is gone."""
    with contextlib.suppress(OSError):
        _, words = _status(pid)
        return sum(map(int, words[_CPU_FIELDS])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None if it is dead. A later process with its id differs."""
    with contextlib.suppress(OSError):
        _, words = _status(pid)
        return None if words[_STATE] == _ZOMBIE else int(words[_START])
    return None


def parent_of(pid: int) -> int:
    """Id of the process that started it, or of the one that it was left to; OSError if it is gone."""
    return int(_status(pid)[1][_PARENT])


def signal_process(pid: int, number: signal.Signals) -> bool:
    """Send a signal, if the process still lives; returns whether it does."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def kill_process(pid: int) -> bool:
    """SIGKILL, if it still lives; returns whether it did."""
    return signal_process(pid, signal.SIGKILL)


def end_process(pid: int, grace_seconds: float) -> None:
    """Wait until a process has ended; SIGKILL if it outlives the grace."""
    ticks, deadline = start_ticks(pid), time.monotonic() + grace_seconds
    while ticks is not None and start_ticks(pid) == ticks:
        if time.monotonic() > deadline:
            kill_process(pid)
        time.sleep(_POLL_SECONDS)


def end_sessions(sessions: Iterable[int], grace_seconds: float) -> None:
    """Wait until no process of the sessions lives; SIGKILL to those that outlive the grace."""
    sessions, deadline = list(sessions), time.monotonic() + grace_seconds
    while left := [pid for session in sessions for pid in members(session)]:
        if time.monotonic() > deadline:
            for pid in left:
                kill_process(pid)
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM and Ctrl-C raise KeyboardInterrupt in the body, once: the end is on its way then. Main thread only."""

    def interrupt(*_: object) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _status(pid: int) -> tuple[str, list[str]]:
    """A process's name, and the fields of /proc/PID/stat behind it; OSError if it is gone."""
    name, _, rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").partition("(")[2].rpartition(")")
    return name, rest.split()
