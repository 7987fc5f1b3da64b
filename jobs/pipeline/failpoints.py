"""Fail points: places by name at which a test ends a run. Without ESCLUSA_FAILPOINT each is a call that does nothing.

`ESCLUSA_FAILPOINT=name:nth:action` acts when the point is reached for the nth time in this process.
"""

import os
import signal
from collections.abc import Callable
from enum import StrEnum
from threading import Event
from typing import NoReturn

VARIABLE = "ESCLUSA_FAILPOINT"
MARK = "failpoint reached: "
"""Begins the line on standard error that proves the point was reached; the specification follows."""


class Point(StrEnum):
    """The states between which a run can die, in the order in which it passes them.

    The point after one write is the point before the next: nothing of consequence happens in between.
    """

    TARGET_CREATED = "target.created"
    TABLE_CREATED = "table.created"
    """First the quarantine, then the ledger."""
    BATCH_ENTERED = "batch.entered"
    BATCH_PINNED = "batch.pinned"
    TARGET_STAGED = "target.staged"
    QUARANTINE_AFTER = "quarantine.after"
    TARGET_AFTER = "target.after"
    LEDGER_AFTER = "ledger.after"
    BATCH_LEFT = "batch.left"
    REPLAY_MARKED = "replay.marked"
    """In a replay of quarantined rows, as the next one."""
    REPLAY_WRITTEN = "replay.written"
    MAINTENANCE_COMMITS = "maintenance.commits"
    """In maintenance, as the next ones: files are written, the table is locked, and the commit is about to be made."""
    MAINTENANCE_STEP = "maintenance.step"
    """One of its steps is done: rows deleted, then for each table files joined, files removed, log shortened."""


class Action(StrEnum):
    """How a run ends at a fail point. A PySpark driver is two processes: Python, and its JVM."""

    KILL_BOTH = "kill9-both"
    KILL_PYTHON = "kill9-python"
    KILL_JVM = "kill9-jvm"
    RAISE = "raise"
    HANG = "hang"


class FailPointError(Exception):
    """What the action `raise` raises."""


def arm(specification: str) -> Callable[[str], None]:
    """The function that acts at the nth call with the specified name; ValueError for a specification it cannot read.

    Names are those of `Point`, or a caller's own.
    """
    name, nth, action = specification.split(":")
    act, countdown = _ACTIONS[Action(action)], iter(range(int(nth) - 1, -1, -1))

    def reach_armed(point: str) -> None:
        if point == name and next(countdown, None) == 0:
            _prepare_to_act(specification, act)

    return reach_armed


def _prepare_to_act(specification: str, act: Callable[[int | None], None]) -> None:
    jvm = _jvm_pid()
    os.write(2, f"{MARK}{specification} (python {os.getpid()}, jvm {jvm})\n".encode())
    act(jvm)


def _jvm_pid() -> int | None:
    from pyspark import SparkContext  # noqa: PLC0415 - the protocol itself needs no Spark

    jvm = SparkContext._jvm  # noqa: SLF001 - PySpark has no public name for the JVM's process
    return None if jvm is None else int(jvm.java.lang.ProcessHandle.current().pid())


def _kill_both(jvm: int | None) -> None:
    _kill_jvm(jvm)
    _kill_python(jvm)


def _kill_jvm(jvm: int | None) -> None:
    if jvm is not None:
        os.kill(jvm, signal.SIGKILL)


def _kill_python(_: int | None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(_: int | None) -> NoReturn:
    raise FailPointError


def _hang(_: int | None) -> None:
    Event().wait()


def _pass(_: str) -> None:
    """No fail point is set."""


_ACTIONS: dict[Action, Callable[[int | None], None]] = {
    Action.KILL_BOTH: _kill_both,
    Action.KILL_PYTHON: _kill_python,
    Action.KILL_JVM: _kill_jvm,
    Action.RAISE: _raise,
    Action.HANG: _hang,
}

reach: Callable[[str], None] = arm(os.environ[VARIABLE]) if VARIABLE in os.environ else _pass
"""Call it with a point's name where a run may die."""
