"""Run pipelines: `esclusa run NAME…`, or `spark-submit jobs/run_pipeline.py NAME …`."""

import signal
import sys
from typing import TYPE_CHECKING

import click

from jobs.pipeline.conf import Bundle, load_pipelines
from jobs.pipeline.entrypoint import bundle_options, print_error
from jobs.pipeline.errors import EsclusaError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.pipeline.model import Pipeline
    from jobs.pipeline.progress import Progress
    from jobs.pipeline.runner import PipelineRun


@click.command(name="run")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--reset-checkpoint", is_flag=True, help="First set the checkpoint aside: read the source anew.")
@click.option("--accept-gap", is_flag=True, help="First accept as lost what retention has deleted unread.")
@bundle_options
def main(bundle: Bundle, names: tuple[str, ...], *, reset_checkpoint: bool, accept_gap: bool) -> int:
    """Run pipelines of conf/pipelines/ until they have caught up, or until SIGTERM or Ctrl-C.

    Exit codes: 0 done; 1 unexpected; 2 conf; 3 held by the quality gate; 4 source or sink unavailable;
    5 another run holds the pipeline; 6 state does not match.
    """
    pipelines = load_pipelines(bundle, list(names))
    from jobs.pipeline.progress import open_progress  # noqa: PLC0415 - imports pyspark: not for --help
    from jobs.pipeline.session import start_session, stop_session  # noqa: PLC0415

    with open_progress() as progress:
        progress.note("starting Spark")
        spark = start_session("esclusa " + " ".join(names), dict(bundle_spark(bundle, pipelines)))
        try:
            if reset_checkpoint:
                reset_all(spark, pipelines)
            if accept_gap:
                accept_gaps(spark, pipelines)
            return run_all(spark, pipelines, progress)
        finally:
            stop_session(spark)


def bundle_spark(bundle: Bundle, pipelines: "list[Pipeline]") -> dict[str, str]:
    """Spark options of a bundle: conf/spark-defaults.conf, and the target's over them."""
    from jobs.pipeline.session import read_properties  # noqa: PLC0415

    return read_properties(bundle.conf / "spark-defaults.conf") | dict(pipelines[0].spark)


def reset_all(spark: "SparkSession", pipelines: "list[Pipeline]") -> None:
    """Set the checkpoints of all these pipelines aside, as their ledgers will say."""
    from jobs.pipeline.reset import reset_checkpoint  # noqa: PLC0415

    for pipeline in pipelines:
        click.echo(f"{pipeline.name}: {reset_checkpoint(spark, pipeline)}", err=True)


def accept_gaps(spark: "SparkSession", pipelines: "list[Pipeline]") -> None:
    """Accept as lost what the topics of these pipelines no longer hold, as their ledgers will say."""
    from jobs.pipeline.failures import classify  # noqa: PLC0415
    from jobs.pipeline.gap import accept_gap  # noqa: PLC0415

    for pipeline in pipelines:
        try:
            click.echo(f"{pipeline.name}: {accept_gap(spark, pipeline)}", err=True)
        except Exception as error:
            raise classify(error) from error


def run_all(spark: "SparkSession", pipelines: "list[Pipeline]", progress: "Progress") -> int:
    """Run pipelines side by side in one session; one that fails does not stop the others.

    Returns 0, or the exit code of the first failure.
    """
    from jobs.pipeline.runner import PipelineRun  # noqa: PLC0415

    runs: list[PipelineRun] = []
    exit_codes = [_start(runs, PipelineRun(spark, pipeline, progress.batch), progress) for pipeline in pipelines]
    _stop_on_signals(runs)
    exit_codes += [_wait(run, progress) for run in runs]
    return next((code for code in exit_codes if code), 0)


def _start(runs: "list[PipelineRun]", run: "PipelineRun", progress: "Progress") -> int:
    try:
        progress.begin(run.pipeline)
        run.start()
    except EsclusaError as error:
        progress.failed(run.pipeline, error)
        print_error(error)
        return error.exit_code
    if run.skipped:
        progress.skipped(run.pipeline, run.skipped)
    runs.append(run)
    return 0


def _wait(run: "PipelineRun", progress: "Progress") -> int:
    try:
        run.wait()
    except EsclusaError as error:
        progress.failed(run.pipeline, error)
        print_error(error)
        return error.exit_code
    progress.end(run.pipeline)
    return 0


def _stop_on_signals(runs: "list[PipelineRun]") -> None:
    def stop(*_: object) -> None:
        for run in runs:
            run.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


if __name__ == "__main__":
    sys.exit(main())
