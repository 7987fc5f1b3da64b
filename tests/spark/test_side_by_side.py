"""Several pipelines in one Spark application: each has its own end, its own session, and its turn."""

import json
import os
import signal
import threading

import pytest

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipelines
from jobs.pipeline.runner import PipelineRun
from jobs.pipeline.side_by_side import run_side_by_side, write_result

pytestmark = pytest.mark.usefixtures("handlers")

PIPELINE = """\
source: {type: files, format: csv, path: FOLDER/landing/NAME, schema: p}
sink: {type: delta, path: FOLDER/lake/NAME}
"""
PROBE = """\
from pyspark.sql import functions as F

def tell(df):
    return df.withColumn("seen", F.lit(df.sparkSession.conf.get("esclusa.probe", "nothing")))

def set_then_tell(df):
    df.sparkSession.conf.set("esclusa.probe", "another's")
    return tell(df)
"""


class Recorder:
    """Progress that counts how many pipelines run at a time."""

    def __init__(self, on_batch=lambda: None):
        self.begun, self.at_a_time, self._running = [], 0, set()
        self._lock, self._on_batch = threading.Lock(), on_batch

    def begin(self, pipeline):
        with self._lock:
            self.begun.append(pipeline.name)
            self._running.add(pipeline.name)
            self.at_a_time = max(self.at_a_time, len(self._running))

    def end(self, pipeline):
        with self._lock:
            self._running.discard(pipeline.name)

    def failed(self, pipeline, _):
        self.end(pipeline)

    def batch(self, _):
        self._on_batch()

    def skipped(self, *_):
        """Not looked at."""

    def note(self, _):
        """Not looked at."""


@pytest.fixture
def pipelines(bench):
    """Function: pipelines of the names, each with one row in its landing folder; `more` adds keys by name."""

    def make(*names, **more):
        bench.write("conf/targets/local.yml", f"state: {bench.folder}/state\n")
        bench.write("conf/schemas/p.ddl", "id INT, name STRING")
        for name in names:
            text = PIPELINE.replace("FOLDER", str(bench.folder)).replace("NAME", name)
            bench.write(f"conf/pipelines/{name}.yml", text + more.get(name, ""))
            bench.write(f"landing/{name}/1.csv", "1,a\n")
        return load_pipelines(Bundle(bench.folder / "conf"), list(names))

    return make


def rows(bench, name):
    return bench.spark.read.format("delta").load(str(bench.folder / "lake" / name)).collect()


def test_each_has_its_own_end_and_at_most_as_many_run_as_there_are_cores(bench, pipelines, expect):
    small = expect("column_values_to_be_between", "id", max_value=0, name="small", on_failure="expect_or_fail")
    bench.write("conf/suites/b_held.json", json.dumps({"name": "b_held", "expectations": [small]}))
    found = pipelines("a", "b_held", "c_gone", "d", "e", "f")
    bench.write("lake/c_gone/_delta_log/00000000000000000000.json", "broken")
    seen, results = Recorder(), bench.folder / "results"
    codes = run_side_by_side(bench.spark, found, seen, lambda ended: write_result(results, ended))
    told = {file.stem: json.loads(file.read_text()) for file in results.glob("*.json")}
    assert codes == [told[pipeline.name]["exit_code"] for pipeline in found]
    assert (codes[0], codes[1], codes[3:]) == (0, 3, [0, 0, 0])
    assert codes[2] not in {0, 3}
    assert (told["b_held"]["code"], told["b_held"]["rows_written"]) == ("BATCH_HELD", 0)
    assert (told["a"]["batches"], told["a"]["rows_read"], told["a"]["rows_written"]) == (1, 1, 1)
    assert [len(rows(bench, name)) for name in "adef"] == [1, 1, 1, 1]
    assert seen.at_a_time == 2


@pytest.mark.fault("T17")
def test_options_that_one_sets_another_does_not_see(bench, pipelines):
    bench.write("jobs/transforms/probe.py", PROBE)
    for name, function in (("a", "set_then_tell"), ("b", "tell"), ("c", "tell")):
        [pipeline] = pipelines(name, **{name: f"transforms: [{{python: probe.{function}}}]\n"})
        if name == "c":  # the baseline: in the session of a run that has set the option it is seen
            bench.spark.conf.set("esclusa.probe", "another's")
            run = PipelineRun(bench.spark, pipeline, lambda _: None)
            run.start()
            run.wait()
            bench.spark.conf.unset("esclusa.probe")
        else:
            assert run_side_by_side(bench.spark, [pipeline], Recorder(), lambda _: None) == [0]
    assert [rows(bench, name)[0].seen for name in "abc"] == ["another's", "nothing", "another's"]


def test_a_stop_ends_what_runs_after_its_batch_and_starts_no_more(bench, pipelines):
    endless = "trigger: {processing_time: 1 second}\n"
    found = pipelines("a", "b", "c", "d", a=endless)
    told = []
    seen = Recorder(on_batch=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run_side_by_side(bench.spark, found, seen, told.append) == [0, 0, 0, 0]
    assert sorted(ended.pipeline for ended in told) == ["a", "b", "c", "d"]
    assert "d" not in seen.begun
    assert sum(ended.batches for ended in told) >= 1
