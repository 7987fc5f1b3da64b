"""What a local Airflow notes of its processes, and what it takes for its own; the processes here are any others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.dev import airflow
from jobs.dev.airflow import Place, running_airflow, stop_airflow
from jobs.dev.airflow_api import ApiError, wait_for
from jobs.dev.processes import start_ticks
from jobs.pipeline.errors import AlreadyRunningError, UnavailableError


@pytest.fixture
def component(tmp_path):
    """A process that the home holds for its scheduler."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    airflow._write_pid(tmp_path, "scheduler", process.pid)
    yield process
    process.kill()
    process.wait()


def test_a_component_is_ended_and_forgotten(tmp_path, component):
    assert stop_airflow(tmp_path)
    assert start_ticks(component.pid) is None
    assert not stop_airflow(tmp_path), "nothing is left"


def test_a_later_process_with_the_same_id_is_left_alone(tmp_path, component):
    (tmp_path / "pids/scheduler.pid").write_text(f"{component.pid} 1\n")
    assert not stop_airflow(tmp_path)
    assert start_ticks(component.pid) is not None


def test_a_home_in_which_an_airflow_runs_is_refused(tmp_path, component):
    with pytest.raises(AlreadyRunningError, match=str(component.pid)), running_airflow(Place(tmp_path, tmp_path, {})):
        pass
    assert start_ticks(component.pid) is not None


def test_a_database_that_cannot_be_set_up_starts_nothing_and_leaves_nothing(tmp_path):
    command = tmp_path / "environment/bin/airflow"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\necho no database >&2\nexit 1\n")
    command.chmod(0o755)
    home = tmp_path / "home"
    with pytest.raises(UnavailableError, match="migrate.log"), running_airflow(Place(home, command.parents[1], {})):
        pass
    assert (home / "logs/migrate.log").read_text() == "no database\n"
    assert list((home / "pids").iterdir()) == []
    assert home.stat().st_mode & 0o077 == 0


def test_servers_listen_on_loopback_alone_and_settings_win():
    variables = Place(Path("/h"), Path("/e"), {"x": Path("/d")}, settings={"AIRFLOW__API__PORT": "1"}).variables(7)
    assert variables["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert variables["AIRFLOW__API__PORT"] == "1"
    assert variables["PATH"] == os.environ["PATH"]
    assert Place(Path("/h"), Path("/e"), {}, database="postgresql://x").variables(7)[
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    ] == ("postgresql://x")


def test_waiting_says_what_was_seen_last():
    def look():
        raise ApiError(503, "away")

    with pytest.raises(UnavailableError, match="a run: not within 0 s; last seen: 503: away"):
        wait_for("a run", look, seconds=0.01)
    assert wait_for("a run", iter([None, "", "done"]).__next__) == "done"
