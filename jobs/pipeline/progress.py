"""What a run says while it runs: a live line a pipeline in a terminal, one JSON object a line elsewhere."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs.pipeline.errors import EsclusaError
from jobs.pipeline.ledger import BatchRecord
from jobs.pipeline.model import Pipeline
from jobs.pipeline.sources.file_faults import SkippedFile
from jobs.pipeline.summary import RunSummary, print_summary
from jobs.pipeline.terminal import open_console


class Progress(Protocol):
    """Told of everything that happens in a run; called from any thread."""

    def note(self, text: str) -> None:
        """Something takes a while."""

    def begin(self, pipeline: Pipeline) -> None:
        """A pipeline is about to start."""

    def absent(self, pipeline: Pipeline) -> None:
        """The archive has no such folder; told in place of all that follows `begin`."""

    def skipped(self, pipeline: Pipeline, files: list[SkippedFile]) -> None:
        """Landed files that the run does not read; told once, after the start, if there are any."""

    def batch(self, record: BatchRecord) -> None:
        """A batch is in the ledger."""

    def end(self, pipeline: Pipeline) -> None:
        """A pipeline has ended well."""

    def failed(self, pipeline: Pipeline, error: EsclusaError) -> None:
        """A pipeline has ended with an error."""


@contextmanager
def open_progress() -> Iterator[Progress]:
    """A Progress for standard output, for the time of the body: for people in a terminal, for machines elsewhere."""
    if not sys.stdout.isatty():
        yield JsonProgress()
        return
    with open_summary(open_console()) as progress:
        yield progress


@contextmanager
def open_summary(console: Console) -> Iterator[Progress]:
    """A live table (in a terminal), and at the end what happened, pipeline by pipeline."""
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        progress = LiveProgress(live)
        yield progress
    for summary in progress.summaries.values():
        print_summary(console, summary)


class JsonProgress:
    """One JSON object a line; control characters in data are escaped by JSON itself."""

    def note(self, text: str) -> None:
        """Silent: nothing a machine would wait for."""

    def begin(self, pipeline: Pipeline) -> None:
        """`start` event."""
        self._write({"event": "start", "pipeline": pipeline.name})

    def absent(self, pipeline: Pipeline) -> None:
        """`absent` event: the folder that is not there."""
        source = pipeline.spec.source
        self._write({"event": "absent", "pipeline": pipeline.name, "path": getattr(source, "path", None)})

    def skipped(self, pipeline: Pipeline, files: list[SkippedFile]) -> None:
        """`skipped` event: paths and reasons."""
        self._write({"event": "skipped", "pipeline": pipeline.name, "files": [asdict(file) for file in files]})

    def batch(self, record: BatchRecord) -> None:
        """`batch` event: the ledger's row without the per-check details of checks that passed, and without data."""
        row = record.as_row()
        del row["examples"]
        row["checks"] = [check for check in row["checks"] if check["unexpected_count"] or not check["success"]]
        row["duration_ms"] = record.duration_ms
        row["source_range"] = json.loads(record.source_range)
        self._write({"event": "batch", **row})

    def end(self, pipeline: Pipeline) -> None:
        """`end` event."""
        self._write({"event": "end", "pipeline": pipeline.name})

    def failed(self, pipeline: Pipeline, error: EsclusaError) -> None:
        """`failed` event, with the error's stable code."""
        self._write({"event": "failed", "pipeline": pipeline.name, "code": error.code, "message": str(error)})

    def _write(self, event: dict[str, object]) -> None:
        try:
            print(json.dumps(event, default=str) + "\n", end="", flush=True)  # one write: other threads print too
        except BrokenPipeError as error:
            _speak_no_more(error)
        except OSError as error:  # a disk that is full now may not be so later
            _say_on_stderr(f"standard output takes nothing: {error}")


def _speak_no_more(error: OSError) -> None:
    """That nobody listens any more stops no batch, and is no exit code of a run that went well."""
    _say_on_stderr(f"standard output takes no more: {error}; the run goes on without")
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _say_on_stderr(text: str) -> None:
    with suppress(OSError):
        print(text, file=sys.stderr)


@dataclass(slots=True)
class LiveProgress:
    """A table that is redrawn after every batch: rows, rate, what is left, quarantine share."""

    live: Live
    summaries: dict[str, RunSummary] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Shown until the first batch."""
        self.live.update(Text(f"… {text}", style="dim"))

    def begin(self, pipeline: Pipeline) -> None:
        """Adds the pipeline's line."""
        self.summaries[pipeline.name] = RunSummary(pipeline, started=time.monotonic())
        self._draw()

    def absent(self, pipeline: Pipeline) -> None:
        """Marks the pipeline's line."""
        self.summaries[pipeline.name].state = "no such folder, nothing to read"
        self._draw()

    def skipped(self, pipeline: Pipeline, files: list[SkippedFile]) -> None:
        """Shown in the summary."""
        self.summaries[pipeline.name].skipped = files

    def batch(self, record: BatchRecord) -> None:
        """Updates the pipeline's line."""
        self.summaries[record.pipeline].add(record)
        self._draw()

    def end(self, pipeline: Pipeline) -> None:
        """Marks the pipeline's line."""
        self.summaries[pipeline.name].state = "caught up"
        self._draw()

    def failed(self, pipeline: Pipeline, error: EsclusaError) -> None:
        """Marks the pipeline's line with the error's code."""
        self.summaries[pipeline.name].state = error.code
        self._draw()

    def _draw(self) -> None:
        table = Table(box=None, header_style="dim")
        for title in ("pipeline", "batches", "rows", "rows/s", "left", "quarantined", "state"):
            table.add_column(title, justify="left" if title in {"pipeline", "state"} else "right")
        for summary in list(self.summaries.values()):  # others begin meanwhile
            table.add_row(*summary.as_cells())
        self.live.update(table)
