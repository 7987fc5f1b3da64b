"""What a run says must not stop it."""

import sys

from jobs.pipeline.progress import JsonProgress


class Closed:
    """Standard output of which nobody reads the other end."""

    tried = 0

    def write(self, _):
        self.tried += 1
        raise BrokenPipeError


def test_a_run_goes_on_when_nobody_listens_any_more(monkeypatch):
    closed = Closed()
    monkeypatch.setattr(sys, "stdout", closed)
    JsonProgress()._write({"event": "batch"})
    assert closed.tried == 1
