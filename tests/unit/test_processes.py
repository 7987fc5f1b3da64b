import os
import signal
import subprocess
import sys

import pytest

from jobs.dev.processes import (
    end_process,
    end_sessions,
    kill_process,
    members,
    parent_of,
    signal_process,
    start_ticks,
)

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
FAMILY = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STUBBORN!r}])"


@pytest.fixture
def start():
    started = []

    def start_script(script):
        command = [sys.executable, "-c", script]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        started.append(process)
        assert process.stdout.readline() == b"up\n"
        return process

    yield start_script
    for process in started:
        for pid in members(process.pid):
            kill_process(pid)
        process.wait()


def test_a_session_holds_the_children_that_their_parent_left(start):
    parent = start(FAMILY)
    [child] = members(parent.pid).keys() - {parent.pid}
    assert parent_of(child) == parent.pid
    kill_process(parent.pid)
    parent.wait()
    assert members(parent.pid).keys() == {child}
    assert parent_of(child) != parent.pid
    end_sessions([parent.pid], grace_seconds=0)
    assert members(parent.pid) == {}
    assert start_ticks(child) is None


def test_what_outlives_its_grace_is_killed(start):
    process = start(STUBBORN)
    signal_process(process.pid, signal.SIGTERM)
    end_sessions([process.pid], grace_seconds=0.2)
    assert process.wait() == -signal.SIGKILL


def test_what_ends_in_time_is_not_killed(start):
    process = start("import time; print('up', flush=True); time.sleep(600)")
    signal_process(process.pid, signal.SIGTERM)
    end_process(process.pid, grace_seconds=20)
    assert process.wait() == -signal.SIGTERM


def test_a_zombie_is_dead_and_an_id_that_was_never_given_too(start):
    process = start("print('up', flush=True)")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(process.pid) is None
    assert members(process.pid) == {}
    assert start_ticks(2**22 + 1) is None
    kill_process(2**22 + 1)
