"""Maintenance that is killed with -9 in each of its steps, and that the next one finishes."""

import os
import signal
import subprocess
import time

import pytest
from deltalake import DeltaTable

from jobs.pipeline.failpoints import MARK, VARIABLE

HEADER = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
HEADER += "origin,dest,air_time,distance,hour,minute,time_hour\n"
ROW = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z\n"
FILES, LEFTOVERS = 4, 3000


@pytest.fixture
def flights(bundle):
    """Four batches of one row each, and leftovers of crashed writers, eight days old, beside the table's files."""
    pipeline = bundle.folder / "conf/pipelines/flights.yml"
    text = pipeline.read_text().replace("maxFilesPerTrigger: 61", "maxFilesPerTrigger: 1")
    pipeline.write_text(f"{text}maintenance: {{}}\n")
    landing = bundle.folder / "data/landing/flights"
    landing.mkdir(parents=True)
    for number in range(FILES):
        (landing / f"{number}.csv").write_text(HEADER + ROW.replace(",1545,", f",{number},"))
    bundle.esclusa("run", "flights")
    for number in range(LEFTOVERS):
        leftover = bundle.folder / f"data/lake/flights/leftover-{number}.parquet"
        leftover.touch()
        os.utime(leftover, (time.time() - 8 * 86_400,) * 2)
    return bundle


def maintain(bundle, failpoint=None):
    """Maintenance as a process group of its own, so that whatever it leaves can be ended."""
    return subprocess.Popen(
        bundle.command("maintain", "flights"),
        cwd=bundle.folder,
        env=os.environ | ({VARIABLE: failpoint} if failpoint else {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def leftovers(bundle):
    return len(list((bundle.folder / "data/lake/flights").glob("leftover-*.parquet")))


def assert_sound(bundle):
    """Each file that the newest version refers to is there, and each row is there once."""
    table = DeltaTable(bundle.table("flights"))
    assert sorted(row["flight"] for row in table.to_pyarrow_table(columns=["flight"]).to_pylist()) == list(range(FILES))


@pytest.mark.slow
@pytest.mark.fault("K16")
def test_killed_in_optimize_in_vacuum_and_behind_each_it_breaks_nothing_and_the_next_one_finishes(flights):
    for failpoint in ("maintenance.commits:1:kill9-both", "maintenance.step:1:kill9-both"):
        killed = maintain(flights, failpoint)
        _, told = killed.communicate(timeout=180)
        assert MARK in told
        assert killed.returncode == -signal.SIGKILL
        assert_sound(flights)
        assert leftovers(flights) == LEFTOVERS
    _kill_in_vacuum(flights)
    assert_sound(flights)
    assert "maintained" in flights.esclusa("maintain", "flights")
    assert leftovers(flights) == 0
    assert_sound(flights)
    assert [event["event"] for event in flights.events("run", "flights")] == ["start", "end"]


def _kill_in_vacuum(bundle):
    process = maintain(bundle)
    deadline = time.monotonic() + 180
    while leftovers(bundle) == LEFTOVERS:
        assert time.monotonic() < deadline
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert 0 < leftovers(bundle) < LEFTOVERS, "the kill did not fall into VACUUM"
