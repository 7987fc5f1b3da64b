import threading
from contextlib import nullcontext
from dataclasses import dataclass
from math import inf
from types import SimpleNamespace

import pytest

from jobs.testing import torture
from jobs.testing.checker import Conservation
from jobs.testing.lane import Lane
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
