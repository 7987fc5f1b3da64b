"""Processes of a session: which there are, what they have cost, and their end."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def kill_process(pid: int) -> None:
    """SIGKILL, if it still lives."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Process:
    """A line of /proc/PID/stat."""

    name: str
    state: str
    session: int
    cpu_seconds: float
    """Its own, and that of its children that have ended."""


def members(session: int) -> dict[int, Process]:
    """By process id the session's processes that are not dead."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            process = _parse((folder / "stat").read_text(encoding="utf-8"))
            if process.session == session and process.state != "Z":
                found[int(folder.name)] = process
    return found


def _parse(text: str) -> Process:
    """Fields behind the name, which may hold anything: 0 is the state, 3 the session, 11 to 14 the CPU time."""
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    return Process(name, fields[0], int(fields[3]), sum(map(int, fields[11:15])) / _TICKS_A_SECOND)


def slow_renames(milliseconds: int) -> list[str]:
    """What stands before a command each of whose renames and links waits before it is carried out; needs strace.

    The tracer is no parent of the command, and in a session of its own.
    """
    calls = "rename,renameat,renameat2,link,linkat"
    delays = ["-e", f"trace={calls}", "-e", f"inject={calls}:delay_enter={milliseconds * 1000}"]
    return ["strace", "-DDD", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", *delays]
