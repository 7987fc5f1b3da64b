import os
import signal
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


@dataclass
class InterruptingPlan:
    """A lane of no kills, in which the person at the keyboard has had enough."""

    name: str
    begun: list[str]
    were_dealt: threading.Event
    was_heard: threading.Event

    def run(self, _):
        self.begun.append(self.name)
        assert self.were_dealt.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        assert self.was_heard.wait(10)
        return Lane(self.name, None, None, None, None, 1, 1, ends_by_itself=True)


class Listener:
    """Stands for a console."""

    def __init__(self):
        self.was_heard = threading.Event()

    def print(self, text):
        if "interrupted" in text:
            self.was_heard.set()


def test_an_interrupted_session_audits_the_lanes_in_flight_and_begins_no_other(tmp_path, monkeypatch):
    begun, console, were_dealt = [], Listener(), threading.Event()
    names = ("first", "second", "third")

    def deal(*_):
        yield from (InterruptingPlan(name, begun, were_dealt, console.was_heard) for name in names)
        were_dealt.set()

    monkeypatch.setattr(torture, "plan", deal)
    monkeypatch.setattr(torture, "run_baseline", lambda *_: Conservation(lost=["x"]))
    monkeypatch.setattr(torture, "running_broker", lambda *_: nullcontext(SimpleNamespace(servers="")))
    for name in names:
        (tmp_path / name).mkdir()
    session = Torture(console, seed=1, kills=3, rows=1, lanes=1, minutes=inf, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        session.run()
    assert begun == ["first"]
    assert (tmp_path / "first" / "result.json").exists()
