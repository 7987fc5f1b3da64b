"""The DAGs that belong to no single pipeline: maintenance, replay, fleets. What they submit, and what tasks come to."""

import json
from datetime import timedelta

import pytest
from airflow.models.asset import AssetEvent, AssetModel
from airflow.sdk.exceptions import ParamValidationError
from airflow.utils.session import create_session
from sqlalchemy import select

from jobs.orchestration.fleet_dag import what_is_left

POLICY = "maintenance: {}\n"
FLEET = 'fleet: small\nschedule: "@hourly"\n'
# Writes what a test has laid down for each pipeline that is named, one file a submit, and says what it was asked.
SPARK_SUBMIT = """\
#!/usr/bin/env python3
import json, sys
from pathlib import Path
here = Path(sys.argv[0]).parent.parent
words = sys.argv[1:]
told = json.loads((here / "told").read_text())
answer, rest = told[0], told[1:]
(here / "told").write_text(json.dumps(rest))
asked = here / "asked"
names = words[words.index(next(word for word in words if word.endswith(".py"))) + 1 :]
asked.write_text(asked.read_text() + json.dumps(names) + "\\n" if asked.exists() else json.dumps(names) + "\\n")
for word in words:
    option, _, value = word.partition("=")
    if option == "--results":
        for name, code in answer["ends"].items():
            end = {"pipeline": name, "exit_code": code, "code": "NAMED" if code else None}
            (Path(value) / f"{name}.json").write_text(json.dumps(end))
    if option == "--report":
        Path(value).write_text(json.dumps({"rows": answer["rows"], "rows_written": answer["rows"]["written"]}))
sys.exit(answer["code"])
"""
# Cannot read the ledger while `away` lies there, and takes that away.
AWAY_ONCE = """\
#!/bin/sh
here=$(dirname "$0")/..
rm "$here/away" 2>/dev/null && exit 4
exec cat "$here/ledger"
"""


@pytest.fixture
def submits(tried):
    """Function: what the next submits answer; returns a function for what they were asked."""
    tried.write(".venv/bin/spark-submit", SPARK_SUBMIT).chmod(0o755)

    def tell(*answers):
        tried.write(".venv/told", json.dumps(answers))
        (tried.folder / ".venv/asked").unlink(missing_ok=True)
        return lambda: [json.loads(line) for line in (tried.folder / ".venv/asked").read_text().splitlines()]

    return tell


def run(dag, **options):
    """States of the tasks, by task, and of the run itself under `dag`; tries follow each other at once."""
    for task in dag.tasks:
        task.retry_delay = timedelta(seconds=0.1)
        task.retry_exponential_backoff = 0
    ended = dag.test(logical_date=None, **options)
    return {"dag": str(ended.state)} | {task.task_id: str(task.state) for task in ended.get_task_instances()}


def events(table):
    with create_session() as session:
        query = select(AssetEvent.extra).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return list(session.scalars(query.where(AssetModel.name == table).order_by(AssetEvent.id)))


def batch(number, rows=10):
    counts = {"rows_written": rows, "rows_quarantined": 0, "target_version": number, "checks": [], "message": None}
    return {"pipeline": "p", "query_id": "q", "batch_id": number, "status": "done", **counts}


def test_pipelines_with_a_policy_are_maintained_one_after_the_other_and_others_not(tried, submits):
    tried.pipeline("a", POLICY)
    tried.pipeline("b", POLICY)
    dag = tried.load().dags["esclusa-maintenance"]
    assert dag.timetable.expression == "0 0 * * 0"
    assert (dag.max_active_runs, dag.max_active_tasks, dag.catchup) == (1, 1, False)
    asked = submits({"code": 0}, {"code": 0})
    assert run(dag) == {"dag": "success", "a": "success", "b": "success"}
    assert sorted(words[0] for words in asked()) == ["a", "b"]


def test_without_a_policy_there_is_no_maintenance_dag(tried):
    assert "esclusa-maintenance" not in tried.load().dags


