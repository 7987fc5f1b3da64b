import os
import signal
import subprocess
import sys
import time

import pytest

from jobs.orchestration.detached import STARTS_KEPT, Driver, find_driver, start_driver

RUN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def pid_of(driver):
    return int((driver.folder / "process").read_text().split()[1])


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def home(tmp_path):
    """Where drivers are started; what still runs at the end is killed."""
    yield tmp_path / "drivers"
    for folder in (tmp_path / "drivers").glob("*"):
        if Driver(folder).is_running:
            os.killpg(pid_of(Driver(folder)), signal.SIGKILL)


@pytest.fixture
def command(tmp_path):
    """As spark-submit has it: a JVM, here a shell, around the Python that runs the pipeline."""
    script = tmp_path / "run_pipeline.py"
    script.write_text(RUN)
    return ["/bin/sh", "-c", f'"{sys.executable}" "{script}"; exit $?']


def test_a_driver_says_what_it_printed_and_ended_with(home):
    driver = start_driver(home, ["/bin/sh", "-c", 'echo "$WORD $1"; exit 3', "x", "$(a b); 'c'"], {"WORD": "said"})
    wait_for(lambda: driver.exit_code is not None)
    wait_for(lambda: not driver.is_running)
    assert (driver.exit_code, driver.tail()) == (3, "said $(a b); 'c'\n")
    assert find_driver(home) is None


def test_a_driver_that_is_asked_to_stop_ends_by_itself_and_its_exit_code_is_known(home, command):
    driver = start_driver(home, command, {})
    wait_for(lambda: "ready" in driver.tail())
    assert (find_driver(home), driver.exit_code) == (driver, None)
    driver.request_stop()
    wait_for(lambda: not driver.is_running)
    assert driver.exit_code == 7


def test_a_driver_that_is_asked_to_stop_as_soon_as_it_is_started_ends_as_well(home, command):
    for _ in range(8):
        driver = start_driver(home, command, {})
        driver.request_stop()
        wait_for(lambda: not driver.is_running)  # noqa: B023 - it is waited for here
        assert driver.exit_code in {0, 7, 128 + signal.SIGTERM}


def test_a_driver_outlives_whoever_started_it(home, command):
    script = f"""
import sys, os, signal
from pathlib import Path
from jobs.orchestration.detached import start_driver
start_driver(Path({str(home)!r}), {command!r}, {{}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    found = find_driver(home)
    assert found is not None
    wait_for(lambda: "ready" in found.tail())
    found.request_stop()
    wait_for(lambda: not found.is_running)
    assert found.exit_code == 7


def test_a_driver_killed_with_its_shell_has_no_exit_code(home, command):
    driver = start_driver(home, command, {})
    os.killpg(pid_of(driver), signal.SIGKILL)
    wait_for(lambda: not driver.is_running)
    assert (driver.exit_code, find_driver(home)) == (None, None)


def test_a_process_that_got_the_pid_is_another(home):
    driver = start_driver(home, ["true"], {})
    host, _, _ = (driver.folder / "process").read_text().split()
    (driver.folder / "process").write_text(f"{host} {os.getpid()} 1")
    assert not driver.is_running
    driver.request_stop()


def test_a_driver_of_another_machine_is_not_taken_for_one_of_this(home):
    driver = start_driver(home, ["sleep", "60"], {})
    assert driver.is_running
    pid = pid_of(driver)
    text = (driver.folder / "process").read_text()
    (driver.folder / "process").write_text(text.replace(text.split()[0], "elsewhere", 1))
    assert (driver.host, driver.is_running, find_driver(home)) == ("elsewhere", False, None)
    driver.request_stop()
    assert is_alive(pid)
    os.killpg(pid, signal.SIGKILL)


def test_only_the_newest_starts_are_kept(home):
    drivers = [start_driver(home, ["true"], {}) for _ in range(STARTS_KEPT + 2)]
    assert sorted(home.iterdir()) == [driver.folder for driver in drivers[2:]]
