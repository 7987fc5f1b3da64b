import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from rich.console import Console

from jobs.pipeline.failpoints import Point
from jobs.testing import workshop
from jobs.testing.checker import Tables
from jobs.testing.lane import Lane, Strike
from jobs.testing.matrix import Case, creation_cases, random_cases, schema_cases, steady_cases
from jobs.testing.nemesis import AtFile, AtPoint, Kill, Outcome, Victims
from jobs.testing.tally import describe_cost, load_results, make_result, make_table, save_result
from jobs.testing.workshop import Workshop

TABLES = Tables(Path("t"), Path("q"), Path("c"), Path("l"))
ABSENT = {15, 16, 18}  # K15 has lanes of its own; no run maintains tables; K18 is every point with Python only


def steady_cases_in_a_row(**options):
    return [case for group in steady_cases(TABLES, **options) for case in group]


def numbers(cases):
    return {int(re.match(r"K(\d+) ", case.name)[1]) for case in cases}


def test_the_matrix_holds_every_point_of_the_catalogue_that_has_a_place_here():
    cases = steady_cases_in_a_row(over_files=True, random=Random(1)) + creation_cases(TABLES)
    assert numbers(cases) == set(range(20)) - ABSENT
    of_no_batch = {point for point in Point if point.startswith(("replay.", "maintenance."))}
    named = {case.kill.moment.name for case in cases if isinstance(case.kill.moment, AtPoint)}
    assert named == set(Point) - of_no_batch


def test_kafka_has_all_points_but_those_of_the_log_of_files():
    cases = steady_cases_in_a_row(over_files=False, random=Random(1))
    assert numbers(cases) == set(range(20)) - ABSENT - {0, 13, 14}


def test_a_commit_that_changes_the_schema_meets_every_set_of_victims_before_in_and_after_it():
    cases = schema_cases(TABLES, Random(1))
    assert (numbers(cases), len(cases)) == ({15}, 5 * len(Victims))
    assert all(case.changes_schema and case.kill.moment.nth == 1 for case in cases)
    assert len({(case.kill.moment, case.kill.victims) for case in cases}) == len(cases)


def test_a_commit_is_met_while_it_is_made_and_not_by_the_checksum_that_it_leaves():
    met = [*creation_cases(TABLES), *schema_cases(TABLES, Random(1))]
    met += steady_cases_in_a_row(over_files=True, random=Random(1))
    log = TABLES.target / "_delta_log"
    moments = {case.kill.moment for case in met if isinstance(case.kill.moment, AtFile)}
    of_commits = [one for one in moments if one.folder == log and "checkpoint" not in one.pattern]
    assert {one.nth for one in of_commits} == {1, 2}
    name = f".{7:020}.json"
    for one in of_commits:
        assert re.fullmatch(one.pattern, f"{name}.607d64a0-930a.tmp")
        assert not re.fullmatch(one.pattern, f"{name}.crc")


@pytest.mark.parametrize("over_files", [True, False])
def test_every_scripted_point_has_every_set_of_victims_as_often(over_files):
    cases = [case for case in steady_cases_in_a_row(over_files=over_files, random=Random(1)) if case.is_scripted]
    times = Counter((case.name, case.kill.victims) for case in cases)
    assert {name for name, _ in times} == {case.name for case in cases}
    assert all(count == (3 if name.startswith("K17") else 1) for (name, _), count in times.items())
    assert len(times) == len({case.name for case in cases}) * len(Victims)


def test_the_three_kills_of_k17_follow_each_other():
    cases = steady_cases_in_a_row(over_files=True, random=Random(1))
    kills = [case.kill for case in cases if case.name.startswith("K17")]
    first = [index for index, case in enumerate(cases) if case.name.startswith("K17")][::3]
    assert all(cases[index] == cases[index + 1] == cases[index + 2] for index in first)
    assert {kill.moment.nth for kill in kills} == {1}


def test_the_order_and_the_times_repeat_with_the_seed():
    def deal(seed):
        times = random_cases(Random(seed))
        return steady_cases_in_a_row(over_files=True, random=Random(seed)) + [next(times) for _ in range(5)]

    assert deal(1) == deal(1)
    assert deal(1) != deal(2)


