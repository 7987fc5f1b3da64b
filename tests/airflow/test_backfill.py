"""Three days of an archive, read by `airflow backfill create` beside the live pipeline, and once more."""

import hashlib
import re
import subprocess

import pytest

from jobs.dev.airflow_api import wait_for
from jobs.dev.processes import kill_process
from jobs.pipeline.failpoints import Point
from jobs.pipeline.ledger import read_ledger

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]


@pytest.fixture
def airflow_backfill(airflow):
    """Function: `airflow backfill create` of days that follow each other, as a person types it."""

    def run(dag, days, *options):
        words = ["--dag-id", dag, "--from-date", days[0], "--to-date", days[-1], *options]
        command = [airflow.place.environment / "bin/airflow", "backfill", "create", *words]
        variables = airflow.place.variables(airflow.port)
        return subprocess.run(command, env=variables, check=False, capture_output=True, text=True)

    return run


@pytest.fixture
def backfill(api, airflow_backfill):
    """Function: create a backfill of the pipeline `past`; returns the ids of its runs, oldest day first."""

    def create(days, *options):
        wait_for("the end of other backfills", lambda: not active_backfills(api))
        wait_for("a backfill", lambda: is_created(api, airflow_backfill("past", days, *options)))
        runs = {run["logical_date"][:10]: run for run in api.runs("past") if run["run_type"] == "backfill"}
        assert sorted(runs) == DAYS
        return [runs[day]["dag_run_id"] for day in days]

    return create


def is_created(api, command):
    """SQLite has one writer, and turns others away: Airflow may leave a backfill then that has no runs."""
    if command.returncode:
        said = command.stdout + command.stderr
        assert "database is locked" in said, said
        for left in active_backfills(api):
            api.send("PUT", f"/api/v2/backfills/{left['id']}/cancel")
    return command.returncode == 0


def active_backfills(api):
    return [one for one in api.get("/backfills?dag_id=past")["backfills"] if one["completed_at"] is None]


def progress_of(bundle, name):
    """All that says how far a pipeline is, by content: its checkpoint and its ledger."""
    places = [bundle.folder / f"data/state/{kind}/{name}" for kind in ("checkpoints", "ledger")]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def done(bundle, name):
    """Rows written by each batch that the ledger has as done."""
    rows = read_ledger(str(bundle.folder / "data/state/ledger" / name))
    return [row["rows_written"] for row in rows if row["status"] == "done"]


def test_three_intervals_are_read_once_each_beside_the_live_pipeline(api, bundle, backfill):
    bundle.place(f"data/archive/past/{DAYS[0]}", 1, 2)
    bundle.place(f"data/archive/past/{DAYS[2]}", 3)  # of the second day there is nothing
    bundle.land("past", 7)
    bundle.fail_at(f"{Point.TARGET_AFTER}:1:hang", "--interval-start")
    runs = backfill(DAYS, "--max-active-runs", "1")
    api.unpause("past")
    hangs = re.compile(r"python \d+, jvm (\d+)")
    found = wait_for("the first interval", lambda: hangs.search(api.log("past", runs[0], "run")), 240)
    [live] = [run["dag_run_id"] for run in api.runs("past") if run["run_type"] == "scheduled"]
    api.await_run("past", live, "success")  # beside the interval that hangs
    before = progress_of(bundle, "past")
    kill_process(int(found[1]))
    for run in runs:
        api.await_run("past", run, "success")
    assert bundle.rows("past") == [1, 2, 3, 7]
    assert [done(bundle, f"past@{day}") for day in DAYS] == [[2], [], [1]]
    assert (done(bundle, "past"), progress_of(bundle, "past")) == ([1], before)
    assert [api.states("past", run)["publish"] for run in runs] == ["success", "skipped", "success"]
    told = [event["extra"] for event in api.events("past")]
    assert [(extra["rows"], extra.get("pipelines")) for extra in told] == [
        (1, None),
        (2, [f"past@{DAYS[0]}"]),
        (1, [f"past@{DAYS[2]}"]),
    ]

    [again] = backfill(DAYS[:1], "--reprocess-behavior", "completed")
    assert again == runs[0]
    api.await_run("past", again, "success")
    assert api.states("past", again) == {"run": "success", "publish": "skipped"}
    assert bundle.rows("past") == [1, 2, 3, 7]
    assert (progress_of(bundle, "past"), len(api.events("past"))) == (before, 3)


def test_a_pipeline_without_an_archive_takes_no_backfill(api, airflow_backfill):
    refused = airflow_backfill("a", DAYS)
    assert refused.returncode
    assert "does not allow backfill runs" in refused.stdout + refused.stderr
    assert all(run["run_type"] != "backfill" for run in api.runs("a"))
