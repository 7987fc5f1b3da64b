"""Decide what becomes of a held batch: `esclusa release NAME --batch N --quarantine`."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipelines
from jobs.pipeline.entrypoint import bundle_options
from jobs.pipeline.errors import ConfError
from jobs.run_pipeline import bundle_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.pipeline.model import Pipeline
    from jobs.pipeline.release import Answer


def _decision(word: str, effect: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that adds its word to `decisions`; of two that share a plain value, click takes the last."""
    return click.option(f"--{word}", "decisions", flag_value=word, multiple=True, help=effect)


@click.command(name="release")
@click.argument("name")
@click.option("--batch", "batch_id", type=click.IntRange(min=0), required=True, metavar="N", help="The held batch.")
@_decision("quarantine", "Its failing rows go to the quarantine.")
@_decision("accept", "Its failing rows go to the target.")
@_decision("drop", "No row of it goes anywhere.")
@click.option("--by", metavar="NAME", help="Who decided, where it is not you: stands in the ledger beside your name.")
@bundle_options
def main(bundle: Bundle, name: str, batch_id: int, decisions: tuple[str, ...], by: str | None) -> int:
    """Let a held batch through with the next run, once; the decision is recorded in the ledger.

    Refused, with exit code 6, for a batch that is not the one held now. Starts no Spark for a local ledger.
    """
    if len(set(decisions)) != 1:
        click.echo("exactly one of --quarantine, --accept, --drop is needed", err=True)
        return ConfError.exit_code
    pipeline = load_pipelines(bundle, [name])[0]
    from jobs.pipeline.release import Answer, Decision  # noqa: PLC0415 - imports pyspark: not for --help
    from jobs.pipeline.session import start_session, stop_session  # noqa: PLC0415
    from jobs.pipeline.storage import local_path  # noqa: PLC0415

    answer = Answer(Decision(decisions[0]), by)
    if local_path(pipeline.ledger_path) is not None:
        _release(None, pipeline, batch_id, answer)
        return 0
    spark = start_session(f"esclusa release {name}", bundle_spark(bundle, [pipeline]))
    try:
        _release(spark, pipeline, batch_id, answer)
    finally:
        stop_session(spark)
    return 0


def _release(spark: "SparkSession | None", pipeline: "Pipeline", batch_id: int, answer: "Answer") -> None:
    from jobs.pipeline.ledger import SCHEMA, read_ledger, read_ledger_anywhere  # noqa: PLC0415
    from jobs.pipeline.release import record_release  # noqa: PLC0415
    from jobs.pipeline.small_table import SmallTable  # noqa: PLC0415

    path = pipeline.ledger_path
    rows = read_ledger(path) if spark is None else read_ledger_anywhere(spark, path)
    is_new = record_release(SmallTable(spark, path, SCHEMA), rows, batch_id, answer)
    click.echo(
        f"batch {batch_id} of {pipeline.name}: {answer.decision}{'' if is_new else ', as decided before'}; "
        f"carried out by the next run"
    )


if __name__ == "__main__":
    sys.exit(main())