@pytest.mark.parametrize(
    ("codes", "state"), [([0], "success"), ([4, 0], "success"), ([5], "skipped"), ([6], "failed"), ([2], "failed")]
)
def test_exit_codes_drive_maintenance(tried, submits, codes, state):
    tried.pipeline("a", POLICY)
    asked = submits(*({"code": code} for code in codes))
    assert run(tried.load().dags["esclusa-maintenance"])["a"] == state
    assert len(asked()) == len(codes)


def rows(written, quarantined=0, dropped=0):
    return {"code": 0, "rows": {"written": written, "quarantined": quarantined, "dropped": dropped}}


@pytest.fixture
def replay(tried):
    def start(**params):
        return run(tried.load().dags["esclusa-replay"], run_conf={"pipeline": "a", **params})

    return start


def test_a_replay_is_tried_dry_first_and_goes_on_where_the_params_say_so(submits, replay):
    asked = submits(rows(2), rows(2))
    states = replay(ask=False)
    assert states == {
        "dag": "success",
        "dry_run": "success",
        "choose": "success",
        "approve": "skipped",
        "replay": "success",
    }
    assert ["--dry-run" in words for words in asked()] == [True, False]


@pytest.mark.parametrize(("params", "found"), [({"dry_run": True}, rows(2)), ({"ask": False}, rows(0))])
def test_a_dry_run_alone_and_one_that_found_nothing_write_nothing(submits, replay, params, found):
    asked = submits(found)
    states = replay(**params)
    assert (states["dag"], states["approve"], states["replay"]) == ("success", "skipped", "skipped")
    assert len(asked()) == 1


