"""Observed numbers -> Verdict: what the gate says of one batch, as data, computed once. No Spark."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jobs.pipeline.model import Check, OnFailure, Quality, Scope

MALFORMED_CHECK = "malformed"
"""Stands in `_errors` as the check that a malformed record breaks."""
SHOWN_CHARACTERS = 100
EXAMPLES_A_CHECK = 3
_EXAMPLE_CHARACTERS = 200
_RULE_CHARACTERS = 200
"""A set of ten thousand values would stand in the message of each row."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one check came out for one batch; counts are rows, as Great Expectations counts them."""

    check: Check
    element_count: int
    unexpected_count: int
    success: bool
    found: str | None = None
    """What stands instead of what a check of the columns or the batch wants, if it fails."""


@dataclass(frozen=True, slots=True)
class SetApart:
    """Rows for the quarantine: how many, and the gathered ones (all of them, unless a limit was passed).

    A gathered row is `raw` (base64), `source` and `_errors`, all as JSON has them.
    """

    count: int
    rows: tuple[Row, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every row set apart has been gathered."""
        return len(self.rows) == self.count


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of one batch; sink, ledger, report and error message read the same object."""

    rows_read: int
    malformed: SetApart
    rows_shaped: int
    """Rows that came out of the transforms."""
    unfit: SetApart
    """Well-formed rows that a check sets apart."""
    rows_dropped: int
    """Rows that a check drops."""
    results: tuple[CheckResult, ...]
    held_because: tuple[str, ...]

    @property
    def is_gathered(self) -> bool:
        """Whether the driver holds every row for the quarantine."""
        return self.malformed.is_complete and self.unfit.is_complete

    @property
    def rows_quarantined(self) -> int:
        """Malformed rows plus rows that checks set apart."""
        return self.malformed.count + self.unfit.count

    @property
    def rows_passed(self) -> int:
        """Rows for the target."""
        return self.rows_shaped - self.unfit.count - self.rows_dropped

    @property
    def rows_filtered(self) -> int:
        """Rows that transforms left out; negative where they made several out of one."""
        return self.rows_read - self.malformed.count - self.rows_shaped


def judge(
    checks: tuple[Check, ...],
    quality: Quality,
    source: Row,
    gated: Row,
    schema_fault: Callable[[Check], str | None],
) -> Verdict:
    """Judge a batch by what was observed on its parsed rows (`source`) and on its annotated rows (`gated`).

    Keys of both: rows, bad, gathered; of `gated` also dropped, and unexpected_<i>, considered_<i> for row check i
    (considered_<i> is left out where the check looks at every row). `mostly` sets when a check fails for the batch.
    """
    results = tuple(_result(index, check, gated, schema_fault) for index, check in enumerate(checks))
    malformed = SetApart(source["bad"], tuple(map(_malformed_row, _gathered(source))))
    unfit = SetApart(gated["bad"], tuple(_unfit_rows(_gathered(gated), checks)))
    return Verdict(
        rows_read=source["rows"],
        malformed=malformed,
        rows_shaped=gated["rows"],
        unfit=unfit,
        rows_dropped=gated["dropped"],
        results=results,
        held_because=_reasons_to_hold(quality, results, source["rows"], malformed.count + unfit.count),
    )


def holds_for_count(check: Check, rows: int) -> bool:
    """Whether the batch's row count lies within the check's bounds (expect_table_row_count_to_be_between)."""
    low, high = check.kwargs["min_value"], check.kwargs["max_value"]
    above = low is None or (rows > low if check.kwargs["strict_min"] else rows >= low)
    below = high is None or (rows < high if check.kwargs["strict_max"] else rows <= high)
    return above and below


def shown_parameters(check: Check) -> dict[str, Any]:
    """The parameters that say something: neither left out nor switched off. A bound of 0, which is no False, does."""
    return {key: value for key, value in check.kwargs.items() if value is not None and value is not False}


def describe_rule(check: Check) -> str:
    """The rule behind a value in a message: the expectation and its parameters, cut short where they are long."""
    rule = ", ".join(f"{key}={value}" for key, value in shown_parameters(check).items())
    return f"{check.type} ({_cut_short(rule)})" if rule else check.type


def describe_outcome(result: CheckResult) -> str:
    """How a check came out: the rows that break it; of one of columns or batch what was wanted, and what was found."""
    if result.found is not None:
        return f"wanted {describe_rule(result.check)}, found {_cut_short(result.found)}"
    if result.check.scope is Scope.ROW:
        return f"{result.unexpected_count:,} of {result.element_count:,} rows unexpected"
    return "as wanted"


def pick_examples(verdict: Verdict) -> list[Row]:
    """The first few rows that each check sets apart: check, message, and the record's text, cut short.

    The text is None where the record is not known as text. It is data as it came, nothing in it made harmless.
    """
    shown: Counter[str] = Counter()
    examples = []
    for row in (*verdict.malformed.rows, *verdict.unfit.rows):
        for error in row["_errors"]:
            shown[error["check"]] += 1
            if shown[error["check"]] <= EXAMPLES_A_CHECK:
                raw = _as_text(row.get("raw"))
                examples.append({"check": error["check"], "message": error["message"], "raw": raw})
    return examples


def _cut_short(text: str) -> str:
    return text if len(text) <= _RULE_CHARACTERS else text[: _RULE_CHARACTERS - 1] + "…"


def _as_text(raw: str | None) -> str | None:
    return None if raw is None else base64.b64decode(raw).decode("utf-8", "replace")[:_EXAMPLE_CHARACTERS]


def _gathered(metrics: Row) -> list[Row]:
    text = metrics.get("gathered")
    return json.loads(text, parse_float=str, parse_int=_keep_small) if text else []


def _keep_small(text: str) -> int | str:
    """Offsets and positions stay numbers; longer ones stay text, so that nothing is rounded on the way."""
    return int(text) if len(text) < 19 else text  # noqa: PLR2004 - digits of 2^63


def _malformed_row(row: Row) -> Row:
    error = {"check": MALFORMED_CHECK, "column": None, "message": row["reason"]}
    return {"raw": row.get("raw"), "source": row["source"], "_errors": [error]}


def _unfit_rows(rows: list[Row], checks: tuple[Check, ...]) -> Iterator[Row]:
    rules = [describe_rule(check) for check in checks]
    for row in rows:
        broken = [int(key.rpartition("_")[2]) for key, is_broken in row["failed"].items() if is_broken]
        errors = [_error(checks[index], rules[index], row.get("values", {})) for index in broken]
        yield {"raw": row.get("raw"), "source": row["source"], "_errors": errors}


def _error(check: Check, rule: str, values: Row) -> Row:
    shown = ", ".join(_shown(values.get(name)) for name in check.columns)
    return {"check": check.name, "column": ", ".join(check.columns), "message": f"{shown}: {rule}"}


def _shown(value: Any) -> str:
    if value is None:
        return "NULL"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text[:SHOWN_CHARACTERS]


def _result(index: int, check: Check, gated: Row, schema_fault: Callable[[Check], str | None]) -> CheckResult:
    rows: int = gated["rows"]
    match check.scope:
        case Scope.SCHEMA:
            found = schema_fault(check)
            return CheckResult(check, rows, 0, found is None, found)
        case Scope.BATCH:
            found = None if holds_for_count(check, rows) else f"{rows:,} rows"
            return CheckResult(check, rows, 0, found is None, found)
        case Scope.ROW:
            considered, unexpected = gated.get(f"considered_{index}", rows), gated[f"unexpected_{index}"]
            success = considered == 0 or (considered - unexpected) / considered >= check.mostly
            return CheckResult(check, considered, unexpected, success)


def _reasons_to_hold(
    quality: Quality, results: tuple[CheckResult, ...], rows_read: int, rows_bad: int
) -> tuple[str, ...]:
    reasons = [
        f"check {result.check.name} failed: {describe_outcome(result)}"
        for result in results
        if not result.success and result.check.on_failure is OnFailure.FAIL
    ]
    share = rows_bad / rows_read if rows_read else 0.0
    if quality.halt_when and share > quality.halt_when.quarantined_share_above:
        limit = quality.halt_when.quarantined_share_above
        reasons.append(f"{share:.2%} of the rows would be quarantined, above the limit of {limit:.2%}")
    return tuple(reasons)
