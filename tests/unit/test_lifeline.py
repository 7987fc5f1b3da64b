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


@pytest.fixture
def task():
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        yield process
        process.kill()


def submit(task, *, with_parent):
    """A driver below a JVM, in a session of their own; returns once it watches."""
    environment = {VARIABLE: str(task.pid), "PYTHONPATH": ":".join(sys.path)}
    if with_parent:
        environment["PYSPARK_GATEWAY_PORT"] = "1"
    command = ["sh", "-c", f"{sys.executable} -c '{DRIVER}'; sleep 600"]
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
    environment = {VARIABLE: str(task.pid), "PYTHONPATH": ":".join(sys.path)}
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
