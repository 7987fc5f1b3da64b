"""A driver does not outlive the Airflow task that submitted it: nobody would see how it ends, and the next try waits.

Airflow ends what it can still reach. A task process that was killed with SIGKILL reaches nothing any more, and its
spark-submit would write on under process 1.
"""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Sequence

VARIABLE = "ESCLUSA_LIVES_WITH"
"""Environment variable: ids of processes of this machine, with commas. When one of them ends, so does the driver."""
_SUBMITTED = "PYSPARK_GATEWAY_PORT"


def follow_environment() -> None:
    """Begin the watch if the environment asks for one, from a thread of its own; who is dead already counts at once."""
    named = os.environ.pop(VARIABLE, "")  # not for what this process starts
    if named:
        pids = [int(pid) for pid in named.split(",")]
        # Opened now: whoever is the parent once the JVM has died is another, such as process 1.
        jvm = _open_parent() if _SUBMITTED in os.environ else None
        threading.Thread(target=_watch, args=(pids, jvm), name="lifeline", daemon=True).start()


def _open_parent() -> int | None:
    """None for a parent that ended just now, or where the kernel gives no such handle: then only Python is ended."""
    try:
        return os.pidfd_open(os.getppid())
    except OSError:
        return None


def _watch(pids: Sequence[int], jvm: int | None) -> None:
    with contextlib.suppress(ProcessLookupError):
        poll = select.poll()
        for pid in pids:
            poll.register(os.pidfd_open(pid), select.POLLIN)
        poll.poll()
    _end(jvm)


def _end(jvm: int | None) -> None:
    """As after a kill of both: the batch in flight is replayed. Under spark-submit the parent is the JVM."""
    with contextlib.suppress(OSError):
        os.write(2, b"the task that submitted this run has ended; so does this run\n")
    try:
        if jvm is not None:
            with contextlib.suppress(ProcessLookupError):  # it has died before
                signal.pidfd_send_signal(jvm, signal.SIGKILL)
    finally:
        os.kill(os.getpid(), signal.SIGKILL)
