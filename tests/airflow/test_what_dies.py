"""What dies while a driver hangs in the middle of a batch, and what must hold after it."""

import contextlib
import random
import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.dev.airflow_api import wait_for
from jobs.dev.processes import kill_process, parent_of, start_ticks
from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.failpoints import Point
from jobs.testing.checker import audit
from jobs.testing.ids import IdLedger, read_ids
from jobs.testing.logs import Checkpoint
from jobs.testing.producers import FileProducer
from jobs.testing.reader import Reader

ROWS = 40
DIES_WITH_ITS_TASK_SECONDS = 5
IS_TOLD_SECONDS = 120
"""A supervisor hears at its next heartbeat that its task is not its own any more. A scheduler's death counts after 30 s."""
OUTAGE_SECONDS = 45
"""Longer than a component waits for SQLite's lock."""

POINTS = [Point.BATCH_ENTERED, Point.BATCH_PINNED, Point.TARGET_STAGED, Point.QUARANTINE_AFTER, Point.TARGET_AFTER]
KILLS = [(fault, point) for point in POINTS for fault in ("supervisor", "task", "scheduler", "driver", "cleared")]
SMALL = [("supervisor", Point.TARGET_STAGED), ("driver", Point.QUARANTINE_AFTER)]
FULL = [case for case in KILLS if case not in SMALL] + [("database", Point.TARGET_STAGED)]


@dataclass(frozen=True)
class Driver:
    """The processes of one run, from Spark's up to Airflow's."""

    python: int
    jvm: int
    task: int
    supervisor: int

    @property
    def is_gone(self):
        return start_ticks(self.jvm) is None and start_ticks(self.python) is None


@dataclass
class Faults:
    """The pipeline `ids` under Airflow, with all that its source was ever given."""

    airflow: object
    api: object
    bundle: object
    tally: object
    producer: FileProducer
    reader: Reader

    def hang_at(self, point, dag="ids"):
        """Land a file, start a run, wait until its driver hangs in the file's batch; returns run and driver."""
        self.bundle.fail_at(f"{point}:1:hang")
        self.producer.send(ROWS)
        run = self.api.trigger(dag)
        pattern = re.compile(r"python (\d+), jvm (\d+)")
        found = wait_for(f"{point} in {dag}", lambda: pattern.search(self.api.log(dag, run, "run")), 240)
        python, jvm = map(int, found.groups())
        return run, Driver(python, jvm, parent_of(jvm), parent_of(parent_of(jvm)))

    def drain(self):
        """Start runs until the source is empty: a run that finds another one at work leaves it to that one."""
        checkpoint = self.bundle.bed.tables.checkpoint
        while Checkpoint(checkpoint).count_finished() < self.producer.placed:
            run = self.api.trigger("ids")
            self.api.await_run("ids", run, "success", "failed")

    def audit(self):
        """No id lost or doubled, no Spark left; the reader of the table has seen nothing wrong either."""
        conservation, violations = audit(self.bundle.bed.tables, read_ids(self.bundle.folder / "ids.tsv"))
        orphans = drivers_of(self.bundle)
        self.tally.counts["faults"] += 1
        self.tally.counts["acked"] = conservation.acked
        self.tally.counts["orphans"] += len(orphans)
        for kind in ("lost", "doubled", "misplaced"):
            self.tally.counts[kind] += len(getattr(conservation, kind))
        self.tally.counts["other violations"] += sum(one.invariant != "I1" for one in violations)
        assert (violations, self.reader.violations, orphans) == ([], [], [])
        assert conservation.acked == self.producer.sent


def drivers_of(bundle):
    """Ids of the processes, Python's and the JVM's, that run a pipeline of this bundle, whoever their parent is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes()
            if b"run_pipeline.py" in words and str(bundle.folder).encode() in words:
                found.append(int(process.name))
    return found


@pytest.fixture(scope="module")
def faults(airflow, api, bundle, tally):
    producer = FileProducer(bundle.bed.landing, IdLedger(bundle.folder / "ids.tsv"), random.Random(20261125))
    api.unpause("ids")
    with Reader(bundle.bed.tables.target) as reader:
        yield Faults(airflow, api, bundle, tally, producer, reader)


def kill_scheduler(faults, _):
    old = faults.airflow.processes["scheduler"].pid
    kill_process(old)
    faults.airflow.start("scheduler")


def clear_task(faults, run):
    body = {"dry_run": False, "dag_run_id": run, "task_ids": ["run"], "only_failed": False}
    faults.api.post("/dags/ids/clearTaskInstances", **body)


def lose_database(faults, driver):
    """Nobody can be told how the task ends, and no component can go on; what ends of itself is started again."""
    database = sqlite3.connect(faults.airflow.place.home / "airflow.db", isolation_level=None)
    with contextlib.closing(database):
        wait_for("the lock", lambda: lock(database))
        kill_process(driver.jvm)
        threading.Event().wait(OUTAGE_SECONDS)
    if dead := [name for name, process in faults.airflow.processes.items() if process.poll() is not None]:
        faults.airflow.start(*dead)


def lock(database):
    with contextlib.suppress(sqlite3.OperationalError):
        database.execute("BEGIN EXCLUSIVE")
    return database.in_transaction


@pytest.mark.parametrize(("fault", "point"), [*SMALL, *(pytest.param(*case, marks=pytest.mark.slow) for case in FULL)])
def test_rows_are_written_once_and_no_driver_stays_whatever_dies(faults, fault, point):
    run, driver = faults.hang_at(point)
    seconds = IS_TOLD_SECONDS
    match fault:
        case "supervisor":
            kill_process(driver.supervisor)
            seconds = DIES_WITH_ITS_TASK_SECONDS
        case "task":
            kill_process(driver.task)
            seconds = DIES_WITH_ITS_TASK_SECONDS
        case "driver":
            kill_process(driver.jvm)
        case "scheduler":
            kill_scheduler(faults, run)
        case "cleared":
            clear_task(faults, run)
        case "database":
            lose_database(faults, driver)
    wait_for(f"the end of the driver whose {fault} died", lambda: driver.is_gone, seconds)
    faults.api.await_run("ids", run, "success")
    faults.drain()
    faults.audit()


def test_a_plain_spark_submit_outlives_its_supervisor(faults):
    """The baseline: the same driver, submitted by the provider's own operator."""
    faults.bundle.land("spare", 1)
    faults.api.unpause("plain_submit")
    _, driver = faults.hang_at(Point.BATCH_ENTERED, "plain_submit")
    kill_process(driver.supervisor)
    try:
        with pytest.raises(UnavailableError):
            wait_for("the end of the driver", lambda: driver.is_gone, DIES_WITH_ITS_TASK_SECONDS)
    finally:
        kill_process(driver.jvm)
        kill_process(driver.python)


@pytest.mark.slow
def test_two_triggers_at_once_are_one_writer_at_a_time(faults):
    faults.producer.send(ROWS)
    with ThreadPoolExecutor(2) as threads:
        runs = list(threads.map(lambda _: faults.api.trigger("ids"), range(2)))
    for run in runs:
        faults.api.await_run("ids", run, "success")
    faults.audit()
