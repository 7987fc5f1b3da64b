"""A baseline that must fail: the same input by plain `foreachBatch`, two appends, no protocol.

`python -m jobs.testing.plain_job NAME` reads what the pipeline NAME reads, and writes tables of the same shape.
"""

import sys

import click
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipelines
from jobs.pipeline.entrypoint import bundle_options
from jobs.pipeline.failpoints import Point, reach
from jobs.pipeline.model import Pipeline
from jobs.pipeline.session import start_session
from jobs.pipeline.source_model import FilesSource
from jobs.run_pipeline import bundle_spark


@click.command()
@click.argument("name")
@bundle_options
def main(bundle: Bundle, name: str) -> None:
    """Append good rows, then bad ones, batch by batch, until caught up."""
    [pipeline] = load_pipelines(bundle, [name])
    spark = start_session(f"plain {name}", bundle_spark(bundle, [pipeline]))
    source = pipeline.spec.source
    assert isinstance(source, FilesSource)  # noqa: S101 - the baseline is for files
    lines = spark.readStream.format("text").options(**source.options).load(source.path)
    writer = lines.writeStream.option("checkpointLocation", pipeline.checkpoint).trigger(availableNow=True)
    writer.foreachBatch(lambda batch, _: write_batch(batch, pipeline)).start().awaitTermination()


def write_batch(lines: DataFrame, pipeline: Pipeline) -> None:
    """Two appends; whatever happens between them, a replay makes both again."""
    reach(Point.BATCH_ENTERED)
    rows = lines.select(F.from_json("value", pipeline.schema_ddl or "").alias("row"), "value").persist()
    is_good = F.coalesce(F.col("row.kind") == "good", F.lit(False))
    good = rows.where(is_good).select("row.id", F.crc32(F.encode("row.payload", "utf-8")).alias("checksum"))
    good.write.format("delta").mode("append").save(pipeline.spec.sink.path)
    reach(Point.TARGET_AFTER)
    bad = rows.where(~is_good).select(F.encode("value", "utf-8").alias("raw"))
    bad.write.format("delta").mode("append").save(pipeline.quarantine_path)
    reach(Point.QUARANTINE_AFTER)
    rows.unpersist()


if __name__ == "__main__":
    sys.exit(main())
