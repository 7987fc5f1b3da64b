"""Two drivers, one pipeline: paused, overlapping, half killed. Each test first sees its fault happen."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from deltalake import DeltaTable

from jobs.pipeline.ledger import read_ledger

HEADER = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
HEADER += "origin,dest,air_time,distance,hour,minute,time_hour\n"
ROW = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z\n"
PATIENCE_SECONDS = 60

SETUP = """
import contextlib, os, pathlib, signal, sys, threading, time
from jobs.pipeline import lease, staged_append
from jobs.pipeline.batch import SparkBatch
"""
PAUSE = """
def pause_before(step):
    original = getattr(SparkBatch, step)
    def paused(self, *arguments):
        os.killpg(0, signal.SIGSTOP)
        while not pathlib.Path("go_on_" + step).exists():  # the signal does not stop all threads at once
            time.sleep(0.01)
        original(self, *arguments)
    setattr(SparkBatch, step, paused)
"""
PAUSE_AT_TARGET = PAUSE + 'pause_before("commit_target")'
PAUSE_AT_TARGET_AND_LEDGER = PAUSE_AT_TARGET + '; pause_before("record")'
FREEZE_THE_JVM_IN_ITS_COMMIT_AND_DIE = """
original = staged_append.hold_table_for_spark
def die_when_asked(asking):
    while sys._current_frames()[asking].f_code.co_name != "readinto":  # the JVM has its request, and does not answer
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
@contextlib.contextmanager
def hold_table(spark, path):
    with original(spark, path):
        jvm = spark._jvm.java.lang.ProcessHandle.current().pid()
        pathlib.Path("jvm").write_text(str(jvm))
        os.kill(jvm, signal.SIGSTOP)
        while pathlib.Path(f"/proc/{jvm}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)
        threading.Thread(target=die_when_asked, args=(threading.get_ident(),)).start()
        yield
staged_append.hold_table_for_spark = hold_table
"""
SHORT_LEASE = """
lease.EXPIRY_SECONDS, lease.RENEWAL_SECONDS = 4.0, 0.5
"""
RUN = """
from jobs.cli import main
main()
"""


@pytest.fixture(autouse=True)
def landed(bundle):
    folder = bundle.folder / "data" / "landing" / "flights"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text(HEADER + ROW + ROW.replace("EWR", "XXX"))


@contextmanager
def driver(bundle, *script):
    """`esclusa run flights` with its process group to itself, changed by a script; nothing of it is left behind."""
    code = "".join([SETUP, *script, RUN])
    command = [sys.executable, "-c", code, *bundle.command("run", "flights")[1:]]
    run = subprocess.Popen(command, cwd=bundle.folder, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield run
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        run.stderr.close()


def wait_until(is_true):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_stopped(run):
    wait_until(lambda: state_of(run.pid) == "T" or run.poll() is not None)
    assert run.returncode is None, errors_of(run)


def resume(run, bundle, step):
    (bundle.folder / f"go_on_{step}").touch()
    os.killpg(run.pid, signal.SIGCONT)


def errors_of(run):
    return run.stderr.read()


def state_of(pid):
    """T stopped, R or S running; empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def is_locked(kind, file):
    with file.open("a") as opened:
        try:
            getattr(fcntl, kind)(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def rows(bundle, name):
    return DeltaTable(bundle.table(name)).to_pyarrow_table().num_rows


def assert_each_row_is_there_once(bundle):
    assert (rows(bundle, "flights"), rows(bundle, "flights_quarantine")) == (1, 1)


def lease_folder(bundle):
    return bundle.folder / "data" / "state" / "leases" / "flights"


def ledger(bundle):
    return read_ledger(str(bundle.folder / "data" / "state" / "ledger" / "flights"))


@pytest.mark.fault("E4", "E10", "I11")
def test_paused_driver_keeps_its_lease_and_commits_nothing_once_another_has_it(bundle):
    """Two runs start at once; the one that works is paused, goes on, is paused again, and then finds a third."""
    script = PAUSE_AT_TARGET_AND_LEDGER
    with driver(bundle, script) as one, driver(bundle, script) as other:
        wait_until(lambda: {one.poll(), other.poll()} == {None, 5})
        loser, paused = (one, other) if one.poll() is not None else (other, one)
        assert f"ALREADY_RUNNING: pipeline flights is held by another run (process {paused.pid}" in errors_of(loser)
        wait_until_stopped(paused)
        assert (rows(bundle, "flights"), rows(bundle, "flights_quarantine")) == (0, 1)
        assert is_locked("flock", lease_folder(bundle) / "holder")
        assert is_locked("lockf", lease_folder(bundle) / "jvm")

        resume(paused, bundle, "commit_target")
        wait_until(lambda: rows(bundle, "flights") == 1)
        wait_until_stopped(paused)
        assert ledger(bundle) == []
        shutil.rmtree(lease_folder(bundle))  # an operator who thinks it dead
        bundle.esclusa("run", "flights")
        [row] = ledger(bundle)
        assert state_of(paused.pid) == "T"

        resume(paused, bundle, "record")
        assert paused.wait(PATIENCE_SECONDS) == 5
        assert "LEASE_LOST: lost the lease of pipeline flights" in errors_of(paused)
    assert_each_row_is_there_once(bundle)
    assert ledger(bundle) == [row]


@pytest.mark.fault("K18", "I11")
def test_jvm_that_outlives_its_python_keeps_the_next_run_waiting_and_doubles_nothing(bundle):
    leases = lease_folder(bundle)
    with driver(bundle, FREEZE_THE_JVM_IN_ITS_COMMIT_AND_DIE) as killed:
        assert killed.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        jvm = int((bundle.folder / "jvm").read_text())
        wait_until(lambda: state_of(jvm) == "T")
        assert rows(bundle, "flights") == 0
        assert not is_locked("flock", leases / "holder")
        with driver(bundle) as second:
            wait_until(lambda: is_locked("flock", leases / "holder"))
            assert is_locked("lockf", leases / "jvm")
            assert is_locked("lockf", Path(bundle.table("flights")) / "_delta_log" / ".esclusa.lock")
            assert second.poll() is None
            assert ledger(bundle) == []
            os.kill(jvm, signal.SIGCONT)
            assert second.wait(PATIENCE_SECONDS) == 0, errors_of(second)
        assert state_of(jvm) in {"", "Z"}
    assert_each_row_is_there_once(bundle)
    assert len(ledger(bundle)) == 1


@pytest.mark.slow
@pytest.mark.fault("E4")
def test_paused_driver_loses_a_lease_on_a_store_when_it_expires(bundle):
    target = bundle.folder / "conf" / "targets" / "local.yml"
    (bundle.folder / "store").mkdir()
    text = target.read_text().replace("state: ${data}/state", "state: viewfs://store/state")
    assert "viewfs" in text
    target.write_text(f"{text}  spark.hadoop.fs.viewfs.mounttable.store.link./state: file://{bundle.folder}/store\n")
    with driver(bundle, SHORT_LEASE, PAUSE_AT_TARGET) as paused:
        wait_until_stopped(paused)
        assert (rows(bundle, "flights"), rows(bundle, "flights_quarantine")) == (0, 1)
        with driver(bundle, SHORT_LEASE) as second:
            assert second.wait(PATIENCE_SECONDS) == 0, errors_of(second)
        [file] = (bundle.folder / "store" / "leases" / "flights").glob("lease.*")
        assert json.loads(file.read_text())["is_released"]
        assert file.name == "lease.2"
        assert state_of(paused.pid) == "T"
        assert_each_row_is_there_once(bundle)
        resume(paused, bundle, "commit_target")
        assert paused.wait(PATIENCE_SECONDS) == 5
        assert "LEASE_LOST: lost the lease of pipeline flights" in errors_of(paused)
    assert_each_row_is_there_once(bundle)
    assert DeltaTable(str(bundle.folder / "store" / "ledger" / "flights")).to_pyarrow_table().num_rows == 1
