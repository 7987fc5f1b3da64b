from datetime import timedelta

import pytest

from jobs.pipeline.cron import PRESETS, check_cron
from jobs.pipeline.durations import as_timedelta
from jobs.pipeline.schedule_model import After, Cron

ORDERS = "conf/pipelines/orders.yml"
TRIGGER = "trigger:\n  available_now: true\n"


def schedule(bundle, text):
    bundle.edit(ORDERS, TRIGGER, f"{TRIGGER}schedule: {text}\n")


@pytest.mark.parametrize(
    "text",
    [
        *sorted(PRESETS),
        "0 * * * *",
        "*/15 6-22 * * mon-fri",
        "5,35 0 1 JAN,jul *",
        "0 0 29 2 *",
        "0 0 31 2 0",
        "3/10 * * * 7",
    ],
)
def test_cron_is_taken_as_it_is_written(bundle, text):
    schedule(bundle, f'"{text}"')
    assert bundle.load("orders").spec.schedule == Cron(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@hourl", "did you mean '@hourly'"),
        ("@continuous", "no preset"),
        ("", "0 fields"),
        ("0 * * *", "4 fields"),
        ("0 0 * * * *", "6 fields"),
        ("60 * * * *", "'60' is no minute; allowed: 0 to 59"),
        ("* 24 * * *", "no hour"),
        ("* * 0 * *", "no day of month"),
        ("* * * 13 *", "no month"),
        ("* * * * 8", "no day of week"),
        ("* * * mai *", "'mai' is no month"),
        ("30-10 * * * *", "a range goes upwards"),
        ("*/0 * * * *", "in steps of 1 or more"),
        ("0 0 L * *", "'L' is no day of month"),
        ("0,,5 * * * *", "'' is no minute"),
        ("٣ * * * *", "no minute"),
        ("0 0 30 feb *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
    ],
)
def test_other_text_is_refused_with_the_field_that_is_wrong(bundle, text, expected):
    with pytest.raises(ValueError, match=r".") as caught:
        check_cron(text)
    assert expected in str(caught.value)
    schedule(bundle, f'"{text}"')
    [problem] = bundle.problems("orders")
    assert (problem.line, problem.path) == (bundle.line_of(ORDERS, "schedule"), "schedule")
    assert expected in problem.message


def test_without_a_schedule_only_people_start_runs(bundle):
    assert bundle.load("orders").spec.schedule is None


def test_a_pipeline_can_run_after_others(bundle):
    schedule(bundle, "{after: [clicks]}")
    assert bundle.load("orders").spec.schedule == After(after=["clicks"])
    assert bundle.load("orders").spec.upstream == ["clicks"]


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("5", "schedule", "a cron expression, a preset"),
        ("[clicks]", "schedule", "a cron expression, a preset"),
        ("{}", "schedule.after", "missing"),
        ("{after: []}", "schedule.after", "at least 1 item"),
        ("{after: clicks}", "schedule.after", "valid list"),
        ("{after: [1]}", "schedule.after[0]", "valid string"),
        ("{after: [clicks], cron: x}", "schedule.cron", "unknown key"),
        ("{after: [clickz]}", "schedule.after[0]", "no pipeline 'clickz'; did you mean 'clicks'"),
        ("{after: [clicks, orders]}", "schedule.after[1]", "wait for itself: orders after orders"),
    ],
)
def test_what_is_no_schedule_is_refused(bundle, text, path, expected):
    schedule(bundle, text)
    [problem] = bundle.problems("orders")
    assert (problem.line, problem.path) == (bundle.line_of(ORDERS, "schedule"), path)
    assert expected in problem.message


def test_a_circle_of_pipelines_is_refused_in_each_of_its_files_and_in_no_other(bundle):
    text = (bundle.root / ORDERS).read_text(encoding="utf-8")
    for name, upstream in {"a": "b", "b": "c", "c": "a", "d": "a"}.items():
        bundle.write(f"conf/pipelines/{name}.yml", f"{text}schedule: {{after: [{upstream}]}}\n")
    found = {problem.file.rsplit("/", 1)[1]: problem.message for problem in bundle.problems("a", "b", "c", "d")}
    assert found.keys() == {"a.yml", "b.yml", "c.yml"}
    assert found["a.yml"].endswith("a after b after c after a")


def test_a_broken_upstream_is_reported_once_in_its_own_file(bundle):
    schedule(bundle, "{after: [clicks]}")
    bundle.write("conf/pipelines/clicks.yml", "source: [\n")
    assert [problem.file.rsplit("/", 1)[1] for problem in bundle.problems("clicks", "orders")] == ["clicks.yml"]


def test_what_runs_until_stopped_has_no_schedule(bundle):
    bundle.edit("conf/pipelines/clicks.yml", "trigger:", 'schedule: "@hourly"\ntrigger:')
    [problem] = bundle.problems("clicks")
    assert "runs until stopped" in problem.message


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("when_held: aks", "when_held", "did you mean 'ask'; allowed: ask, fail"),
        ("decision_timeout: soon", "decision_timeout", "'soon' is not a duration"),
        ("decision_timeout: 0 days", "decision_timeout", "more than nothing"),
        ("decision_timeout: 366 days", "decision_timeout", "at most 365 days"),
        ("decision_timeout: 99999999999999999999 days", "decision_timeout", "at most 365 days"),
    ],
)
def test_a_wrong_word_about_held_batches_is_reported_where_it_stands(bundle, text, path, expected):
    bundle.edit(ORDERS, TRIGGER, f"{TRIGGER}{text}\n")
    [problem] = bundle.problems("orders")
    assert (problem.line, expected in problem.message) == (bundle.line_of(ORDERS, path), True)


def test_a_person_is_asked_for_a_day_unless_the_pipeline_says_otherwise(bundle):
    assert (bundle.load("orders").spec.when_held, bundle.load("orders").spec.decision_timeout) == ("ask", "1 day")
    bundle.edit(ORDERS, TRIGGER, f"{TRIGGER}decision_timeout: 90 minutes\n")
    assert as_timedelta(bundle.load("orders").spec.decision_timeout) == timedelta(minutes=90)


def test_who_asks_nobody_waits_for_nobody(bundle):
    bundle.edit(ORDERS, TRIGGER, f"{TRIGGER}when_held: fail\ndecision_timeout: 1 hour\n")
    [problem] = bundle.problems("orders")
    assert problem.path == "decision_timeout"
    assert problem.line == bundle.line_of(ORDERS, "decision_timeout")
    assert problem.message.startswith("with when_held: fail nobody is asked")
