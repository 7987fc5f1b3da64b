"""Folders of an archive, each a pipeline of its own beside the live one, which goes on as if they were not there."""

import hashlib
import json
import shutil

import pytest
from click.testing import CliRunner

from jobs.cli import main
from jobs.pipeline.errors import BatchHeldError, EsclusaError, UnavailableError
from jobs.pipeline.failpoints import Point, arm
from jobs.pipeline.progress import JsonProgress
from jobs.pipeline.replay import Selection, replay
from jobs.pipeline.side_by_side import run_side_by_side

pytestmark = pytest.mark.usefixtures("handlers")

DAY1, DAY2, DAY3 = (f"2026-01-0{number}" for number in (1, 2, 3))


@pytest.fixture
def archived(bench):
    """The bench, whose pipeline has an archive by day; ids 1 and 2 of the first, 3 of the second, none of the third."""
    rest = f"schedule: '@daily'\nbackfill: {{path: '{bench.folder}/archive/%Y-%m-%d'}}\n"
    bench.define_files("csv", "{maxFilesPerTrigger: 1}", rest=rest)
    bench.write(f"archive/{DAY1}/a.csv", "1,a\n")
    bench.write(f"archive/{DAY1}/b.csv", "2,b\n")
    bench.write(f"archive/{DAY2}/a.csv", "3,c\n")
    return bench


def run_interval(bench, *days, live=False):
    """Exit codes of the folders, run side by side, and of the live pipeline with them."""
    names = [*(["p"] if live else []), *(f"p@{day}" for day in days)]
    return run_side_by_side(bench.spark, list(map(bench.load, names)), JsonProgress(), lambda _: None)


def ids(bench):
    return sorted(row["id"] for row in bench.target())


def progress_of(bench, name="p"):
    """All that says how far a pipeline is: the files of its checkpoint, and its ledger, by their content."""
    places = [bench.folder / f"state/{kind}/{name}" for kind in ("checkpoints", "ledger", "leases")]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_each_folder_is_read_once_and_the_live_pipeline_does_not_notice(archived):
    archived.write("landing/now.csv", "9,z\n")
    archived.run()
    before = progress_of(archived)
    assert run_interval(archived, DAY1, DAY2) == [0, 0]
    assert ids(archived) == [1, 2, 3, 9]
    version = archived.ledger(f"p@{DAY2}")[-1]["target_version"]
    assert [(row["pipeline"], row["status"], row["rows_written"]) for row in archived.ledger(f"p@{DAY1}")] == [
        (f"p@{DAY1}", "done", 1),
        (f"p@{DAY1}", "done", 1),
    ]
    assert run_interval(archived, DAY1, DAY2) == [0, 0]
    assert (ids(archived), progress_of(archived)) == ([1, 2, 3, 9], before)
    assert len(archived.ledger(f"p@{DAY2}")) == 1
    assert archived.ledger(f"p@{DAY2}")[-1]["target_version"] == version
    archived.write("landing/later.csv", "8,y\n")
    [batch] = archived.run()
    assert (batch.batch_id, ids(archived)) == (1, [1, 2, 3, 8, 9])


def test_folders_and_the_live_pipeline_write_one_new_table_side_by_side(archived):
    archived.write("landing/now.csv", "9,z\n")
    assert run_interval(archived, DAY1, DAY2, live=True) == [0, 0, 0]
    assert ids(archived) == [1, 2, 3, 9]


def test_a_file_that_comes_late_to_its_folder_is_read_by_the_next_run_of_it(archived):
    run_interval(archived, DAY2)
    archived.write(f"archive/{DAY2}/late.csv", "4,d\n")
    run_interval(archived, DAY2)
    assert ids(archived) == [3, 4]


def test_a_folder_that_is_not_there_is_done_and_says_so(archived, capsys):
    assert run_interval(archived, DAY3) == [0]
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["event"], one["pipeline"]) for one in events] == [("start", f"p@{DAY3}"), ("absent", f"p@{DAY3}")]
    assert events[1]["path"] == f"{archived.folder}/archive/{DAY3}"
    assert not (archived.folder / "state").exists()


def test_a_folder_that_was_begun_and_is_gone_is_a_failure(archived):
    run_interval(archived, DAY1)
    shutil.rmtree(archived.folder / "archive" / DAY1)
    with pytest.raises(UnavailableError):
        archived.run(f"p@{DAY1}")


@pytest.mark.parametrize("point", [Point.QUARANTINE_AFTER, Point.TARGET_AFTER])
def test_a_run_of_a_folder_that_died_is_finished_by_the_next_and_doubles_nothing(archived, monkeypatch, point):
    archived.write("landing/now.csv", "9,z\n")
    archived.run()
    before = progress_of(archived)
    with monkeypatch.context() as patched:
        patched.setattr("jobs.pipeline.commit.reach", arm(f"{point}:2:raise"))
        with pytest.raises(EsclusaError):
            archived.run(f"p@{DAY1}")
    assert 9 in ids(archived)
    archived.run(f"p@{DAY1}")
    assert (ids(archived), progress_of(archived)) == ([1, 2, 9], before)


def test_a_held_batch_of_a_folder_holds_that_folder_alone_and_is_released_by_its_name(archived, expect):
    archived.suite(expect("column_values_to_be_between", "id", max_value=8, name="small", on_failure="expect_or_fail"))
    archived.write(f"archive/{DAY2}/bad.csv", "99,x\n4,d\n")
    with pytest.raises(BatchHeldError):
        archived.run(f"p@{DAY2}")
    assert run_interval(archived, DAY1, live=True) == [0, 0]
    held = archived.ledger(f"p@{DAY2}")[-1]
    assert (held["status"], 4 in ids(archived)) == ("held", False)
    words = ["--batch", str(held["batch_id"]), "--quarantine", "--conf", str(archived.folder / "conf")]
    done = CliRunner().invoke(main, ["release", f"p@{DAY2}", *words])
    assert (done.exit_code, done.stdout) == (
        0,
        f"batch {held['batch_id']} of p@{DAY2}: quarantine; carried out by the next run\n",
    )
    archived.run(f"p@{DAY2}")
    assert ids(archived) == [1, 2, 3, 4]


def test_the_quarantine_is_the_live_pipelines_and_so_is_its_replay(archived, expect):
    archived.suite(expect("column_values_to_be_between", "id", max_value=2, name="small"))
    run_interval(archived, DAY1, DAY2)
    [row] = archived.quarantine()
    assert (row["pipeline"], row["source"]["path"].endswith(f"/archive/{DAY2}/a.csv")) == ("p", True)
    archived.suite(expect("column_values_to_be_between", "id", max_value=3, name="small"))
    report = replay(archived.spark, archived.load(), Selection(), is_dry=False)
    assert (report.rows_written, ids(archived)) == (1, [1, 2, 3])


def test_the_checkpoint_of_a_folder_can_be_looked_at_by_its_name(archived):
    run_interval(archived, DAY1)
    for word in ("show", "verify"):
        done = CliRunner().invoke(main, ["checkpoint", word, f"p@{DAY1}", "--conf", str(archived.folder / "conf")])
        assert (done.exit_code, f"p@{DAY1}" in done.stdout) == (0, True)
