import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs import __version__
from jobs.cli import main

ROOT = Path(__file__).parents[2]
LOCATED = re.compile(r"^\S+:\d+: ")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="esclusa")


def commands_of(group, *path):
    """Every command under a group, as the words that call it."""
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands_of(command, *path, name)


def test_the_shipped_conf_is_valid():
    result = run("check", "--conf", ROOT / "conf")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "conf is valid for target local" in result.stdout


def test_check_counts_what_it_read(bundle):
    result = run("check", "--conf", bundle.conf)
    assert result.stdout.startswith("2 pipelines, 1 checks")


def test_check_shows_every_problem_as_file_and_line(bundle):
    bundle.edit("conf/pipelines/orders.yml", "header:", "heder:")
    bundle.edit("conf/pipelines/clicks.yml", "10 seconds", "10s")
    bundle.edit("conf/schemas/orders.ddl", "BIGINT", "BIGNIT")
    result = run("check", "--conf", bundle.conf)
    *problems, verdict = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (2, "")
    assert [bool(LOCATED.match(line)) for line in problems] == [True] * 3
    assert [line.split(": ")[0] for line in problems] == [
        f"{bundle.conf}/pipelines/clicks.yml:12",
        f"{bundle.conf}/pipelines/orders.yml:8",
        f"{bundle.conf}/schemas/orders.ddl:2",
    ]
    assert verdict.startswith("CONF_INVALID: 3 problems")


def test_one_problem_is_one(bundle):
    bundle.edit("conf/pipelines/orders.yml", "header:", "heder:")
    result = run("check", "--conf", bundle.conf)
    assert result.stderr.splitlines()[-1].startswith("CONF_INVALID: 1 problem;")


@pytest.mark.parametrize("command", ["run", "plan", "status"])
def test_a_pipeline_that_does_not_exist_ends_before_anything_starts(bundle, command):
    result = run(command, "--conf", bundle.conf, "order")
    assert result.exit_code == 2
    assert "no pipeline 'order'; did you mean 'orders'; there are: clicks, orders" in result.stderr


@pytest.mark.parametrize("command", ["run", "plan", "status", "check"])
def test_a_conf_directory_that_does_not_exist_is_named(command, tmp_path):
    result = run(command, "--conf", tmp_path / "nowhere", *(["orders"] if command != "check" else []))
    assert result.exit_code == 2
    assert f"{tmp_path}/nowhere/pipelines: no such directory" in result.stderr


@pytest.mark.parametrize(
    ("given", "exit_code"), [("lake=/l", 0), ("lake=/b=c", 0), ("lake=", 0), ("lake", 2), ("=x", 2)]
)
def test_a_variable_is_given_as_key_and_value(bundle, given, exit_code):
    assert run("check", "--conf", bundle.conf, "--var", given).exit_code == exit_code


def test_a_variable_of_the_command_line_counts(bundle):
    bundle.edit("conf/pipelines/orders.yml", "${lake}", "${warehouse}")
    assert run("check", "--conf", bundle.conf).exit_code == 2
    assert run("check", "--conf", bundle.conf, "--var", "warehouse=/w").exit_code == 0


@pytest.mark.parametrize(
    "command", [["check"], ["run", "orders"], ["run", "--fleet", "f"], ["checkpoint", "show", "orders"]]
)
def test_a_variable_that_nothing_uses_is_refused(bundle, command):
    bundle.edit("conf/pipelines/orders.yml", "trigger:", "fleet: f\ntrigger:")
    done = run(*command, "--conf", bundle.conf, "--var", "laek=/l")
    assert done.exit_code == 2
    assert "--var: laek: target 'local' does not define it" in done.stderr
    assert "did you mean 'lake'" in done.stderr
    assert "1 problem;" in done.stderr


def test_status_of_a_pipeline_that_has_not_run_is_no_failure(bundle):
    assert run("status", "--conf", bundle.conf).exit_code == 0
    assert run("status", "--conf", bundle.conf, "--json", "orders").stdout == ""


@pytest.mark.parametrize("command", ["show", "verify"])
@pytest.mark.parametrize("text", ["", '{"id":"1', "{}", "[]", "7"])
def test_a_checkpoint_whose_metadata_are_torn_is_damaged(bundle, command, text):
    bundle.write("data/state/checkpoints/orders/metadata", text)
    done = run("checkpoint", command, "--conf", bundle.conf, "orders")
    assert (done.exit_code, done.stderr.partition(":")[0]) == (6, "CHECKPOINT_DAMAGED")


@pytest.mark.parametrize("given", [[], ["--quarantine", "--drop"], ["--accept", "--quarantine"]])
def test_a_held_batch_takes_one_decision(bundle, given):
    done = run("release", "--conf", bundle.conf, "orders", "--batch", 0, *given)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "exactly one of --quarantine, --accept, --drop is needed" in done.stderr


def test_a_decision_that_is_given_twice_is_one(bundle):
    done = run("release", "--conf", bundle.conf, "orders", "--batch", 0, "--drop", "--drop")
    assert done.exit_code == 6
    assert "NOT_HELD" in done.stderr


def test_version():
    assert run("--version").stdout.strip().endswith(__version__)


@pytest.mark.parametrize("path", list(commands_of(main)), ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself(path, flag):
    result = run(*path, flag)
    usage, _, text = result.stdout.partition("\n\n")
    assert result.exit_code == 0
    assert usage.startswith(" ".join(["Usage: esclusa", *path]))
    assert text.strip()


def test_the_help_names_every_command_and_run_its_exit_codes():
    listed = run("--help").stdout
    assert [name for name in main.commands if f"\n  {name} " not in listed] == []
    explained = run("run", "--help").stdout
    assert [code for code in "0123456" if not re.search(rf"\b{code} \w+", explained)] == []


def test_options_shared_by_commands_read_the_same():
    for name in ("run", "check", "plan", "status", "release", "replay", "demo"):
        listed = run(name, "--help").stdout
        assert [option for option in ("--conf", "--target", "--var") if option not in listed] == []
