"""A small part of `make torture`: every fail point once over files, two over Kafka, and the baseline that must fail."""

import itertools

import pytest

from jobs.pipeline.failpoints import Point
from jobs.testing.bed import Trigger
from jobs.testing.matrix import Case
from jobs.testing.nemesis import AtPoint, Kill, Victims
from jobs.testing.torture import Workshop, has_faults, run_baseline

OF_BATCHES = [point for point in Point if point not in {Point.REPLAY_MARKED, Point.REPLAY_WRITTEN}]


def cases(points):
    """The first batch killed at each point in turn; of the driver's two processes both, Python, the JVM in turn."""
    return [
        Case(point, Kill(AtPoint(point), victims), batches=2)
        for point, victims in zip(points, itertools.cycle(Victims))
    ]


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path, seed=1, rows=200)


def test_files_killed_at_every_fail_point_lose_and_double_nothing(workshop):
    lane = workshop.over_files("files", Trigger.AVAILABLE_NOW)
    lane.run(cases(OF_BATCHES))
    assert lane.violations == []
    assert [strike.was_killed for strike in lane.strikes] == [True] * len(OF_BATCHES)
    assert lane.conservation.acked >= 2 * workshop.rows


def test_kafka_killed_between_the_writes_loses_and_doubles_nothing(workshop, broker):
    lane = workshop.over_kafka("torture", Trigger.CONTINUOUS, broker.servers)
    lane.run(cases([Point.TARGET_AFTER, Point.LEDGER_AFTER]))
    assert lane.violations == []
    assert [strike.was_killed for strike in lane.strikes] == [True, True]


def test_the_baseline_fails_or_the_harness_is_broken(workshop):
    assert has_faults(run_baseline(workshop, [Victims.BOTH]))
