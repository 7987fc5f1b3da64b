"""Maintain the tables of pipelines by their policies: `esclusa maintain NAME…`."""

import sys
from typing import TYPE_CHECKING

import click

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipelines
from jobs.pipeline.entrypoint import bundle_options, print_error
from jobs.pipeline.errors import ConfError, EsclusaError, Problem
from jobs.run_pipeline import bundle_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.pipeline.model import Pipeline
    from jobs.pipeline.table_model import Maintenance


@click.command(name="maintain")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; write nothing.")
@bundle_options
def main(bundle: Bundle, names: tuple[str, ...], *, dry_run: bool) -> int:
    """Join small files, remove files and versions that nobody needs, and old rows of the quarantine, by policy.

    Goes on beside runs of the same pipelines. Killing it anywhere is harmless; start it again. The exit code is that
    of the first pipeline that failed; the others are maintained all the same.
    """
    pipelines = load_pipelines(bundle, list(names))
    policies = dict(zip([pipeline.name for pipeline in pipelines], map(require_policy, pipelines), strict=True))
    from jobs.pipeline.session import start_session  # noqa: PLC0415 - imports pyspark: not for --help

    spark = start_session("esclusa maintain " + " ".join(names), bundle_spark(bundle, pipelines))
    try:
        codes = [_maintain(spark, pipeline, policies[pipeline.name], is_dry=dry_run) for pipeline in pipelines]
    finally:
        spark.stop()
    return next((code for code in codes if code), 0)


def require_policy(pipeline: "Pipeline") -> "Maintenance":
    """The pipeline's policy; ConfError without one, for nothing is removed that nobody has declared."""
    if pipeline.maintenance is None:
        message = "missing; declare what may be removed here or in the target: `maintenance: {}` takes the defaults"
        raise ConfError([Problem(pipeline.file, 1, "maintenance", message)])
    return pipeline.maintenance


def _maintain(spark: "SparkSession", pipeline: "Pipeline", policy: "Maintenance", *, is_dry: bool) -> int:
    from jobs.pipeline.maintenance import describe, maintain, preview  # noqa: PLC0415 - imports pyspark

    try:
        report = preview(spark, pipeline, policy) if is_dry else maintain(spark, pipeline, policy)
    except EsclusaError as error:
        print_error(error)
        return error.exit_code
    title = f"{pipeline.name}: {'dry run, nothing written' if is_dry else 'maintained'}"
    click.echo("\n  ".join([title, *describe(report)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
