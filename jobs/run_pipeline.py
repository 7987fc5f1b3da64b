"""Run pipelines: `esclusa run NAME…`, or `spark-submit jobs/run_pipeline.py NAME …`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_fleet, load_pipelines
from jobs.pipeline.dated_path import Interval
from jobs.pipeline.entrypoint import bundle_options, interval_options, print_error
from jobs.pipeline.errors import ConfError
from jobs.pipeline.spark_properties import read_properties

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.pipeline.model import Pipeline
    from jobs.pipeline.progress import Progress

    OperatorsAct = Callable[[SparkSession, list[Pipeline]], None]


@click.command(name="run")
@click.argument("names", nargs=-1, metavar="NAME…")
@click.option("--fleet", metavar="F", help="The pipelines of this fleet, or those of them that are named.")
@click.option(
    "--results", type=click.Path(path_type=Path), metavar="DIR", help="Write DIR/NAME.json when NAME has ended."
)
@click.option("--reset-checkpoint", is_flag=True, help="First set the checkpoint aside: read the source anew.")
@click.option("--accept-gap", is_flag=True, help="First accept as lost what retention has deleted unread.")
@bundle_options
@interval_options
def main(  # noqa: PLR0913 - click passes each option
    bundle: Bundle,
    names: tuple[str, ...],
    *,
    fleet: str | None,
    results: Path | None,
    reset_checkpoint: bool,
    accept_gap: bool,
    interval: Interval | None,
) -> int:
    """Run pipelines of conf/pipelines/ until they have caught up, or until SIGTERM or Ctrl-C.

    With an interval, run the folders of their archives whose time begins within it; NAME@TIME is one of them.

    Exit codes: 0 done; 1 unexpected; 2 conf; 3 held by the quality gate; 4 source or sink unavailable;
    5 another run holds the pipeline; 6 state does not match. Of several pipelines that of the first that failed.
    """
    if not names and (fleet is None or interval is not None):
        click.echo("name a pipeline, or --fleet F without an interval", err=True)
        return ConfError.exit_code
    first: list[OperatorsAct] = [
        act for act, is_wanted in ((reset_all, reset_checkpoint), (accept_gaps, accept_gap)) if is_wanted
    ]
    if interval is not None:
        return _run_interval(bundle, names, interval, results, first)
    if fleet is None:
        return _run(bundle, load_pipelines(bundle, list(names)), results, first)
    pipelines, broken = load_fleet(bundle, fleet, names)
    tell_broken(broken, results)
    code = _run(bundle, pipelines, results, first) if pipelines else 0
    return ConfError.exit_code if broken else code


def _run_interval(
    bundle: Bundle, names: tuple[str, ...], interval: Interval, results: Path | None, first: "list[OperatorsAct]"
) -> int:
    pipelines = load_pipelines(bundle, list(names), interval)
    if not pipelines:
        click.echo(f"no folder begins between {interval.start} and {interval.end}; nothing to read", err=True)
        return 0
    return _run(bundle, pipelines, results, first)


def _run(bundle: Bundle, pipelines: "list[Pipeline]", results: Path | None, first: "list[OperatorsAct]") -> int:
    from jobs.pipeline.progress import open_progress  # noqa: PLC0415 - imports pyspark: not for --help
    from jobs.pipeline.session import start_session, stop_session  # noqa: PLC0415

    with open_progress() as progress:
        progress.note("starting Spark")
        name = "esclusa " + " ".join(dict.fromkeys(pipeline.live_name for pipeline in pipelines))
        spark = start_session(name, dict(bundle_spark(bundle, pipelines)))
        try:
            for act in first:
                act(spark, pipelines)
            return run_all(spark, pipelines, progress, results)
        finally:
            stop_session(spark)


def tell_broken(broken: dict[str, ConfError], results: Path | None) -> None:
    """Print what is wrong with pipelines that cannot be loaded, and write how they have ended."""
    from jobs.pipeline.side_by_side import fail, write_result  # noqa: PLC0415 - imports pyspark: not for --help

    for name, error in broken.items():
        print_error(error)
        if results:
            write_result(results, fail(name, error))


def bundle_spark(bundle: Bundle, pipelines: "list[Pipeline]") -> dict[str, str]:
    """Spark options of a bundle: conf/spark-defaults.conf, and the target's over them."""
    return read_properties(bundle.spark_defaults) | dict(pipelines[0].spark)


def reset_all(spark: "SparkSession", pipelines: "list[Pipeline]") -> None:
    """Set the checkpoints of all these pipelines aside, as their ledgers will say."""
    from jobs.pipeline.reset import reset_checkpoint  # noqa: PLC0415

    _act(reset_checkpoint, spark, pipelines)


def accept_gaps(spark: "SparkSession", pipelines: "list[Pipeline]") -> None:
    """Accept as lost what the topics of these pipelines no longer hold, as their ledgers will say."""
    from jobs.pipeline.gap import accept_gap  # noqa: PLC0415

    _act(accept_gap, spark, pipelines)


def _act(act: "Callable[[SparkSession, Pipeline], str]", spark: "SparkSession", pipelines: "list[Pipeline]") -> None:
    from jobs.pipeline.failures import classify  # noqa: PLC0415

    for pipeline in pipelines:
        try:
            click.echo(f"{pipeline.name}: {act(spark, pipeline)}", err=True)
        except Exception as error:
            raise classify(error) from error


def run_all(spark: "SparkSession", pipelines: "list[Pipeline]", progress: "Progress", results: Path | None) -> int:
    """Run pipelines side by side in one application; returns 0, or the exit code of the first that failed.

    With `results`, how each has ended is written there as soon as it has.
    """
    from jobs.pipeline.side_by_side import run_side_by_side, write_result  # noqa: PLC0415 - imports pyspark

    codes = run_side_by_side(
        spark, pipelines, progress, lambda ended: write_result(results, ended) if results else None
    )
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
