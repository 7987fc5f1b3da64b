"""A held batch -> the question that a person reads in Airflow. No Airflow.

Airflow's UI renders the text as Markdown, and data stands in it that may be hostile: a record, a value in a message.
All of it goes into code spans, in which Markdown knows neither markup nor links nor HTML.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.orchestration.accounts import Batch, failing_checks
from jobs.pipeline.terminal import printable

LEAVE_HELD = "Leave held"
DECISIONS = {"Release with quarantine": "quarantine", "Accept": "accept", "Drop": "drop"}
"""What `esclusa release` calls the other options."""
OPTIONS = [*DECISIONS, LEAVE_HELD]
_EXAMPLES_SHOWN = 10
_CHARACTERS = 300
_MEANING = """\
**The answers**

- **Release with quarantine**: rows that break a check go to the quarantine, the others to the table.
- **Accept**: rows that the batch is held for go to the table as well; malformed ones go to the quarantine.
- **Drop**: no row of the batch goes anywhere; all are counted as dropped.
- **Leave held**: nothing changes. This run fails; the next one asks again.

An answer cannot be changed. It holds for this batch alone."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked; `body` is Markdown."""

    subject: str
    body: str


def ask_about(pipeline: str, batch: Batch) -> Question:
    """The question about a held batch (a row of the ledger): why it is held, counts, failing checks, examples."""
    parts = [
        f"Batch {batch['batch_id']} of {pipeline} is held: {as_code(batch['message'])}. Nothing of it is written.",
        _counts(batch),
        *_section("Failing checks", [_check_line(check) for check in failing_checks(batch)]),
        *_section("For example", _example_lines(batch)),
        _MEANING,
    ]
    return Question(f"{pipeline}: what becomes of held batch {batch['batch_id']}?", "\n\n".join(parts))


def as_code(text: str) -> str:
    """Text as a code span of Markdown: one printable line, cut to length, whatever it holds."""
    line = printable(" ".join(text[:_CHARACTERS].split()))
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    more = "…" if len(text) > _CHARACTERS else ""
    return f"{fence} {line or ' '}{more} {fence}"


def _counts(batch: Batch) -> str:
    return (
        f"{batch['rows_read']:,} rows read: {batch['rows_quarantined']:,} would be quarantined "
        f"({batch['rows_malformed']:,} of them malformed), {batch['rows_dropped']:,} dropped."
    )


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"**{title}**\n\n" + "\n".join(f"- {line}" for line in lines)] if lines else []


def _check_line(check: Batch) -> str:
    """Checks of the columns and the batch have no rows that break them; what they found stands in the reason."""
    rows = f": {check['unexpected_count']:,} of {check['element_count']:,} rows" if check["unexpected_count"] else ""
    return as_code(check["name"]) + rows


def _example_lines(batch: Batch) -> list[str]:
    """Ledgers of old have no examples."""
    examples = (batch.get("examples") or [])[:_EXAMPLES_SHOWN]
    return [
        f"{as_code(example['check'])}: {as_code(example['message'])}"
        + ("" if example["raw"] is None else f" in {as_code(example['raw'])}")
        for example in examples
    ]
