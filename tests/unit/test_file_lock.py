import fcntl
import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from jobs.pipeline import file_lock
from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.file_lock import hold_new_table, hold_table_for_python


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr(file_lock, "TABLE_WAIT_SECONDS", 0.05)


@pytest.fixture
def table(tmp_path):
    (tmp_path / "table" / "_delta_log").mkdir(parents=True)
    return tmp_path / "table"


@contextmanager
def another_process_holding(kind, file):
    mode = "os.O_RDONLY" if file.is_dir() else "os.O_RDWR | os.O_CREAT"
    script = f"import fcntl, os, sys; fcntl.{kind}(os.open(sys.argv[1], {mode}), fcntl.LOCK_EX); print(); input()"
    command = [sys.executable, "-c", script, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield
        process.communicate(b"\n")


def refused(holding):
    try:
        with holding:
            return False
    except UnavailableError:
        return True


def test_table_that_another_process_commits_to_is_waited_for_and_then_refused(table):
    with another_process_holding("lockf", table / "_delta_log" / ".esclusa.lock"):
        assert refused(hold_table_for_python(str(table)))
    assert not refused(hold_table_for_python(str(table)))


def test_table_is_the_same_by_any_path(table, tmp_path):
    (tmp_path / "link").symlink_to(table)
    with hold_table_for_python(str(table)):
        results = []
        thread = threading.Thread(target=lambda: results.append(refused(hold_table_for_python(str(tmp_path / "link")))))
        thread.start()
        thread.join()
    assert results == [True]


def test_lock_is_released_by_an_error(table):
    with pytest.raises(ZeroDivisionError), hold_table_for_python(str(table)):
        raise ZeroDivisionError
    assert not refused(hold_table_for_python(str(table)))


def test_lock_of_a_process_that_is_killed_is_free(table):
    lock = table / "_delta_log" / ".esclusa.lock"
    script = (
        "import fcntl, os, signal, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(lock)], check=False).returncode == -9
    assert not refused(hold_table_for_python(str(table)))


def test_new_table_is_looked_for_by_one_process_and_its_directory_stays_empty(tmp_path):
    folder = tmp_path / "lake" / "table"
    with hold_new_table(f"file://{folder}"):
        assert os.listdir(folder) == []  # noqa: PTH208 - as Delta looks
        descriptor = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    with another_process_holding("flock", folder):
        assert refused(hold_new_table(str(folder)))


def test_other_stores_need_no_lock():
    with hold_new_table("s3a://bucket/table"):
        pass
