"""Send quarantined rows through today's rules: `esclusa replay NAME`."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipelines
from jobs.pipeline.entrypoint import bundle_options
from jobs.run_pipeline import bundle_spark

if TYPE_CHECKING:
    from jobs.pipeline.replay import ReplayReport


@click.command(name="replay")
@click.argument("name")
@click.option("--check", metavar="C", help="Only rows that this check set apart; 'malformed' for malformed records.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]),
    metavar="T",
    help="Only rows set apart at this time (UTC) or later.",
)
@click.option("--where", metavar="SQL", help="Only rows for which this predicate over the quarantine's columns holds.")
@click.option("--dry-run", is_flag=True, help="Show what would pass and what would stay; write nothing.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE", help="Write the sums to a file, as JSON.")
@bundle_options
def main(  # noqa: PLR0913 - click passes each option
    bundle: Bundle,
    name: str,
    *,
    check: str | None,
    since: datetime | None,
    where: str | None,
    dry_run: bool,
    report: Path | None,
) -> None:
    """Send quarantined rows through today's transforms and checks: what passes reaches the target, exactly once.

    What fails stays in the quarantine, with its new reasons. Killing it anywhere is harmless; start it again.
    """
    pipeline = load_pipelines(bundle, [name])[0]
    from jobs.pipeline.replay import Selection, replay  # noqa: PLC0415 - imports pyspark: not for --help
    from jobs.pipeline.session import start_session, stop_session  # noqa: PLC0415

    selection = Selection(check, since.replace(tzinfo=UTC) if since else None, where)
    spark = start_session(f"esclusa replay {name}", bundle_spark(bundle, [pipeline]))
    try:
        found = replay(spark, pipeline, selection, is_dry=dry_run)
    finally:
        stop_session(spark)
    click.echo("\n".join(describe(name, found, is_dry=dry_run)))
    if report is not None:
        report.write_text(json.dumps(as_sums(found)), encoding="utf-8")


def as_sums(report: "ReplayReport") -> dict[str, Any]:
    """The report for machines: rows of the quarantine by outcome, and rows in the target."""
    from jobs.pipeline.replay_marks import Outcome  # noqa: PLC0415 - imports pyspark

    rows = {str(outcome): report.rows.get(outcome, 0) for outcome in Outcome}
    return {"rows": rows, "rows_written": report.rows_written}


def describe(name: str, report: "ReplayReport", *, is_dry: bool) -> list[str]:
    """What a person wants to know of a replay: the sums, then a line a check."""
    from jobs.pipeline.replay_marks import Outcome  # noqa: PLC0415 - imports pyspark

    if not report.rows:
        return [f"{name}: no row of the quarantine to replay"]
    title = "dry run, nothing written: " if is_dry else ""
    sums = [f"{report.rows.get(outcome, 0):,} {outcome}" for outcome in Outcome]
    lines = [f"{name}: {title}{sum(report.rows.values()):,} rows of the quarantine: {', '.join(sums)}"]
    width = max(len("check"), *map(len, report.checks))
    lines.append("  ".join([f"  {'check':{width}}", *(f"{outcome!s:>11}" for outcome in Outcome)]))
    for check, counts in sorted(report.checks.items()):
        lines.append("  ".join([f"  {check:{width}}", *(f"{counts.get(outcome, 0):>11,}" for outcome in Outcome)]))
    return lines


if __name__ == "__main__":
    sys.exit(main())
