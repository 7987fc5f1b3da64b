import shutil
import signal
import sys

import pytest

from jobs.pipeline.failpoints import MARK, VARIABLE
from jobs.testing import nemesis as module
from jobs.testing.nemesis import AtFile, AtPoint, AtTime, HungError, Kill, Nemesis, Victims

SLEEP = "import time; time.sleep(30)"


def nemesis(folder, script, *arguments):
    return Nemesis([sys.executable, "-c", script, *map(str, arguments)], folder / "log", [folder / "table"])


def test_a_run_without_a_kill_ends_by_itself(tmp_path):
    outcome = nemesis(tmp_path, "raise SystemExit(3)").run()
    assert (outcome.was_killed, outcome.exit_code, outcome.recovery_seconds) == (False, 3, None)


def test_a_fail_point_that_was_not_reached_is_no_kill(tmp_path):
    assert not nemesis(tmp_path, "").run(Kill(AtPoint("a", 1), Victims.BOTH)).was_killed


def test_a_fail_point_is_set_in_the_environment_and_proven_by_its_mark(tmp_path):
    script = f"import os, sys; sys.stderr.write({MARK!r} + os.environ[{VARIABLE!r}])"
    runs = nemesis(tmp_path, script)
    assert runs.run(Kill(AtPoint("a", 2), Victims.JVM)).was_killed
    assert (tmp_path / "log").read_text() == f"{MARK}a:2:kill9-jvm"
    runs.command = [sys.executable, "-c", ""]
    assert not runs.run(Kill(AtPoint("a", 2), Victims.JVM)).was_killed


@pytest.mark.parametrize("victims", [Victims.BOTH, Victims.PYTHON])
def test_the_nth_new_file_is_met_though_others_are_gone_and_older_ones_stay(tmp_path, victims):
    (tmp_path / "part-0").touch()
    script = f"""
import pathlib, sys, time
for n in (1, 2):
    file = pathlib.Path(sys.argv[1], f"part-{{n}}"); file.touch(); time.sleep(0.3); file.unlink()
{SLEEP}"""
    outcome = nemesis(tmp_path, script, tmp_path).run(Kill(AtFile(tmp_path, r"part-\d", 2), victims))
    assert (outcome.was_killed, outcome.exit_code) == (True, -signal.SIGKILL)
    assert (tmp_path / "part-2").exists()


def test_a_time_may_begin_with_a_request_to_end(tmp_path):
    script = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
    assert nemesis(tmp_path, script).run(Kill(AtTime(0.3, 0.3), Victims.BOTH)).exit_code == -signal.SIGKILL
    assert nemesis(tmp_path, SLEEP).run(Kill(AtTime(0.3, 20), Victims.BOTH)).exit_code == -signal.SIGTERM


def test_a_kill_of_a_jvm_that_has_not_begun_waits_for_it(tmp_path):
    java = shutil.copy("/bin/sleep", tmp_path / "java")
    script = "import subprocess, sys; sys.exit(subprocess.call([sys.argv[1], '5']) == -9 and 9)"
    outcome = nemesis(tmp_path, script, java).run(Kill(AtTime(0), Victims.JVM))
    assert (outcome.was_killed, outcome.exit_code) == (True, 9)


def test_a_kill_that_hits_nobody_is_none(tmp_path):
    assert not nemesis(tmp_path, "").run(Kill(AtTime(0), Victims.JVM)).was_killed


def test_the_first_new_version_of_a_table_is_the_recovery(tmp_path):
    log = tmp_path / "table" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").touch()
    script = f"import pathlib, sys, time; pathlib.Path(sys.argv[1], '{1:020}.json').touch(); time.sleep(0.5)"
    assert nemesis(tmp_path, script, log).run().recovery_seconds > 0


def test_what_has_caught_up_is_asked_to_end(tmp_path):
    assert nemesis(tmp_path, SLEEP).run(None, lambda: True).exit_code == -signal.SIGTERM


@pytest.mark.fault("I9")
def test_a_run_that_does_not_end_is_killed_with_all_its_children_and_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LIMIT_SECONDS", 0.5)
    runs = nemesis(tmp_path, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])")
    with pytest.raises(HungError):
        runs.run()
    assert runs.bury_survivors() == []


@pytest.mark.fault("I11")
def test_children_that_outlive_their_parent_are_buried(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LIMIT_SECONDS", 0.5)
    runs = nemesis(tmp_path, f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}])")
    runs.run()
    assert len(runs.bury_survivors()) == 1
    assert runs.bury_survivors() == []
