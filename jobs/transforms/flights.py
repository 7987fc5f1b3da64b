"""Transforms of the flight pipelines."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def add_delay_band(df: DataFrame) -> DataFrame:
    """Adds `delay_band` STRING from `dep_delay` (minutes): early, on time, late, very late; NULL if not departed."""
    delay = F.col("dep_delay")
    band = F.when(delay < 0, "early").when(delay < 15, "on time").when(delay < 120, "late")  # noqa: PLR2004 - DOT's limits
    return df.withColumn("delay_band", F.when(delay.isNotNull(), band.otherwise("very late")))
