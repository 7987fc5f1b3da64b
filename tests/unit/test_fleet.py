import json

import pytest
from click.testing import CliRunner

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_fleet
from jobs.pipeline.errors import ConfError
from jobs.pipeline.fleet import find_fleets, find_members
from jobs.run_pipeline import main

PIPELINE = """\
source: {type: files, format: text, path: "${landing}/NAME"}
sink: {type: delta, path: "${lake}/NAME"}
"""


@pytest.fixture
def fleet(bundle):
    """Function: write a pipeline with more keys."""

    def write(name, more="fleet: small\nschedule: '@hourly'\n"):
        bundle.write(f"conf/pipelines/{name}.yml", PIPELINE.replace("NAME", name) + more)

    return write


def loaded(bundle, *names):
    pipelines, broken = load_fleet(Bundle(bundle.conf), "small", names)
    return [pipeline.name for pipeline in pipelines], sorted(broken)


def test_a_fleet_is_the_pipelines_that_name_it(bundle, fleet):
    fleet("a")
    fleet("b")
    fleet("c", "fleet: other\n")
    fleet("._b", "fleet: copied\n")
    fleet("._a")
    assert find_fleets(bundle.conf / "pipelines") == ["other", "small"]
    assert find_members(bundle.conf / "pipelines", "small") == {"a": "@hourly", "b": "@hourly"}
    assert loaded(bundle) == (["a", "b"], [])
    assert loaded(bundle, "b") == (["b"], [])


def test_members_have_one_schedule_and_the_first_says_which(bundle, fleet):
    fleet("a")
    fleet("b", "fleet: small\nschedule: '@daily'\n")
    fleet("c", "fleet: small\n")
    problems = bundle.problems("a", "b", "c")
    assert [(problem.file.rpartition("/")[2], problem.line, problem.path) for problem in problems] == [
        ("b.yml", 4, "schedule"),
        ("c.yml", 1, "schedule"),
    ]
    assert problems[0].message == "the fleet 'small' has one schedule: a.yml says '@hourly', this one '@daily'"


def test_a_member_that_runs_after_its_own_fleet_waits_for_itself(bundle, fleet):
    fleet("a", "fleet: small\nschedule: {after: [b]}\n")
    fleet("b", "fleet: small\nschedule: {after: [b]}\n")
    assert any("wait for itself" in problem.message for problem in bundle.problems("a", "b"))


@pytest.mark.parametrize("more", ["fleet: small\ntrigger: {processing_time: 1 second}\n", "fleet: Big Ships\n"])
def test_what_never_ends_or_has_no_name_is_in_no_fleet(bundle, fleet, more):
    fleet("a", more)
    [problem] = bundle.problems("a")
    assert "fleet" in str(problem)


@pytest.mark.parametrize("others", [(), ("b",)])
def test_a_fleets_name_is_written_out(bundle, fleet, others):
    bundle.edit("conf/targets/local.yml", "variables:\n", "variables:\n  fl: small\n")
    for name in others:
        fleet(name)
    fleet("a", "fleet: ${fl}\n")
    [problem] = bundle.problems("a")
    assert (problem.line, problem.path) == (3, "fleet")
    assert "write out 'small'" in problem.message


def test_a_fleets_name_that_is_no_text_takes_no_other_fleet_down(bundle, fleet):
    fleet("a")
    fleet("b", "fleet: [small]\n")
    assert find_fleets(bundle.conf / "pipelines") == ["small"]
    assert loaded(bundle) == (["a"], [])
    [problem] = bundle.problems("b")
    assert problem.path == "fleet"


def test_a_broken_member_leaves_the_others_and_a_file_that_is_none_of_it_does_not_matter(bundle, fleet):
    fleet("a")
    fleet("b", "fleet: small\nschedule: '@hourly'\nsinck: 1\n")
    bundle.write("conf/pipelines/stranger.yml", "fleet: [")
    assert loaded(bundle) == (["a"], ["b"])


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [("smal", (), "did you mean 'small'; fleets: small"), ("small", ("orders",), "has no pipeline 'orders'")],
)
def test_who_is_in_no_fleet_is_told(bundle, fleet, name, names, expected):
    fleet("a")
    with pytest.raises(ConfError) as caught:
        load_fleet(Bundle(bundle.conf), name, names)
    assert expected in str(caught.value)


def test_a_fleet_of_broken_members_ends_with_2_and_says_so_of_each(bundle, fleet, tmp_path):
    fleet("a", "fleet: small\nsinck: 1\n")
    results = tmp_path / "results"
    done = CliRunner().invoke(main, ["--fleet", "small", "--results", str(results), "--conf", str(bundle.conf)])
    assert done.exit_code == 2
    assert "a.yml:4: sinck: unknown key" in done.stderr
    ended = json.loads((results / "a.json").read_text())
    assert (ended["pipeline"], ended["exit_code"], ended["code"]) == ("a", 2, "CONF_INVALID")


def test_a_run_of_nothing_is_refused(bundle):
    done = CliRunner().invoke(main, ["--conf", str(bundle.conf)])
    assert done.exit_code == 2
    assert "name a pipeline, or --fleet" in done.stderr
