"""The ledger's last batches, as a table for people."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from jobs.pipeline.terminal import open_console

_COLUMNS = ("batch", "ended (UTC)", "status", "read", "written", "quarantined", "dropped", "left", "seconds", "failing")


def print_batches(pipeline: str, batches: list[dict[str, Any]]) -> None:
    """Print a pipeline's batches, oldest first."""
    console = open_console()
    if not batches:
        console.print(f"[bold]{pipeline}[/]: no batch yet")
        return
    table = Table(title=pipeline, title_justify="left", title_style="bold", box=None, header_style="dim")
    for title in _COLUMNS:
        table.add_column(title, justify="left" if title in {"ended (UTC)", "status", "failing"} else "right")
    for batch in batches:
        table.add_row(*_cells(batch))
    console.print(table)


def _cells(batch: dict[str, Any]) -> list[str]:
    counts = [f"{batch[f'rows_{kind}']:,}" for kind in ("read", "written", "quarantined", "dropped")]
    left = "" if batch["lag"] is None else f"{batch['lag']:,}"
    seconds = dict(batch["duration_ms"])["total"] / 1000
    ended = f"{batch['finished_at']:%Y-%m-%d %H:%M:%S}"
    return [str(batch["batch_id"]), ended, batch["status"], *counts, left, f"{seconds:.1f}", escape(_failing(batch))]


def _failing(batch: dict[str, Any]) -> str:
    failing = [check for check in batch["checks"] if not check["success"]]
    return batch["message"] or ", ".join(map(_shown, failing))


def _shown(check: dict[str, Any]) -> str:
    """Checks of the columns and the batch have no rows that break them."""
    return f"{check['name']} ({check['unexpected_count']:,})" if check["unexpected_count"] else check["name"]
