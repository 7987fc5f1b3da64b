"""Show what a run would do: `esclusa plan NAME`."""

import sys

import click

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipelines
from jobs.pipeline.entrypoint import bundle_options
from jobs.run_pipeline import bundle_spark


@click.command(name="plan")
@click.argument("name")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Also judge the source's first N rows.")
@bundle_options
def main(bundle: Bundle, name: str, sample: int | None) -> None:
    """Show source, transforms, checks and sink of a pipeline, resolved; writes nothing."""
    pipeline = load_pipelines(bundle, [name])[0]
    from jobs.pipeline.failures import classify  # noqa: PLC0415 - imports pyspark: not for --help
    from jobs.pipeline.plan import describe, judge_sample  # noqa: PLC0415
    from jobs.pipeline.session import start_session, stop_session  # noqa: PLC0415

    spark = start_session(f"esclusa plan {name}", bundle_spark(bundle, [pipeline]))
    try:
        click.echo(describe(spark, pipeline))
        if sample:
            click.echo(judge_sample(spark, pipeline, sample))
    except Exception as error:
        raise classify(error) from error
    finally:
        stop_session(spark)


if __name__ == "__main__":
    sys.exit(main())
