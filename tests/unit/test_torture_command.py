import signal
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from math import inf
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from jobs.testing import torture
from jobs.testing.checker import Conservation
from jobs.testing.lane import Lane
from jobs.testing.tally import LaneResult, save_result
from jobs.testing.torture import Torture

NAMES = ("first", "second", "third")


@dataclass
class WaitingPlan:
    """A lane of no kills that is in flight until the session has said that it ends."""

    name: str
    begun: list[str]
    is_in_flight: threading.Event
    is_ending: threading.Event

    def run(self, _):
        self.begun.append(self.name)
        self.is_in_flight.set()
        assert self.is_ending.wait(10)
        return Lane(self.name, None, None, None, None, 1, 1, ends_by_itself=True)


class Listener:
    """Stands for a console."""

    def __init__(self):
        self.is_ending = threading.Event()

    def print(self, text):
        if text.startswith("interrupted"):
            self.is_ending.set()


def test_an_interrupted_session_audits_the_lanes_in_flight_and_begins_no_other(tmp_path, monkeypatch):
    begun, console, is_in_flight = [], Listener(), threading.Event()

    def interrupt(_):
        # Ctrl-C as it reaches the thread that waits; a signal of the test's own may come just before it waits.
        assert is_in_flight.wait(10)
        raise KeyboardInterrupt

    plans = [WaitingPlan(name, begun, is_in_flight, console.is_ending) for name in NAMES]
    monkeypatch.setattr(torture, "as_completed", interrupt)
    monkeypatch.setattr(torture, "plan", lambda *_: plans)
    monkeypatch.setattr(torture, "run_baseline", lambda *_: Conservation(lost=["x"]))
    monkeypatch.setattr(torture, "running_broker", lambda *_: nullcontext(SimpleNamespace(servers="")))
    for name in NAMES:
        (tmp_path / name).mkdir()
    session = Torture(console, seed=1, kills=3, rows=1, lanes=1, minutes=inf, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        session.run()
    assert begun == ["first"]
    assert (tmp_path / "first" / "result.json").exists()


@pytest.fixture
def evidence(tmp_path):
    """Function: a folder of evidence with one lane of so many violations; the option that names it."""
    before = signal.getsignal(signal.SIGTERM)  # the command sets its own

    def write(name, violations):
        (tmp_path / name / "lane").mkdir(parents=True)
        save_result(tmp_path / name / "lane", LaneResult("lane", 10, violations, "", ()))
        return f"--sum={tmp_path / name}"

    yield write
    signal.signal(signal.SIGTERM, before)


def test_evidence_is_added_up_and_one_violation_is_a_failure(evidence):
    sound, broken = evidence("sound", 0), evidence("broken", 1)
    assert CliRunner().invoke(torture.main, [sound]).exit_code == 0
    assert CliRunner().invoke(torture.main, [sound, broken]).exit_code == 1


@pytest.mark.parametrize("name", ["nowhere", "empty", "sound/lane"])
def test_a_folder_without_evidence_is_no_sound_one(tmp_path, evidence, name):
    sound = evidence("sound", 0)
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(torture.main, [sound, f"--sum={tmp_path / name}"])
    assert done.exit_code == 2
    assert name in done.stderr