def strike(batch, **figures):
    case = Case("K7 target written", Kill(AtPoint(Point.TARGET_AFTER), Victims.PYTHON))
    return Strike(case, was_killed=True, batch=batch, **figures)


def lane(*strikes):
    return Lane("x", TABLES, None, None, None, 1, 1, ends_by_itself=True, strikes=list(strikes))


@pytest.mark.parametrize(("batch", "blamed"), [(0, 2), (1, 0), (2, 0), (3, 1), (9, 2), (None, 2)])
def test_a_broken_id_is_blamed_on_the_last_kill_in_its_batch_or_before(batch, blamed):
    one = lane(strike(1), strike(3), strike(5))
    one._blame("lost", batch)
    assert [strike.lost for strike in one.strikes].index(1) == blamed


class AlwaysKilled:
    """Stands for a nemesis: each run is killed, 5 seconds to its first commit."""

    def run(self, *_):
        return Outcome(was_killed=True, exit_code=-9, recovery_seconds=5.0, spark_seconds=3.0)


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [(AtPoint(Point.TARGET_AFTER), 5.0), (AtFile(Path("log"), "x", is_fleeting=True), None)],
)
def test_a_recovery_counts_if_nothing_slows_the_run_that_recovers(moment, seconds):
    one = lane(strike(1))
    one.nemesis = AlwaysKilled()
    one._run_once(Case("next", Kill(moment, Victims.BOTH)))
    assert one.strikes[0].recovery_seconds == seconds


def printed(*results):
    console = Console(width=200, record=True, file=None)
    with console.capture() as captured:
        console.print(make_table(results))
    return {line.split("  ")[0].strip(): line.split() for line in captured.get().splitlines() if line.strip()}


def test_the_table_counts_kills_and_victims_and_what_of_a_recovery_is_not_the_start_of_spark():
    one = lane(
        strike(1, recovery_seconds=4.0, spark_seconds=3.0, wall_seconds=9.0, cpu_seconds=11.0),
        strike(2, doubled=3, recovery_seconds=6.0, wall_seconds=11.0, cpu_seconds=13.0),
    )
    rows = printed(make_result(one))
    assert rows["K7 target written"][-9:] == ["2", "2", "0", "3", "0", "5.0", "6.0", "1.0", "1.0"]
    assert rows["of these, Python only (K18)"][-9:] == rows["K7 target written"][-9:]
    assert describe_cost([make_result(one)]).startswith("a killed run took 10.0 s, and 12.0 CPU seconds")


def test_results_outlive_the_process_and_add_up(tmp_path):
    results = [make_result(lane(strike(1))), make_result(lane(strike(2, lost=1, recovery_seconds=2.5)))]
    for number, result in enumerate(results):
        folder = tmp_path / str(number) / "x"
        folder.mkdir(parents=True)
        save_result(folder, result)
    found = [*load_results(tmp_path / "0"), *load_results(tmp_path / "1")]
    assert found == results
    assert load_results(tmp_path / "2") == []
    assert printed(*found)["all, 0 ids"][-7:] == ["2", "2", "1", "0", "0", "2.5", "2.5"]


def test_the_lanes_of_a_plan_hold_the_matrix_once_and_random_times_beyond_it(tmp_path, monkeypatch):
    monkeypatch.setattr(workshop, "create_topic", lambda *_: None)
    shop = Workshop(tmp_path, seed=1, rows=10)
    plans = workshop.plan(shop, "x:1", 360)
    assert len({one.name for one in plans}) == len(plans)
    cases = [case for one in plans for case in one.choose(Lane(one.name, TABLES, *[None] * 3, 1, 1, True))]
    assert 350 <= len(cases) <= 360
    scripted = [case for case in cases if case.name != "any time"]
    whole = [
        *steady_cases_in_a_row(over_files=True, random=Random(1)) * 2,
        *steady_cases_in_a_row(over_files=False, random=Random(1)) * 2,
    ]
    whole += creation_cases(TABLES) + schema_cases(TABLES, Random(1)) * 2
    assert Counter(case.name for case in scripted) == Counter(case.name for case in whole)
    few = workshop.plan(shop, "x:1", 60)
    assert 55 <= sum(len(one.choose(Lane(one.name, TABLES, *[None] * 3, 1, 1, True))) for one in few) <= 70
