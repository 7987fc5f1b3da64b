"""Runs a pipeline's command and kills it: at a fail point, when a file appears, or after a time.

A PySpark driver is two processes. Each run has a session of its own, so both are found by the session's id, and
nothing else is ever signalled.
"""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from jobs.dev.processes import cpu_seconds, kill_process, members
from jobs.pipeline.failpoints import MARK, VARIABLE, Action

FILE_SECONDS = 0.002
"""How often a folder is looked at for the file that is a kill's moment."""
LOOK_SECONDS = 0.1
_COUNT_SECONDS = 0.5
"""How often a run's CPU time is read, which looks at every process of the machine."""
LIMIT_SECONDS = 300
"""A run that takes longer counts as hung."""
_RENAMES = "rename,renameat,renameat2,link,linkat"
_SLOW_RENAMES = [
    *["strace", "-DDD", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"],
    *["-e", f"trace={_RENAMES}", "-e", f"inject={_RENAMES}:delay_enter=40000"],
]
"""40 ms before each call. The tracer is no parent of the run, and in a session of its own."""
_SPARK_IS_UP = b'"event": "start"'


class Victims(StrEnum):
    """Which of a driver's two processes are killed."""

    BOTH = "both"
    PYTHON = "python"
    JVM = "jvm"


@dataclass(frozen=True, slots=True)
class AtPoint:
    """When a fail point is reached for the nth time."""

    name: str
    nth: int = 1


@dataclass(frozen=True, slots=True)
class AtFile:
    """When the nth new file whose name matches appears in a folder, with at least so many bytes.

    A fleeting file stays too short a time to be met: every rename and link of the run is delayed by strace then.
    """

    folder: Path
    pattern: str
    nth: int = 1
    least_bytes: int = 0
    is_fleeting: bool = False


@dataclass(frozen=True, slots=True)
class AtTime:
    """So many seconds after the start; with a grace, SIGTERM comes first, and the kill after the grace (K19)."""

    seconds: float
    grace_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    """When and whom to kill."""

    moment: AtPoint | AtFile | AtTime
    victims: Victims

    @property
    def environment(self) -> dict[str, str]:
        """What the run must find in its environment."""
        if not isinstance(self.moment, AtPoint):
            return {}
        action = Action(f"kill9-{self.victims}")
        return {VARIABLE: f"{self.moment.name}:{self.moment.nth}:{action}"}

    @property
    def is_slow(self) -> bool:
        """Whether the run is slowed down, so that its moment can be met."""
        return isinstance(self.moment, AtFile) and self.moment.is_fleeting

    @property
    def prefix(self) -> list[str]:
        """What stands before the run's command."""
        return _SLOW_RENAMES if self.is_slow else []


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    was_killed: bool
    """A signal was sent, or the fail point said that it was reached."""
    exit_code: int
    recovery_seconds: float | None
    """From the start to the first new version of a watched table; None if there was none."""
    spark_seconds: float | None = None
    """From the start to the run's own first line, by when the session is there; None if it wrote none."""
    wall_seconds: float = 0
    cpu_seconds: float = 0
    """Of Python and its JVM, as last seen within half a second of their end."""


class HungError(Exception):
    """A run neither ended nor met its kill within LIMIT_SECONDS; it is dead now."""


@dataclass(slots=True)
class Nemesis:
    """Starts runs of one command one after another, and knows what is left of those before."""

    command: Sequence[str]
    log: Path
    """Standard output and error of all runs, appended."""
    tables: Sequence[Path]
    """A new version of one of these is the first sign of recovery."""
    _sessions: list[int] = field(default_factory=list)

    def run(self, kill: Kill | None = None, has_caught_up: Callable[[], bool] | None = None) -> Outcome:
        """Run to the end, killed or not. SIGTERM ends a run that `has_caught_up`, for those that go on for ever.

        Python's end is the run's end: its JVM may live a little longer, as after a real kill. Raises HungError.
        """
        begin = self.log.stat().st_size if self.log.exists() else 0
        watch = _Watch(self._start(kill), kill, self.tables, self.log, begin)
        try:
            self._follow(watch, has_caught_up)
        finally:
            if watch.process.poll() is None:
                strike(watch.process.pid, Victims.BOTH)
                watch.process.wait()
        was_killed = watch.was_struck or watch.was_asked or MARK.encode() in watch.read_log()
        return watch.outcome(was_killed=was_killed)

    def _follow(self, watch: "_Watch", has_caught_up: Callable[[], bool] | None) -> None:
        while watch.process.poll() is None:
            watch.tick()
            if has_caught_up is not None and watch.looks_now and has_caught_up():
                watch.process.send_signal(signal.SIGTERM)
                has_caught_up = None
            time.sleep(watch.interval_seconds)

    def bury_survivors(self) -> list[int]:
        """Wait until no process of an earlier run lives; returns, and kills, those that live on for LIMIT_SECONDS."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while (left := [pid for session in self._sessions for pid in members(session)]) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        for pid in left:
            kill_process(pid)
        return left

    def _start(self, kill: Kill | None) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | (kill.environment if kill else {})
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - the caller's own command
                [*(kill.prefix if kill else []), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._sessions.append(process.pid)
        return process


@dataclass(slots=True)
class _Watch:
    """One run under the nemesis's eyes."""

    process: subprocess.Popen[bytes]
    kill: Kill | None
    tables: Sequence[Path]
    log: Path
    log_begin: int
    """Bytes of the log that are of earlier runs."""
    was_struck: bool = False
    was_asked: bool = False
    looks_now: bool = False
    """Whether this tick is one of those, ten a second, that look at more than the kill's own moment."""
    recovery_seconds: float | None = None
    spark_seconds: float | None = None
    _cpu_seconds: dict[int, float] = field(default_factory=dict)
    _counted: float = 0
    _started: float = field(default_factory=time.monotonic)
    _looked: float = 0
    _versions: set[str] = field(default_factory=set)
    _files: set[str] = field(default_factory=set)
    """Names that match and were there before the start."""
    _seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._versions = self._all_versions()
        if self.kill and isinstance(self.kill.moment, AtFile):
            self._files = matching(self.kill.moment)

    @property
    def interval_seconds(self) -> float:
        """A file that marks the moment is looked for more often than anything else, until the kill."""
        is_waiting = self.kill and isinstance(self.kill.moment, AtFile) and not self.was_struck
        return FILE_SECONDS if is_waiting else LOOK_SECONDS / 4

    def outcome(self, *, was_killed: bool) -> Outcome:
        """What is known of a run that has ended."""
        return Outcome(
            was_killed,
            self.process.returncode,
            self.recovery_seconds,
            self.spark_seconds,
            time.monotonic() - self._started,
            sum(self._cpu_seconds.values()),
        )

    def read_log(self) -> bytes:
        """What this run has written."""
        with self.log.open("rb") as log:
            log.seek(self.log_begin)
            return log.read()

    def tick(self) -> None:
        elapsed = time.monotonic() - self._started
        if self.kill and not self.was_struck and self._is_due(self.kill.moment, elapsed):
            self._count(elapsed)
            # Nobody is hit where the JVM is to die and has not begun yet: the next tick tries again.
            self.was_struck = strike(self.process.pid, self.kill.victims) > 0
        self.looks_now = elapsed - self._looked > LOOK_SECONDS
        if self.looks_now:
            self._look(elapsed)

    def _is_due(self, moment: AtPoint | AtFile | AtTime, elapsed: float) -> bool:
        match moment:
            case AtPoint():
                return False
            case AtFile():
                self._seen |= matching(moment) - self._files
                return len(self._seen) >= moment.nth
            case AtTime():
                return elapsed >= moment.seconds + self._grace(moment, elapsed)

    def _grace(self, moment: AtTime, elapsed: float) -> float:
        if moment.grace_seconds is None:
            return 0
        if elapsed >= moment.seconds and not self.was_asked:
            self.process.send_signal(signal.SIGTERM)
            self.was_asked = True
        return moment.grace_seconds

    def _look(self, elapsed: float) -> None:
        self._looked = elapsed
        if self.recovery_seconds is None and self._all_versions() - self._versions:
            self.recovery_seconds = elapsed
        if self.spark_seconds is None and _SPARK_IS_UP in self.read_log():
            self.spark_seconds = elapsed
        if elapsed - self._counted > _COUNT_SECONDS:
            self._count(elapsed)
        if elapsed > LIMIT_SECONDS:
            raise HungError(f"a run neither ended nor met its kill within {LIMIT_SECONDS} s")

    def _count(self, elapsed: float) -> None:
        """Processes that live have a higher figure each time; the dead keep their last."""
        self._counted = elapsed
        self._cpu_seconds |= {pid: cpu_seconds(pid) for pid in members(self.process.pid)}

    def _all_versions(self) -> set[str]:
        return {
            name
            for table in self.tables
            for name in matching(AtFile(table / "_delta_log", r"\d{20}\.json"), str(table))
        }


def matching(moment: AtFile, prefix: str = "") -> set[str]:
    """Names in the folder that match, behind the prefix; none if there is no folder yet."""
    with contextlib.suppress(FileNotFoundError), os.scandir(moment.folder) as entries:
        return {prefix + entry.name for entry in entries if _is_match(entry, moment)}
    return set()


def _is_match(entry: os.DirEntry[str], moment: AtFile) -> bool:
    has_name = re.fullmatch(moment.pattern, entry.name) is not None
    return has_name and (not moment.least_bytes or entry.stat().st_size >= moment.least_bytes)


def strike(session: int, victims: Victims) -> int:
    """SIGKILL to the session's Python processes, its JVM, or all; returns how many it hit.

    The JVM first, for Python may outlive the look.
    """
    return sum(
        kill_process(pid)
        for pid, name in sorted(members(session).items(), key=lambda item: item[1] != "java")
        if victims is Victims.BOTH or (name == "java") == (victims is Victims.JVM)
    )
