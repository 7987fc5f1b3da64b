"""What DAGs the files of a bundle make, and what parsing them costs."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import get_parsing_context

from jobs.orchestration.dag_factory import build_dags, bundle_of
from jobs.pipeline.conf_loader import ConfLoader
from jobs.pipeline.cron import PRESETS

ROOT = Path(__file__).parents[2]
HEAVY = {"pyspark", "py4j", "pyarrow", "pandas", "numpy", "deltalake", "delta", "great_expectations"}


def upstream_assets(dag):
    return [asset.name for asset in dag.timetable.asset_condition.objects]


def pipelines_of(bag):
    """DAGs that run one pipeline; `esclusa-replay` and its like have a hyphen."""
    return sorted(name for name in bag.dags if "-" not in name)


def test_the_shipped_dags_load_without_import_errors():
    dags = list(build_dags(bundle_of(str(ROOT / "dags" / "esclusa_pipelines.py"))))
    assert [dag.dag_id for dag in dags] == ["flights", "flights_kafka"]


def test_each_pipeline_is_a_dag_that_runs_then_publishes(tried):
    bag = tried.load()
    assert bag.import_errors == {}
    assert pipelines_of(bag) == ["a", "b", "c"]
    for dag in (bag.dags[name] for name in "abc"):
        assert (dag.max_active_runs, dag.catchup) == (1, False)
        assert [task.task_id for task in dag.topological_sort()] == ["run", "publish"]
        assert [asset.name for asset in dag.get_task("publish").outlets] == [dag.dag_id]
        assert dag.get_task("run").outlets == []
        assert dag.get_task("run").retry_exponential_backoff
        assert dag.get_task("run").retry_delay >= timedelta(minutes=1)


def test_where_a_batch_can_be_held_somebody_is_asked(tried):
    tried.pipeline("a", can_be_held=True)
    dag = tried.load().dags["a"]
    assert {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} == {
        "run": ["held.decide", "publish"],
        "publish": [],
        "held.decide": ["held.release"],
        "held.release": ["held.run"],
        "held.run": ["held.ask_again", "held.publish"],
        "held.publish": [],
        "held.ask_again": [],
    }


def test_a_pipeline_can_have_its_own_timeout_or_plain_failure(tried):
    tried.pipeline("a", can_be_held=True)
    tried.pipeline("b", "decision_timeout: 2 hours\n", can_be_held=True)
    tried.pipeline("c", "when_held: fail\n", can_be_held=True)
    dags = tried.load().dags
    timeouts = [dags[name].get_task("held.decide").response_timeout for name in "ab"]
    assert timeouts == [timedelta(days=1), timedelta(hours=2)]
    assert sorted(dags["c"].task_ids) == ["publish", "run"]


def test_a_dag_starts_when_its_pipeline_says(tried):
    dags = tried.load().dags
    assert dags["a"].timetable.expression == "0 0 * * *"
    assert upstream_assets(dags["b"]) == ["a"]
    assert type(dags["c"].timetable).__name__ == "NullTimetable"
    assert dags["a"].description == "First"


@pytest.mark.parametrize(
    "cron", [*sorted(PRESETS), "*/15 6-22 * * mon-fri", "5,35 0 1 JAN,jul *", "3/10 * * * 7", "0 0 31 2 0"]
)
def test_every_schedule_that_conf_takes_airflow_takes(tried, cron):
    tried.pipeline("a", f'schedule: "{cron}"\n')
    dag = tried.load().dags["a"]
    dag.timetable.validate()


def test_a_broken_pipeline_is_an_import_error_with_file_and_line_and_takes_no_other_down(tried):
    tried.pipeline("c", "schedule: '@hourl'\n")
    bag = tried.load()
    assert pipelines_of(bag) == ["a", "b"]
    assert bag.import_errors.keys() == {"check_conf.py"}
    assert (
        "conf/pipelines/c.yml:3: schedule: '@hourl' is no preset; did you mean '@hourly'"
        in bag.import_errors["check_conf.py"]
    )


def test_a_pipeline_that_cannot_be_loaded_for_a_reason_nobody_foresaw_takes_no_other_down_and_is_seen(
    tried, monkeypatch
):
    tried.pipeline("d", 'fleet: small\nschedule: "@hourly"\nmaintenance: {}\n')
    tried.pipeline("e", 'fleet: small\nschedule: "@hourly"\nmaintenance: {}\n')
    load = ConfLoader.load

    def fail(loader):
        if loader.name in {"c", "e"}:
            raise ZeroDivisionError("unforeseen")
        return load(loader)

    monkeypatch.setattr(ConfLoader, "load", fail)
    bag = tried.load()
    assert pipelines_of(bag) == ["a", "b"]
    assert list(bag.dags["fleet-small"].get_task("run-fleet").downstream_task_ids) == ["d"]
    assert list(bag.dags["esclusa-maintenance"].task_ids) == ["d"]
    assert bag.import_errors.keys() == {"check_conf.py"}
    assert "unforeseen" in bag.import_errors["check_conf.py"]


def test_a_worker_parses_only_the_dag_that_it_runs(tried, monkeypatch):
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "b")
    assert get_parsing_context().dag_id == "b"
    assert pipelines_of(tried.load()) == ["b"]


def test_a_pipeline_that_runs_until_stopped_is_one_lasting_run_and_a_dag_that_publishes_its_events(tried):
    tried.pipeline("c", "trigger: {processing_time: 10 seconds}\n", can_be_held=True)
    bag = tried.load()
    assert (bag.import_errors, pipelines_of(bag)) == ({}, ["a", "b", "c", "c.events"])
    dag, events = bag.dags["c"], bag.dags["c.events"]
    assert type(dag.timetable).__name__ == "ContinuousTimetable"
    assert (dag.max_active_runs, dag.max_consecutive_failed_dag_runs) == (1, 1)
    assert [task.task_id for task in dag.topological_sort()] == ["run", "held.decide", "held.release"]
    assert dag.get_task("run").execution_timeout is None
    assert (events.timetable.expression, list(events.task_ids)) == ("*/5 * * * *", ["publish"])
    assert [asset.name for asset in events.get_task("publish").outlets] == ["c"]


def test_a_worker_finds_the_dag_of_events(tried, monkeypatch):
    tried.pipeline("c", "trigger: {processing_time: 10 seconds}\nwhen_held: fail\n")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "c.events")
    bag = tried.load()
    assert pipelines_of(bag) == ["c", "c.events"]
    assert list(bag.dags["c"].task_ids) == ["run"]


def test_the_target_is_that_of_airflows_environment(tried, monkeypatch):
    monkeypatch.setenv("ESCLUSA_TARGET", "nowhere")
    bag = tried.load()
    assert bag.dags == {}
    assert "no target 'nowhere'" in bag.import_errors["check_conf.py"]


def test_parsing_loads_nothing_heavy_and_is_linear(tried):
    for number in range(200):
        tried.pipeline(f"p{number}", f"schedule: {{after: [p{number - 1}]}}\n" if number else "")
    script = f"""
import runpy, sys, time
import jobs.orchestration.dag_factory
started = time.monotonic()
found = runpy.run_path({str(tried.folder / "dags" / "esclusa_pipelines.py")!r})
seconds = time.monotonic() - started
print(sum(type(value).__name__ == "DAG" for value in found.values()), seconds)
print("loaded:", *sorted({{name.partition(".")[0] for name in sys.modules}} & {HEAVY!r}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    [counted, loaded] = done.stdout.splitlines()[-2:]
    dags, seconds = counted.split()
    assert loaded == "loaded:"
    assert int(dags) == 203
    assert float(seconds) < 30, "Airflow gives a file 30 seconds"
