"""Rows of the ledger -> what Airflow says of them: the extra of an asset event, the reason of a held batch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Batch = Mapping[str, Any]
"""One row of the ledger, as `esclusa status --json` writes it."""
_NOTES = ("replayed", "maintained", "deleted")
"""Rows that say nothing of the batches that come one after the other."""


def event_extra(batches: Sequence[Batch], last: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What was committed behind the last event's batch, or at all without one; None if no row reached the target.

    It is the ledger that counts, not the task: rows that a killed or held run committed are in the next event.
    """
    done = [batch for batch in _behind(batches, last) if batch["status"] == "done"]
    counts = _count(done)
    if counts is None:
        return None
    return counts | {"query_id": done[-1]["query_id"], "batch_ids": [batch["batch_id"] for batch in done]}


def reaches_back(batches: Sequence[Batch], last: Mapping[str, Any] | None) -> bool:
    """Whether the last event's batch is among these, so that all those behind it are."""
    return _place_of(batches, last) is not None


def backfill_extra(batches: Sequence[Batch], events: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What was committed of an interval, whichever of its folders it is of, and is in none of these events' extras.

    Batches are named in pairs of query and number. Events of live runs name theirs otherwise.
    """
    done = [batch for batch in batches if batch["status"] == "done"]
    told = {tuple(pair) for event in events for pair in event.get("batches", ())} if done else set()
    new = [batch for batch in done if (batch["query_id"], batch["batch_id"]) not in told]
    counts = _count(new)
    if counts is None:
        return None
    return counts | {
        "pipelines": list(dict.fromkeys(batch["pipeline"] for batch in new)),
        "batches": [[batch["query_id"], batch["batch_id"]] for batch in new],
    }


def _count(done: Sequence[Batch]) -> dict[str, Any] | None:
    rows = sum(batch["rows_written"] for batch in done)
    if not rows:
        return None
    return {
        "rows": rows,
        "quarantined": sum(batch["rows_quarantined"] for batch in done),
        "target_version": max(batch["target_version"] for batch in done if batch["target_version"] is not None),
    }


def _behind(batches: Sequence[Batch], last: Mapping[str, Any] | None) -> Sequence[Batch]:
    place = _place_of(batches, last)
    return batches if place is None else batches[place + 1 :]


def _place_of(batches: Sequence[Batch], last: Mapping[str, Any] | None) -> int | None:
    """Where the newest row of the last event's batch stands."""
    if last is None:
        return None
    known = (last["query_id"], last["batch_ids"][-1])
    places = [place for place, batch in enumerate(batches) if (batch["query_id"], batch["batch_id"]) == known]
    return places[-1] if places else None


def held_batch(batches: Sequence[Batch]) -> Batch | None:
    """The batch that waits for a decision; None if none is held, or if a decision on it was taken already.

    Of several pipelines the first that has one.
    """
    newest = {batch["pipeline"]: batch for batch in batches if batch["status"] not in _NOTES}
    return next((batch for batch in newest.values() if batch["status"] == "held"), None)


def held_reason(batches: Sequence[Batch]) -> str:
    """Why the newest batch is held: its message, and the failing checks with their counts."""
    batch = held_batch(batches)
    if batch is None:
        return "the ledger names no held batch"
    failing = [
        f"{check['name']} ({check['unexpected_count']:,} rows)" if check["unexpected_count"] else check["name"]
        for check in failing_checks(batch)
    ]
    checks = f"; failing checks: {', '.join(failing)}" if failing else ""
    return f"batch {batch['batch_id']} is held: {batch['message']}{checks}"


def failing_checks(batch: Batch) -> Sequence[Mapping[str, Any]]:
    """Checks of a batch that failed, as the ledger has them."""
    return [check for check in batch["checks"] if not check["success"]]
