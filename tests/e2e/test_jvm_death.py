"""The JVM of a run is killed, and Python is left: the run says so, and the next one does the rest."""

import os
import subprocess

import pytest
from deltalake import DeltaTable

from jobs.pipeline.failpoints import MARK, Point

HEADER = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
HEADER += "origin,dest,air_time,distance,hour,minute,time_hour\n"
ROW = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z\n"


@pytest.mark.parametrize("point", [Point.TARGET_CREATED, Point.TARGET_STAGED])
def test_dead_jvm_is_named_as_such_at_the_start_and_in_a_batch(bundle, point):
    landing = bundle.folder / "data" / "landing" / "flights"
    landing.mkdir(parents=True)
    (landing / "a.csv").write_text(HEADER + ROW)
    killed = subprocess.run(
        bundle.command("run", "flights"),
        env={**os.environ, "ESCLUSA_FAILPOINT": f"{point}:1:kill9-jvm"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{MARK}{point}" in killed.stderr
    assert (killed.returncode, killed.stderr.count("SPARK_DIED: Spark's JVM has died under this run")) == (1, 1)
    assert "in run_guarded" not in killed.stderr  # the command's own traceback; py4j logs one, too
    bundle.esclusa("run", "flights")
    assert DeltaTable(bundle.table("flights")).to_pyarrow_table().num_rows == 1
