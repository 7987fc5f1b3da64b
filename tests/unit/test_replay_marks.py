import pytest

from jobs.pipeline.replay import ReplayReport
from jobs.pipeline.replay_marks import Outcome, ReplayStep, finished_replays, replay_transaction
from jobs.replay_quarantine import describe


@pytest.mark.parametrize(
    ("recorded", "newest_in_target", "finished"), [([], 0, []), ([1, 2], 2, [1, 2]), ([1], 3, [1, 3])]
)
def test_marks_count_for_replays_of_the_ledger_and_the_newest_of_the_target(recorded, newest_in_target, finished):
    rows = [{"status": "replayed", "batch_id": number} for number in recorded] + [{"status": "done", "batch_id": 7}]
    assert finished_replays(rows, newest_in_target) == finished


def test_replays_of_one_pipeline_share_an_app_id_for_each_step_so_that_one_of_two_wins(bundle):
    orders, clicks = bundle.load("orders"), bundle.load("clicks")
    ids = [
        replay_transaction(pipeline, step, number)
        for pipeline in (orders, clicks)
        for step in ReplayStep
        for number in (1, 2)
    ]
    assert len({one.app_id for one in ids}) == 2 * len(ReplayStep)
    assert {one.version for one in ids} == {1, 2}


def test_a_report_shows_each_check_and_an_empty_one_says_so():
    report = ReplayReport({Outcome.WRITTEN: 1200}, {"small": {Outcome.WRITTEN: 1200}}, 1200)
    assert describe("p", report, is_dry=False) == [
        "p: 1,200 rows of the quarantine: 1,200 written, 0 quarantined, 0 dropped",
        "  check      written  quarantined      dropped",
        "  small        1,200            0            0",
    ]
    assert describe("p", ReplayReport({}, {}, 0), is_dry=True) == ["p: no row of the quarantine to replay"]
