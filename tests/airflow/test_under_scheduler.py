"""Whole stories under a real scheduler: what lands, what is announced, and what exit codes become."""

from datetime import datetime

import pytest

from jobs.dev.airflow_api import wait_for


@pytest.fixture(scope="module", autouse=True)
def absent(api, bundle):
    """A run whose first try found no source. It is there now; the second try comes while the other tests run."""
    api.unpause("absent")
    run = api.trigger("absent")
    api.await_task("absent", run, "run", "up_for_retry")
    bundle.land("absent", 5)
    return run


def newest_run(api, dag):
    return wait_for(f"a run of {dag}", lambda: api.runs(dag))[-1]["dag_run_id"]


def test_files_that_land_become_rows_and_an_event_that_starts_the_next_pipeline(api, bundle):
    bundle.land("a", 1, 2, 3)
    bundle.land("b", 7)
    for name in ("b", "a"):
        api.unpause(name)
    first = newest_run(api, "a")
    api.await_run("a", first, "success")
    assert first.startswith("scheduled__")
    assert bundle.rows("a") == [1, 2, 3]
    [event] = api.events("a")
    assert event["extra"] == {
        "rows": 3,
        "quarantined": 0,
        "target_version": event["extra"]["target_version"],
        "query_id": event["extra"]["query_id"],
        "batch_ids": [0],
    }
    second = newest_run(api, "b")
    [event] = api.events("a")  # again: the scheduler starts the run some time after the event
    assert [run["run_id"] for run in event["created_dagruns"]] == [second]
    api.await_run("b", second, "success")
    assert second.startswith("asset_triggered__")
    assert bundle.rows("b") == [7]


@pytest.mark.slow
def test_a_second_trigger_waits_for_the_first_and_announces_nothing(api, bundle):
    bundle.land("a", 4)
    api.unpause("a")
    before = len(api.events("a"))
    first, second = api.trigger("a"), api.trigger("a")
    api.await_task("a", first, "run", "running")
    assert api.get(f"/dags/a/dagRuns/{second}")["state"] == "queued"
    for run in (first, second):
        api.await_run("a", run, "success")
    assert api.states("a", second) == {"run": "success", "publish": "skipped"}
    assert [event["extra"]["rows"] for event in api.events("a")[before:]] == [1]
    assert bundle.rows("a").count(4) == 1


def test_wrong_conf_fails_without_another_try(api, bundle):
    bundle.land("wrong", 1)
    api.unpause("wrong")
    run = api.trigger("wrong")
    api.await_run("wrong", run, "failed")
    tasks = api.tasks("wrong", run)
    assert (tasks["run"]["state"], tasks["publish"]["state"]) == ("failed", "upstream_failed")
    assert tasks["run"]["try_number"] == 1 <= tasks["run"]["max_tries"]
    assert "CONF_INVALID" in api.log("wrong", run, "run")


def test_while_another_run_holds_the_pipeline_nothing_is_done_and_nothing_fails(api, bundle):
    bundle.land("busy", 1)
    api.unpause("busy")
    with bundle.another_run("busy"):
        run = api.trigger("busy")
        wait_for("word of the other run", lambda: "ALREADY_RUNNING" in api.log("busy", run, "run"), 240)
        assert not (bundle.folder / "data/lake/busy").exists()
    api.await_run("busy", run, "success")
    assert api.tasks("busy", run)["run"]["try_number"] == 1


def test_a_source_that_is_not_there_is_tried_again_after_a_minute(api, bundle, absent):
    api.await_run("absent", absent, "success")
    tries = api.get(f"/dags/absent/dagRuns/{absent}/taskInstances/run/tries")["task_instances"]
    first, second = sorted(tries, key=lambda one: one["try_number"])
    assert "UNAVAILABLE" in api.log("absent", absent, "run", 1)
    waited = datetime.fromisoformat(second["start_date"]) - datetime.fromisoformat(first["end_date"])
    assert waited.total_seconds() >= 60
    assert bundle.rows("absent") == [5]
