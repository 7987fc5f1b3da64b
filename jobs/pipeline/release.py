"""A person's decision on a held batch: recorded in the ledger, and what it makes of the rules for that one batch.

The decision is a ledger row of its own, so that a run which carries it out may die and be repeated: it finds the same
decision again, and the batch's writes have their transactions as ever.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from jobs.pipeline.commit import Step, transaction
from jobs.pipeline.delta import TransactionId
from jobs.pipeline.errors import StateMismatchError
from jobs.pipeline.ledger import Status, name_operator, plan_number, rewind_app_id
from jobs.pipeline.model import Check, OnFailure, Pipeline, Scope
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.terminal import printable

_NAME_CHARACTERS = 100
_DECIDABLE = (Status.DONE, Status.HELD, Status.REWOUND)


class Decision(StrEnum):
    """What becomes of a held batch."""

    QUARANTINE = "quarantine"
    """Rows that broke a check that holds go to the quarantine, like the others that are set apart."""
    ACCEPT = "accept"
    """Rows that the batch was held for go to the target; malformed ones go to the quarantine."""
    DROP = "drop"
    """No row reaches target or quarantine; all are counted as dropped."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person says to a held batch."""

    decision: Decision
    by: str | None = None
    """Who it was, in whatever system they answered; None: the user of this process."""

    def __str__(self) -> str:
        user = name_operator()
        who = user if self.by is None else f"{printable(self.by[:_NAME_CHARACTERS])} through {user}"
        return f"released by {who}: {self.decision}"


@dataclass(frozen=True, slots=True)
class Release:
    """A decision as the ledger has it."""

    decision: Decision
    message: str
    """Who decided."""
    quarantined_share: float
    """Of the held batch's rows, 0 to 1: what halt_when looked at."""


def record_release(ledger: SmallTable, rows: list[dict[str, Any]], batch_id: int, answer: Answer) -> bool:
    """Append the decision to the ledger, whose rows are given; False if it is there already.

    Raises StateMismatchError if this is not the batch that is held now, or if another decision was taken for it.
    """
    held = _require_held(rows, batch_id)
    ledger.create()  # it is there, and may lack columns of this release
    wanted = release_transaction(held["query_id"], _plan_of(rows, held["query_id"]), batch_id)
    if ledger.last_version_of(wanted.app_id) == batch_id:
        _require_same(find_release(rows, held["query_id"], batch_id), batch_id, answer.decision)
        return False
    ledger.append([_as_row(held, answer)], wanted)
    return True


def find_release(rows: list[dict[str, Any]], query_id: str, batch_id: int) -> Release:
    """The newest decision on a batch of which the ledger has one (see `release_transaction`)."""
    row = next(
        row
        for row in reversed(rows)
        if (row["status"], row["query_id"], row["batch_id"]) == (Status.RELEASED, query_id, batch_id)
    )
    share = row["rows_quarantined"] / row["rows_read"] if row["rows_read"] else 0.0
    return Release(Decision(row["decision"]), row["message"], share)


def release_transaction(query_id: str, plan: int, batch_id: int) -> TransactionId:
    """The identity of a decision; a ledger has it if this is its newest version for the app id.

    `plan` is the newest version of `rewind_app_id`, 0 if there is none: planned anew, a batch is another one.
    """
    return transaction(f"{query_id}:release:{plan}" if plan else f"{query_id}:release", Step.LEDGER, batch_id)


def is_decided(ledger: SmallTable, query_id: str, batch_id: int) -> bool:
    """Whether the ledger has a decision on the batch as it is planned."""
    wanted = release_transaction(query_id, newest_plan(ledger, query_id), batch_id)
    return ledger.last_version_of(wanted.app_id) == batch_id


def newest_plan(ledger: SmallTable, query_id: str) -> int:
    """The number of the plan that was forgotten last; 0 if none was."""
    return ledger.last_version_of(rewind_app_id(query_id)) or 0


def _plan_of(rows: list[dict[str, Any]], query_id: str) -> int:
    """As the rows have it that are decided on: a plan that is forgotten meanwhile takes the decision with it."""
    began = (row["started_at"] for row in rows if (row["status"], row["query_id"]) == (Status.REWOUND, query_id))
    return max(map(plan_number, began), default=0)


def apply_release(pipeline: Pipeline, release: Release) -> Pipeline:
    """The pipeline with checks and limits as the decision has them: nothing holds the batch any more."""
    quality = pipeline.spec.quality
    was_halted = quality.halt_when is not None and release.quarantined_share > quality.halt_when.quarantined_share_above
    accepted = {OnFailure.FAIL} | ({OnFailure.QUARANTINE} if was_halted else set())
    if release.decision is Decision.ACCEPT:
        checks = tuple(
            _with(check, OnFailure.EXPECT) if check.on_failure in accepted else check for check in pipeline.checks
        )
        return without_holds(pipeline.model_copy(update={"checks": checks}))
    return without_holds(pipeline)


def without_holds(pipeline: Pipeline) -> Pipeline:
    """The pipeline with checks that set rows apart in place of those that hold a batch, and without halt_when."""
    quality = pipeline.spec.quality.model_copy(update={"halt_when": None})
    spec = pipeline.spec.model_copy(update={"quality": quality})
    return pipeline.model_copy(update={"spec": spec, "checks": tuple(map(_without_hold, pipeline.checks))})


def _without_hold(check: Check) -> Check:
    """Checks of a whole batch set nothing apart; they are counted."""
    if check.on_failure is not OnFailure.FAIL:
        return check
    return _with(check, OnFailure.QUARANTINE if check.scope is Scope.ROW else OnFailure.EXPECT)


def _with(check: Check, on_failure: OnFailure) -> Check:
    return check.model_copy(update={"on_failure": on_failure})


def _require_held(rows: list[dict[str, Any]], batch_id: int) -> dict[str, Any]:
    """The newest evidence of the batch that is held now."""
    of_batches = (row for row in reversed(rows) if row["status"] in _DECIDABLE)
    last: dict[str, Any] | None = next(of_batches, None)
    if last is None or last["status"] != Status.HELD:
        found = "it has no batch yet" if last is None else f"its newest batch, {last['batch_id']}, is {last['status']}"
        message = f"NOT_HELD: no batch of this pipeline is held: {found}. Nothing was recorded"
        raise StateMismatchError(message)
    if last["batch_id"] != batch_id:
        message = f"NOT_HELD: batch {last['batch_id']} is held, not {batch_id}. Nothing was recorded"
        raise StateMismatchError(message)
    return last


def _require_same(earlier: Release, batch_id: int, decision: Decision) -> None:
    """A run may have carried out a part of the earlier decision."""
    if earlier.decision is not decision:
        message = (
            f"ALREADY_RELEASED: for batch {batch_id} the ledger has the decision {earlier.decision} "
            f"({earlier.message}); it stands. Start a run, which carries it out"
        )
        raise StateMismatchError(message)


def _as_row(held: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """The evidence once more, with the decision that was taken on it."""
    now = datetime.now(UTC)
    own = {"status": str(Status.RELEASED), "decision": str(answer.decision), "message": str(answer)}
    return held | own | {"started_at": now, "finished_at": now, "duration_ms": [("total", 0)]}
