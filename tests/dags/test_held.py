"""The gate path by `dag.test()`: a held batch, a person's answer, what becomes of the batch, and who is asked what."""

import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import handle_event_submit
from airflow.triggers.base import TriggerEvent
from airflow.utils.session import create_session
from airflow.utils.state import State, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select

HELD = {
    "pipeline": "p",
    "query_id": "q",
    "batch_id": 7,
    "status": "held",
    "rows_read": 1000,
    "rows_written": 0,
    "rows_quarantined": 300,
    "rows_malformed": 20,
    "rows_dropped": 5,
    "target_version": None,
    "message": "check named failed: 280 of 975 rows unexpected",
    "checks": [
        {"name": "named", "unexpected_count": 280, "element_count": 975, "success": False},
        {"name": "small", "unexpected_count": 0, "element_count": 975, "success": True},
    ],
    "examples": [
        {"check": "named", "message": "NULL: not null", "raw": "{{ var.value.x }} <script>a</script> `b`\n# c"}
    ],
}
DONE = HELD | {"status": "done", "rows_written": 600, "target_version": 4, "message": None}


def released(answer="quarantine"):
    return HELD | {"status": "released", "decision": answer}


@pytest.fixture
def asked(tried):
    """A DAG of a pipeline that holds batch 7; its submits end with the codes."""

    def hold(name, *codes):
        tried.pipeline(name, can_be_held=True)
        tried.ends_with(*codes)
        tried.ledger(HELD | {"pipeline": name})
        return tried.load().dags[name]

    return hold


def while_parked(dag_id, act):
    """Act on the task of a DAG that waits for an answer, until it has one and goes on.

    `dag.test()` notes that a task is parked behind the task itself, and may so undo an answer that came in between.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with create_session() as session:
            found = select(TaskInstance).where(TaskInstance.dag_id == dag_id, TaskInstance.task_id == "held.decide")
            task = session.scalar(found)
            if task and task.state in State.finished:
                return
            if task and task.state == TaskInstanceState.AWAITING_INPUT:
                act(task, session)
        time.sleep(0.2)


def answer_parked(dag_id, option, user):
    """What Airflow's API does with an answer: the route itself is tried under the real scheduler."""

    def answer(task, session):
        detail = session.get(HITLDetail, task.id)
        detail.chosen_options, detail.params_input = [option], {}
        detail.responded_by, detail.responded_at = {"id": "1", "name": user}, task.start_date
        handle_event_submit(TriggerEvent(detail.as_resume_event_payload()), task_instance=task, session=session)

    while_parked(dag_id, answer)


def sweep(dag_id):
    """What the scheduler does about questions that nobody has answered in time."""
    while_parked(dag_id, lambda _, session: SchedulerJobRunner(Job()).check_awaiting_input_timeouts(session=session))


@contextmanager
def meanwhile(action, *arguments):
    thread = threading.Thread(target=action, args=arguments)
    thread.start()
    yield
    thread.join()


def question(dag_id):
    with create_session() as session:
        found = select(HITLDetail).join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        return session.scalar(found.where(TaskInstance.dag_id == dag_id))


DONE_STATES = {
    "dag": "success",
    "run": "success",
    "publish": "skipped",
    "held.decide": "success",
    "held.release": "success",
    "held.run": "success",
    "held.publish": "success",
    "held.ask_again": "skipped",
}


@pytest.mark.parametrize(
    ("option", "flag"),
    [("Release with quarantine", "--quarantine"), ("Accept", "--accept"), ("Drop", "--drop")],
)
def test_an_answer_is_recorded_with_its_author_and_the_pipeline_runs_again(tried, asked, run, option, flag):
    name = f"answered_{option[:2].lower()}"
    dag = asked(name, 3, 0)
    tried.ledger_then(HELD, released(), DONE)
    with meanwhile(answer_parked, name, option, "Ada $(id); --drop"):
        assert run(dag) == DONE_STATES
    assert tried.release == ["release", name, "--batch", "7", flag, "--by=Ada $(id); --drop"]
    assert (tried.folder / ".venv/codes").read_text() == "", "two submits"


def test_a_batch_left_held_fails_the_run_and_nothing_is_released(tried, asked, run):
    dag = asked("left", 3)
    with meanwhile(answer_parked, "left", "Leave held", "Ada"):
        states = run(dag)
    assert (states["dag"], states["held.decide"], states["held.release"]) == ("failed", "success", "failed")
    assert states["held.run"] == states["held.publish"] == states["held.ask_again"] == "upstream_failed"
    assert tried.release is None


