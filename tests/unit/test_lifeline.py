"""A driver and what it lives with, as real processes: `sh` stands for the JVM, which is the driver's parent."""

import subprocess
import sys
import time

import pytest

from jobs.dev.processes import kill_process, members
from jobs.pipeline.lifeline import VARIABLE

DRIVER = """
import time
from jobs.pipeline.lifeline import follow_environment
follow_environment()
print("watching", flush=True)
time.sleep(600)
"""
JVM = f"{sys.executable} -c '{DRIVER}'; sleep 600"
# Starts a driver below a JVM, loses the JVM and adopts the driver; says at last how that has ended.
ADOPTER = """
import ctypes, os, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
jvm = subprocess.Popen(["sh", "-c", sys.argv[1]], stdout=subprocess.PIPE)
assert jvm.stdout.readline() == b"watching\\n"
jvm.kill()
jvm.wait()
print("adopted", flush=True)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.fixture
def task():
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        yield process
        process.kill()


def environment_of(task, *, with_parent):
    environment = {VARIABLE: str(task.pid), "PYTHONPATH": ":".join(sys.path)}
    return environment | ({"PYSPARK_GATEWAY_PORT": "1"} if with_parent else {})


def submit(task, *, with_parent):
    """A driver below a JVM, in a session of their own; returns once it watches."""
    command, environment = ["sh", "-c", JVM], environment_of(task, with_parent=with_parent)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"watching\n"
    return process


def test_driver_and_jvm_end_within_seconds_of_the_task(task):
    jvm = submit(task, with_parent=True)
    assert len(members(jvm.pid)) == 2
    task.kill()
    assert jvm.wait(timeout=5) == -9
    assert jvm.stdout.read() == b""
    deadline = time.monotonic() + 5
    while members(jvm.pid) and time.monotonic() < deadline:
        pass  # a process closes its files some moments before it is gone
    assert members(jvm.pid) == {}


def test_whoever_has_adopted_the_driver_of_a_dead_jvm_lives_on(task):
    command, environment = [sys.executable, "-c", ADOPTER, JVM], environment_of(task, with_parent=True)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as adopter:
        assert adopter.stdout.readline() == b"adopted\n"
        task.kill()
        assert adopter.stdout.read() == b"-9\n"
    assert adopter.returncode == 0


def test_without_spark_submit_the_parent_is_no_jvm_and_lives_on(task):
    parent = submit(task, with_parent=False)
    task.kill()
    parent.stdout.read(0)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            parent.wait(timeout=1)
        assert list(members(parent.pid).values()).count("sleep") == 1, "the driver is gone, its parent goes on"
    finally:
        for pid in members(parent.pid):
            kill_process(pid)
        parent.wait()


def test_a_task_that_is_dead_already_counts_at_once(task):
    task.kill()
    task.wait()
    environment = environment_of(task, with_parent=False)
    done = subprocess.run([sys.executable, "-c", DRIVER], env=environment, capture_output=True, timeout=20, check=False)
    assert done.returncode == -9
    assert b"the task that submitted this run has ended" in done.stderr


def test_without_the_variable_nothing_is_watched():
    script = DRIVER.replace("time.sleep(600)", "import threading; print(threading.active_count())")
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["watching", "1"]
