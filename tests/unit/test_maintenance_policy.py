import pytest

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_target
from jobs.pipeline.schedule_model import Cron
from jobs.pipeline.table_model import Maintenance

ORDERS, TARGET = "conf/pipelines/orders.yml", "conf/targets/local.yml"


def declare(bundle, text, sink=""):
    bundle.edit(ORDERS, "  partition_by: [day]\n", f"  partition_by: [day]\n{sink}maintenance: {text}\n")


def test_without_a_policy_nothing_is_maintained(bundle):
    assert bundle.load("orders").maintenance is None


def test_the_empty_policy_keeps_files_a_week_and_versions_a_month_and_every_row(bundle):
    declare(bundle, "{}")
    policy = bundle.load("orders").maintenance
    assert (policy.optimize, policy.vacuum, policy.log) == (True, "7 days", "30 days")
    assert (policy.checkpoints, policy.quarantine.resolved, policy.quarantine.any) == (None, None, None)


def test_a_pipelines_own_policy_stands_in_place_of_the_targets(bundle):
    bundle.edit(TARGET, "spark:\n", "maintenance: {vacuum: 14 days}\nmaintenance_schedule: '@daily'\nspark:\n")
    declare(bundle, "{log: 60 days}")
    assert bundle.load("orders").maintenance == Maintenance(log="60 days")
    assert bundle.load("clicks").maintenance == Maintenance(vacuum="14 days")
    assert load_target(Bundle(bundle.conf)).maintenance_schedule == Cron("@daily")


@pytest.mark.parametrize(
    ("text", "sink", "expected"),
    [
        ("{vacuum: 6 days}", "", "vacuum: 6 days is under 7 days"),
        ("{vacuum: 167 hours}", "", "vacuum: 167 hours is under 7 days"),
        ("{log: 1 day}", "", "log: 1 day is under 7 days"),
        ("{vacuum: 60 days}", "", "log: 30 days is under vacuum (60 days)"),
        ("{vacuum: a week}", "", "'a week' is not a duration"),
        ("{log: 9999999999999 days}", "", "too long; allowed: at most 365000 days"),
        ("{quarantine: {any: 400000 days}}", "", "too long; allowed: at most 365000 days"),
        ("{vaccum: 7 days}", "", "did you mean 'vacuum'"),
        ("{quarantine: {old: 7 days}}", "", "allowed: any, resolved"),
        (
            "{}",
            "  table_properties: {delta.deletedFileRetentionDuration: interval 8 days}\n",
            "7 days is less than the table promises its readers: delta.deletedFileRetentionDuration = interval 8 days",
        ),
        (
            "{}",
            "  table_properties: {delta.deletedFileRetentionDuration: interval 9999999999999 days}\n",
            "delta.deletedFileRetentionDuration = interval 9999999999999 days",
        ),
        (
            "{}",
            "  table_properties: {delta.logRetentionDuration: interval 5 weeks}\n",
            "30 days is less than the table promises its readers: delta.logRetentionDuration = interval 5 weeks",
        ),
    ],
)
def test_a_policy_that_takes_what_others_need_is_refused_with_its_line(bundle, text, sink, expected):
    declare(bundle, text, sink)
    [problem] = bundle.problems("orders")
    assert expected in str(problem)
    if not sink:
        assert problem.line == bundle.line_of(ORDERS, "maintenance")


def test_the_targets_policy_keeps_what_the_table_promises_too(bundle):
    bundle.edit("conf/targets/local.yml", "state:", "maintenance: {}\nstate:")
    properties = "sink:\n  table_properties: {delta.deletedFileRetentionDuration: interval 8 days}\n"
    bundle.edit(ORDERS, "sink:\n", properties)
    [problem] = bundle.problems("orders")
    assert problem.path == "sink.table_properties"
    assert problem.line == bundle.line_of(ORDERS, "table_properties")
    assert problem.message.startswith("the target's maintenance: 7 days is less than the table promises its readers")


@pytest.mark.parametrize("text", ["{vacuum: 168 hours}", "{vacuum: 8 days}"])
def test_a_policy_that_keeps_what_the_table_promises_is_taken(bundle, text):
    declare(bundle, text, "  table_properties: {delta.deletedFileRetentionDuration: interval 7 days}\n")
    assert bundle.load("orders").maintenance is not None