def test_a_question_that_nobody_answers_in_time_leaves_the_batch_held(tried, asked, run):
    dag = asked("late", 3)
    dag.get_task("held.decide").response_timeout = timedelta(seconds=1)
    with meanwhile(sweep, "late"):
        states = run(dag)
    assert (states["dag"], states["held.release"], states["held.run"]) == ("failed", "failed", "upstream_failed")
    assert question("late").chosen_options == ["Leave held"]
    assert tried.release is None


def test_a_decision_taken_elsewhere_before_the_question_is_carried_out(tried, asked, run):
    dag = asked("before", 3, 0)
    tried.ledger(HELD, released())
    assert run(dag) == DONE_STATES | {"held.publish": "skipped"}
    assert (question("before"), tried.release) == (None, None)


@pytest.mark.parametrize("says", ["NOT_HELD: no batch is held", "ALREADY_RELEASED: the decision accept"])
def test_a_decision_taken_elsewhere_during_the_question_stands(tried, asked, run, says):
    name = f"during_{says[:3].lower()}"
    dag = asked(name, 3, 0)
    tried.release_ends(6, f"STATE_MISMATCH: {says}")
    with meanwhile(answer_parked, name, "Drop", "Ada"):
        assert run(dag) == DONE_STATES | {"held.publish": "skipped"}


def test_a_release_that_fails_otherwise_is_tried_again_and_the_pipeline_does_not_run(tried, asked, run):
    dag = asked("broken", 3)
    tried.release_ends(4, "UNAVAILABLE: the ledger")
    with meanwhile(answer_parked, "broken", "Accept", "Ada"):
        states = run(dag)
    assert (states["held.release"], states["held.run"]) == ("failed", "upstream_failed")
    with create_session() as session:
        found = select(TaskInstance).where(TaskInstance.dag_id == "broken", TaskInstance.task_id == "held.release")
        assert session.scalar(found).try_number == 5


def test_the_next_held_batch_is_asked_about_in_a_run_of_its_own(asked, run):
    dag = asked("next", 3, 3)
    with meanwhile(answer_parked, "next", "Drop", "Ada"):
        assert run(dag)["held.ask_again"] == "success"
    with create_session() as session:
        runs = session.scalars(select(DagRun).where(DagRun.dag_id == "next").order_by(DagRun.id)).all()
    assert [str(one.state) for one in runs] == ["success", "queued"]
    assert runs[1].triggered_by == DagRunTriggeredByType.OPERATOR


def test_the_question_holds_reasons_counts_and_examples_and_data_in_it_stays_data(asked, run):
    dag = asked("hostile", 3)
    with meanwhile(answer_parked, "hostile", "Leave held", "Ada"):
        run(dag)
    asked_about = question("hostile")
    assert asked_about.subject == "hostile: what becomes of held batch 7?"
    assert asked_about.options == ["Release with quarantine", "Accept", "Drop", "Leave held"]
    lines = asked_about.body.splitlines()
    assert lines[0].startswith("Batch 7 of hostile is held: ` check named failed: 280 of 975 rows unexpected `.")
    assert "- ` named `: 280 of 975 rows" in lines
    assert "- ` named `: ` NULL: not null ` in `` {{ var.value.x }} <script>a</script> `b` # c ``" in lines
    assert not any("small" in line for line in lines)


def test_a_held_batch_of_an_interval_is_asked_about_and_released_by_its_own_name(tried, run, in_backfill):
    tried.archived("past", can_be_held=True)
    tried.ends_with(3, 0)
    first, second = DONE | {"pipeline": "past@2026-01-01"}, {"pipeline": "past@2026-01-02", "query_id": "r"}
    tried.ledger(first, HELD | second)
    tried.ledger_then(first, DONE | second)
    with in_backfill(), meanwhile(answer_parked, "past", "Accept", "Ada"):
        assert run(tried.load().dags["past"]) == DONE_STATES | {"publish": "success"}
    assert tried.release == ["release", "past@2026-01-02", "--batch", "7", "--accept", "--by=Ada"]
    assert question("past").subject == "past@2026-01-02: what becomes of held batch 7?"


def test_a_further_held_batch_of_an_interval_fails_its_run_for_another_would_be_a_live_one(tried, run, in_backfill):
    tried.archived("further", can_be_held=True)
    tried.ends_with(3, 3)
    tried.ledger(HELD | {"pipeline": "further@2026-01-01"})
    with in_backfill(), meanwhile(answer_parked, "further", "Drop", "Ada"):
        states = run(tried.load().dags["further"])
    assert (states["dag"], states["held.ask_again"]) == ("failed", "failed")
    with create_session() as session:
        assert len(session.scalars(select(DagRun).where(DagRun.dag_id == "further")).all()) == 1
