"""A small part of `make torture`: every point of a batch once over files, two over Kafka, the baseline that must fail."""

import itertools
from random import Random

import pytest

from jobs.pipeline.failpoints import Point
from jobs.testing.bed import Trigger
from jobs.testing.logs import read_commits
from jobs.testing.matrix import Case, schema_cases, steady_cases
from jobs.testing.nemesis import AtPoint, AtTime, Kill, Victims
from jobs.testing.workshop import Workshop, has_faults, run_baseline

OF_BATCHES = [point for point in Point if not point.startswith(("replay.", "maintenance."))]


def cases(points):
    """The first batch killed at each point in turn; of the driver's two processes both, Python, the JVM in turn."""
    return [
        Case(point, Kill(AtPoint(point), victims), batches=2)
        for point, victims in zip(points, itertools.cycle(Victims))
    ]


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path, seed=1, rows=200)


@pytest.mark.fault("K2", "K3", "K5", "K7", "K9", "K10", "K14", "K18")
def test_files_killed_at_every_fail_point_lose_and_double_nothing(workshop):
    lane = workshop.over_files("files", Trigger.AVAILABLE_NOW)
    lane.run(cases(OF_BATCHES))
    assert lane.violations == []
    assert [strike.was_killed for strike in lane.strikes] == [True] * len(OF_BATCHES)
    assert lane.conservation.acked >= 2 * workshop.rows


@pytest.mark.slow
@pytest.mark.fault("K0", "K1", "K4", "K6", "K8", "K11", "K12", "K13", "K17", "K19")
def test_files_killed_inside_spark_and_delta_lose_and_double_nothing(workshop, request):
    lane = workshop.over_files("inside", Trigger.AVAILABLE_NOW)
    points = request.node.get_closest_marker("fault").args
    lane.run([*one_of_each(lane, points[:-1]), Case("K19", Kill(AtTime(8, 0.2), Victims.BOTH))])
    assert lane.violations == []
    assert {strike.case.name.split()[0] for strike in lane.strikes if strike.was_killed} == set(points)


@pytest.mark.slow
@pytest.mark.fault("K15")
def test_files_killed_around_a_commit_that_changes_the_schema_lose_and_double_nothing(workshop):
    """The lane itself reports columns that come without rows, or rows without the columns of their time."""
    lane = workshop.over_files("schema", Trigger.AVAILABLE_NOW)
    around = [case for case in schema_cases(lane.tables, Random(1)) if case.kill.victims is Victims.BOTH]
    lane.run(around)
    assert lane.violations == []
    assert [strike.was_killed for strike in lane.strikes] == [True] * len(around)
    columns = [commit.columns for commit in read_commits(lane.tables.target) if commit.columns]
    assert columns[-1][-len(around) :] == tuple(f"extra_{number + 1}" for number in range(len(around)))


def one_of_each(lane, points):
    """Of each point the first case, or row of cases, that a shuffled matrix has."""
    groups = {}
    for group in steady_cases(lane.tables, over_files=True, random=Random(1)):
        groups.setdefault(group[0].name.split()[0], group)
    return [case for point in points for case in groups[point]]


@pytest.mark.fault("K9", "K10")
def test_kafka_killed_between_the_writes_loses_and_doubles_nothing(workshop, broker):
    lane = workshop.over_kafka("torture", Trigger.CONTINUOUS, broker.servers)
    lane.run(cases([Point.TARGET_AFTER, Point.LEDGER_AFTER]))
    assert lane.violations == []
    assert [strike.was_killed for strike in lane.strikes] == [True, True]


def test_the_baseline_fails_or_the_harness_is_broken(workshop):
    assert has_faults(run_baseline(workshop, [Victims.BOTH]))