HOSTILE = ["{{ 7 * 7 }}", "$(id)", "a; id", "a\nb", "--dry-run", "'", '"', "`id`"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_person_types_reaches_the_command_as_one_word_as_it_is(submits, replay, text):
    asked = submits(rows(1), rows(1))
    replay(ask=False, where=text, check=text)
    for words in asked():
        assert words[0] == "a"
        assert [f"--check={text}", f"--where={text}"] == [
            word for word in words if word.startswith(("--check", "--where"))
        ]


@pytest.mark.parametrize(
    "params",
    [
        {"pipeline": "nobody"},
        {"pipeline": "--reset"},
        {"since": "yesterday"},
        {"check": 1},
        {"ask": "no"},
        {"where": "x" * 10_001},
    ],
)
def test_params_that_do_not_fit_their_schema_start_nothing(submits, replay, params):
    submits()
    with pytest.raises(ParamValidationError):
        replay(**params)


@pytest.mark.parametrize(("codes", "state"), [([5, 0], "success"), ([2], "failed"), ([6], "failed")])
def test_exit_codes_drive_the_dry_run(submits, replay, codes, state):
    asked = submits(*({**rows(0), "code": code} for code in codes))
    assert replay()["dry_run"] == state
    assert len(asked()) == len(codes)


@pytest.fixture
def fleet(tried):
    """Function: pipelines of names that no other test has, in a fleet; returns its DAG."""

    def make(*names):
        for name in "abc":
            (tried.folder / f"conf/pipelines/{name}.yml").unlink(missing_ok=True)
        for name in names:
            tried.pipeline(name, FLEET)
        return tried.load().dags["fleet-small"]

    return make


def test_a_fleet_is_one_dag_and_its_pipelines_have_none_of_their_own(tried, fleet):
    dag = fleet("one", "two")
    assert {name for name in tried.load().dags if not name.startswith("esclusa")} == {"fleet-small"}
    assert dag.timetable.expression == "0 * * * *"
    assert dag.get_task("run-fleet").downstream_task_ids == {"one", "two"}
    assert [asset.name for asset in dag.get_task("one").outlets] == ["one"]


def test_each_pipeline_of_a_fleet_has_its_own_end_and_event(tried, fleet, submits):
    dag = fleet("f_done", "f_held", "f_busy", "f_wrong")
    asked = submits({"code": 3, "ends": {"f_done": 0, "f_held": 3, "f_busy": 5, "f_wrong": 6}})
    tried.ledger(batch(0))
    states = run(dag)
    assert states == {
        "dag": "failed",
        "run-fleet": "success",
        "f_done": "success",
        "f_held": "failed",
        "f_busy": "skipped",
        "f_wrong": "failed",
    }
    assert [extra["rows"] for extra in events("f_done")] == [10]
    assert events("f_held") == events("f_busy") == []
    [words] = asked()
    assert words[:5] == ["f_busy", "f_done", "f_held", "f_wrong", "--fleet=small"]


def test_only_what_repeating_can_help_is_run_again(tried, fleet, submits):
    dag = fleet("g_done", "g_away", "g_held", "g_killed")
    asked = submits(
        {"code": 4, "ends": {"g_done": 0, "g_away": 4, "g_held": 3}}, {"code": 0, "ends": {"g_away": 0, "g_killed": 0}}
    )
    tried.ledger(batch(0))
    states = run(dag)
    assert [[word for word in words if word.startswith("g_")] for words in asked()] == [
        ["g_away", "g_done", "g_held", "g_killed"],
        ["g_away", "g_killed"],
    ]
    assert {name: states[name] for name in ("run-fleet", "g_away", "g_done", "g_held", "g_killed")} == {
        "run-fleet": "success",
        "g_away": "success",
        "g_done": "success",
        "g_held": "failed",
        "g_killed": "success",
    }


def test_an_event_that_the_ledger_cannot_be_asked_about_is_tried_again(tried, fleet, submits):
    dag = fleet("j_done")
    submits({"code": 0, "ends": {"j_done": 0}})
    tried.ledger(batch(0))
    tried.write(".venv/away", "")
    tried.write(".venv/bin/esclusa", AWAY_ONCE)
    assert run(dag)["j_done"] == "success"
    assert [extra["rows"] for extra in events("j_done")] == [10]
    assert not (tried.folder / ".venv/away").exists()


def test_what_has_not_ended_when_no_try_is_left_fails_and_the_others_stand(tried, fleet, submits):
    dag = fleet("h_done", "h_away", "h_killed")
    for task in dag.tasks:
        task.retries = 0
    submits({"code": 137, "ends": {"h_done": 0, "h_away": 4}})
    tried.ledger(batch(0))
    states = run(dag)
    assert (states["run-fleet"], states["h_done"]) == ("failed", "success")
    assert (states["h_away"], states["h_killed"]) == ("failed", "failed")


def test_the_next_run_of_a_fleet_does_not_take_the_results_of_the_one_before(tried, fleet, submits):
    dag = fleet("i_one", "i_two")
    tried.ledger(batch(0))
    submits({"code": 0, "ends": {"i_one": 0, "i_two": 0}})
    run(dag)
    asked = submits({"code": 0, "ends": {"i_one": 0, "i_two": 0}})
    run(dag)
    assert asked()[0][:2] == ["i_one", "i_two"]


@pytest.mark.parametrize(
    ("ends", "left"),
    [
        ({}, ["a", "b", "c"]),
        ({"a": (0, None), "b": (3, "BATCH_HELD")}, ["c"]),
        ({"a": (0, None), "b": (3, "BATCH_HELD"), "c": (4, "UNAVAILABLE")}, ["c"]),
        ({"a": (0, None), "b": (3, "BATCH_HELD"), "c": (5, "ALREADY_RUNNING")}, ["b"]),
        ({"a": (0, None), "b": (0, None), "c": (5, "ALREADY_RUNNING")}, ["a", "b", "c"]),
    ],
)
def test_a_try_runs_what_is_left(ends, left):
    assert what_is_left(["a", "b", "c"], ends) == left


def test_a_broken_member_has_no_task_and_takes_no_other_down(tried, fleet):
    fleet("one", "two")
    tried.pipeline("two", f"{FLEET}sinck: 1\n")
    bag = tried.load()
    assert bag.dags["fleet-small"].get_task("run-fleet").downstream_task_ids == {"one"}
    assert "two.yml" in bag.import_errors["check_conf.py"]
