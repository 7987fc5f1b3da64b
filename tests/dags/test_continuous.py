"""Pipelines that run until stopped, by `dag.test()`: what the end of a driver does, and who takes over one that runs."""

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.apache.spark.hooks import spark_submit
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from jobs.orchestration.detached import Driver, find_driver

TRIGGER = "trigger: {processing_time: 10 seconds}\n"
SUBMIT_THAT_STAYS = """\
#!/bin/sh
echo started >> "$(dirname "$0")/../starts"
exec sleep 300
"""


@pytest.fixture
def continuous(tried):
    """A DAG of a continuous pipeline; its submits end with the codes."""

    def make(name, *codes, more=""):
        tried.pipeline(name, TRIGGER + more, can_be_held=True)
        tried.ends_with(*codes)
        return tried.load().dags[name]

    return make


@pytest.fixture
def staying(tried, continuous):
    """The task of a pipeline whose driver stays; what is left of it is killed at the end."""
    task = continuous("staying").get_task("run")
    tried.write(".venv/bin/spark-submit", SUBMIT_THAT_STAYS)
    yield task
    while driver := find_driver(task.home):
        os.killpg(int((driver.folder / "process").read_text().split()[1]), signal.SIGKILL)
        while driver.is_running:
            time.sleep(0.01)


def wait_for_starts(tried, count):
    """Wait until so many drivers have begun, and no more."""
    file = tried.folder / ".venv/starts"
    while not file.exists() or file.read_text().count("started") < count:
        time.sleep(0.01)
    assert file.read_text().count("started") == count


def defer(task):
    """The driver that a try of the task waits for."""
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({})
    return Driver(Path(deferred.value.trigger.serialize()[1]["folder"]))


def test_a_driver_that_was_stopped_ends_the_run_well_and_nobody_is_asked(tried, continuous, run):
    dag = continuous("stopped", 0)
    assert run(dag) == {"dag": "success", "run": "success"}
    assert "esclusa says 0" in Driver(next(dag.get_task("run").home.iterdir())).tail()
    assert tried.argv[-5:] == ["stopped", "--conf", str(tried.folder / "conf"), "--target", "local"]


@pytest.mark.parametrize("code", [2, 6])
def test_what_repeating_cannot_help_fails_at_once(tried, continuous, run, code):
    assert run(continuous(f"lasting{code}", code, 0)) == {"dag": "failed", "run": "failed"}
    assert (tried.folder / ".venv/codes").read_text() == "0\n", "tried again"


@pytest.mark.parametrize("code", [4, 1, 137])
def test_what_repeating_can_help_is_tried_again(continuous, run, code):
    assert run(continuous(f"lasting_again{code}", code, 0)) == {"dag": "success", "run": "success"}


def test_another_run_that_holds_the_pipeline_is_waited_for(tried, continuous, run):
    assert run(continuous("lasting_busy", 5, 5, 0)) == {"dag": "success", "run": "success"}
    assert (tried.folder / ".venv/codes").read_text() == ""


def test_a_held_batch_fails_the_run_where_plain_failure_is_wanted(continuous, run):
    assert run(continuous("lasting_fails", 3, more="when_held: fail\n")) == {"dag": "failed", "run": "failed"}


def test_the_next_try_takes_over_the_driver_that_runs(tried, staying):
    driver = defer(staying)
    assert driver.is_running
    wait_for_starts(tried, 1)
    assert defer(staying) == driver
    wait_for_starts(tried, 1)


def test_after_a_driver_was_killed_the_next_try_starts_another(tried, staying):
    first = defer(staying)
    wait_for_starts(tried, 1)
    os.killpg(int((first.folder / "process").read_text().split()[1]), signal.SIGKILL)
    while first.is_running:
        time.sleep(0.01)
    second = defer(staying)
    assert second.folder > first.folder
    assert second.is_running
    wait_for_starts(tried, 2)


def test_a_task_that_is_killed_asks_its_driver_to_stop(tried, staying):
    driver = defer(staying)
    wait_for_starts(tried, 1)
    staying.on_kill()
    while driver.is_running:
        time.sleep(0.01)
    assert driver.exit_code == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        (
            {
                "host": "yarn",
                "extra": {"deploy-mode": "cluster", "yarn_resourcemanager_webapp_address": "http://rm:8088"},
            },
            ["--master", "yarn", "--deploy-mode", "cluster", "spark.yarn.submit.waitAppCompletion=false"],
        ),
        (
            {"host": "k8s://https://api:6443", "extra": {"deploy-mode": "cluster", "namespace": "etl"}},
            ["--master", "k8s://https://api:6443", "spark.kubernetes.namespace=etl", "--deploy-mode", "cluster"],
        ),
    ],
)
@pytest.mark.parametrize("more", [TRIGGER, ""])
def test_in_a_cluster_the_providers_tracking_is_on_and_no_path_of_this_machine_is_sent(
    tried, monkeypatch, connection, expected, more
):
    tried.pipeline("far", more)
    monkeypatch.setattr(spark_submit, "kube_client", object(), raising=False)  # its own provider is not installed here
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps({"conn_type": "spark", **connection}))
    task = tried.load().dags["far"].get_task("run")
    task.prepare(["far"])
    words = task._get_hook()._build_spark_submit_command(task.application)
    assert [word for word in expected if word not in words] == []
    assert task.is_in_cluster
    assert not any("PYSPARK_PYTHON" in word or "SPARK_HOME" in word for word in words)


def test_kubernetes_without_its_provider_is_named(tried, monkeypatch):
    tried.pipeline("far")
    monkeypatch.setenv(
        "AIRFLOW_CONN_SPARK_DEFAULT", json.dumps({"conn_type": "spark", "host": "k8s://https://api:6443"})
    )
    with pytest.raises(AirflowFailException, match="needs apache-airflow-providers-cncf-kubernetes"):
        tried.load().dags["far"].get_task("run").execute({"dag_run": SimpleNamespace(run_type="manual")})
