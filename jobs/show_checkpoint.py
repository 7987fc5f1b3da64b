"""Look into a pipeline's checkpoint: `esclusa checkpoint show NAME`, `esclusa checkpoint verify NAME`."""

import sys

import click

from jobs.pipeline.conf import Bundle, load_pipeline
from jobs.pipeline.entrypoint import bundle_options


@click.group(name="checkpoint")
def main() -> None:
    """Look into a checkpoint on a local or mounted path; changes nothing, starts no Spark."""


@main.command()
@click.argument("name")
@bundle_options
def show(bundle: Bundle, name: str) -> None:
    """Show how far a checkpoint is, and what the next start would do."""
    from jobs.pipeline.checkpoint_report import describe  # noqa: PLC0415 - imports pyspark: not for --help

    for title, text in describe(load_pipeline(bundle, name)):
        click.echo(f"{title:<12}{text}")


@main.command()
@click.argument("name")
@bundle_options
def verify(bundle: Bundle, name: str) -> None:
    """Compare a checkpoint's files with each other and with the tables; exit code 6 if they do not agree."""
    from jobs.pipeline.checkpoint_report import verify as verify_checkpoint  # noqa: PLC0415

    click.echo(verify_checkpoint(load_pipeline(bundle, name)))


if __name__ == "__main__":
    sys.exit(main())
