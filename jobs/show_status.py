"""Show the last batches from the ledger: `esclusa status [NAME]`."""

import json
import sys

import click

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipelines
from jobs.pipeline.dated_path import Interval
from jobs.pipeline.entrypoint import bundle_options, interval_options


@click.command(name="status")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("--last", type=click.IntRange(min=1), default=5, show_default=True, help="Batches a pipeline.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a batch, for machines.")
@bundle_options
@interval_options
def main(bundle: Bundle, names: tuple[str, ...], *, last: int, as_json: bool, interval: Interval | None) -> None:
    """Show the last batches: counts, failing checks, lag. Starts no Spark.

    With an interval, those of the folders of the archives whose time begins within it; NAME@TIME is one of them.
    """
    from jobs.pipeline.ledger import read_ledger  # noqa: PLC0415 - imports pyarrow: not for --help
    from jobs.pipeline.status import print_batches  # noqa: PLC0415

    for pipeline in load_pipelines(bundle, list(names) or None, interval):
        batches = read_ledger(pipeline.ledger_path, last)
        if as_json:
            for batch in batches:
                click.echo(json.dumps(batch, default=str))
        else:
            print_batches(pipeline.name, batches)


if __name__ == "__main__":
    sys.exit(main())
