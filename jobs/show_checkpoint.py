"""A pipeline's checkpoint: `esclusa checkpoint show NAME`, `… verify NAME`, `… rewind NAME --to-batch N`."""

import sys

import click

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipelines
from jobs.pipeline.entrypoint import bundle_options
from jobs.run_pipeline import bundle_spark


@click.group(name="checkpoint")
def main() -> None:
    """Look into a checkpoint; forget its newest plan."""


@main.command()
@click.argument("name")
@bundle_options
def show(bundle: Bundle, name: str) -> None:
    """Show how far a checkpoint is, and what the next start would do.

    On local and mounted paths only. Changes nothing, starts no Spark.
    """
    from jobs.pipeline.checkpoint_report import describe  # noqa: PLC0415 - imports pyspark: not for --help

    for title, text in describe(load_pipelines(bundle, [name])[0]):
        click.echo(f"{title:<12}{text}")


@main.command()
@click.argument("name")
@bundle_options
def verify(bundle: Bundle, name: str) -> None:
    """Compare a checkpoint's files with each other and with the tables; exit code 6 if they do not agree.

    On local and mounted paths only. Changes nothing, starts no Spark.
    """
    from jobs.pipeline.checkpoint_report import verify as verify_checkpoint  # noqa: PLC0415

    click.echo(verify_checkpoint(load_pipelines(bundle, [name])[0]))


@main.command()
@click.argument("name")
@click.option(
    "--to-batch", type=click.IntRange(min=-1), required=True, metavar="N", help="The newest done; -1 for none."
)
@bundle_options
def rewind(bundle: Bundle, name: str, to_batch: int) -> None:
    """Forget the plan of the batch behind N, so that the next start plans it anew, within today's limits.

    Refused, with exit code 6, once something of that batch is committed or decided. Recorded in the ledger.
    """
    pipeline = load_pipelines(bundle, [name])[0]
    from jobs.pipeline.rewind import rewind_checkpoint  # noqa: PLC0415 - imports pyspark: not for --help
    from jobs.pipeline.session import start_session  # noqa: PLC0415

    spark = start_session(f"esclusa checkpoint rewind {name}", bundle_spark(bundle, [pipeline]))
    try:
        click.echo(rewind_checkpoint(spark, pipeline, to_batch))
    finally:
        spark.stop()


if __name__ == "__main__":
    sys.exit(main())
