"""What happened in one run of one pipeline, added up batch by batch, and how it is shown."""

import base64
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.pipeline.ledger import BatchRecord, Status
from jobs.pipeline.model import Pipeline
from jobs.pipeline.sources.file_faults import SkippedFile
from jobs.pipeline.terminal import printable

EXAMPLES_SHOWN = 2
_RAW_SHOWN = 110
_SKIPPED_SHOWN = 5


@dataclass(slots=True)
class RunSummary:
    """Sums over the batches of one run."""

    pipeline: Pipeline
    started: float
    state: str = "running"
    batches: int = 0
    rows_read: int = 0
    rows_written: int = 0
    rows_quarantined: int = 0
    rows_dropped: int = 0
    lag: int | None = None
    seconds: float = 0
    unexpected: Counter[str] = field(default_factory=Counter)
    dispositions: dict[str, str] = field(default_factory=dict)
    failed_batches: Counter[str] = field(default_factory=Counter)
    skipped: list[SkippedFile] = field(default_factory=list)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, record: BatchRecord) -> None:
        """Add one batch; a held one counts as read only in its own message."""
        self.lag = record.lag
        self.seconds = time.monotonic() - self.started
        if record.status is Status.HELD:
            return
        self.batches += 1
        self.rows_read += record.verdict.rows_read
        self.rows_written += record.rows_written
        self.rows_quarantined += record.verdict.rows_quarantined
        self.rows_dropped += record.rows_dropped
        self._add_checks(record)

    def _add_checks(self, record: BatchRecord) -> None:
        verdict = record.verdict
        if verdict.malformed.count:
            self.unexpected["malformed"] += verdict.malformed.count
            self.dispositions["malformed"] = "quarantine"
        for result in verdict.results:
            name = result.check.name
            self.dispositions[name] = result.check.on_failure.removeprefix("expect_or_")
            self.unexpected[name] += result.unexpected_count
            self.failed_batches[name] += not result.success
        for row in (*verdict.malformed.rows, *verdict.unfit.rows):
            for error in row["_errors"]:
                if len(self.examples[error["check"]]) < EXAMPLES_SHOWN:
                    self.examples[error["check"]].append({"message": error["message"], **row})

    @property
    def rows_per_second(self) -> float:
        """Rows read a second since the pipeline's start."""
        return self.rows_read / self.seconds if self.seconds else 0.0

    def as_cells(self) -> list[str]:
        """Cells of the live line."""
        share = self.rows_quarantined / self.rows_read if self.rows_read else 0.0
        left = "" if self.lag is None else f"{self.lag:,}"
        figures = [f"{self.batches:,}", f"{self.rows_read:,}", f"{self.rows_per_second:,.0f}", left, f"{share:.2%}"]
        return [self.pipeline.name, *figures, self.state]


def print_summary(console: Console, summary: RunSummary) -> None:
    """Counts, every check that found something with examples, and where the tables are."""
    name = summary.pipeline.name
    _print_skipped(console, summary.skipped)
    if not summary.batches:
        console.print(f"[bold]{name}[/]: {'nothing new' if summary.state == 'caught up' else summary.state}")
        return
    console.print(
        f"[bold]{name}[/]: read {summary.rows_read:,} rows in {summary.batches:,} batches: "
        f"{summary.rows_written:,} written, {summary.rows_quarantined:,} quarantined, {summary.rows_dropped:,} dropped "
        f"({summary.seconds:.1f} s, {summary.rows_per_second:,.0f} rows/s)"
    )
    _print_checks(console, summary)
    console.print(f"  table       {escape(summary.pipeline.spec.sink.path)}", soft_wrap=True)
    console.print(f"  quarantine  {escape(summary.pipeline.quarantine_path)}", soft_wrap=True)
    console.print(f"  ledger      {escape(summary.pipeline.ledger_path)}", soft_wrap=True)


def _print_skipped(console: Console, files: list[SkippedFile]) -> None:
    for file in files[:_SKIPPED_SHOWN]:
        console.print(f"  skipped     {escape(printable(file.path))}: {file.reason}", soft_wrap=True)
    if len(files) > _SKIPPED_SHOWN:
        console.print(f"  skipped     {len(files) - _SKIPPED_SHOWN:,} more files")


def _print_checks(console: Console, summary: RunSummary) -> None:
    found = {name: count for name, count in summary.unexpected.items() if count}
    failed = {name: count for name, count in summary.failed_batches.items() if count}
    if not found and not failed:
        console.print(f"  all {len(summary.dispositions)} checks hold for every row")
        return
    table = Table(box=None, padding=(0, 2, 0, 2))
    for title, justify in (("check", "left"), ("rows", "right"), ("then", "left"), ("for example", "left")):
        table.add_column(title, justify=justify, header_style="dim", no_wrap=title != "for example")  # type: ignore[arg-type]
    for name in found | failed:
        examples = "\n".join(escape(shown_raw(example)) for example in summary.examples.get(name, []))
        table.add_row(escape(name), f"{found.get(name, 0):,}", summary.dispositions[name], examples)
    console.print(table)


def shown_raw(example: dict[str, Any]) -> str:
    """A gathered row's raw record as one printable line, cut to length: data must not move the cursor."""
    raw = base64.b64decode(example.get("raw") or "").decode("utf-8", "replace")
    text = raw if len(raw) <= _RAW_SHOWN else raw[:_RAW_SHOWN] + "…"
    return printable(text)
