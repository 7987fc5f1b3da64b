"""Validate conf without Spark: `esclusa check`."""

import sys

import click

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_all
from jobs.pipeline.entrypoint import bundle_options


@click.command(name="check")
@bundle_options
def main(bundle: Bundle) -> None:
    """Validate all of conf, in about a second: every error at once, each as file:line: path: what is wrong."""
    pipelines = load_all(bundle)
    checks = sum(len(pipeline.checks) for pipeline in pipelines)
    click.echo(f"{len(pipelines)} pipelines, {checks} checks: conf is valid for target {bundle.target}")


if __name__ == "__main__":
    sys.exit(main())
