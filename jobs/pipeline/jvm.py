"""The driver's JVM behind PySpark: classes and objects that have no Python door."""

import json
from typing import Any

from pyspark.sql import DataFrame, Observation, SparkSession


def jvm_class(spark: SparkSession, name: str) -> Any:
    """A class of the JVM by its full name.

    Attribute by attribute (`jvm.org.apache.…`) the JVM would look for a class at each package on the way, in vain, and
    take a millisecond for it.
    """
    return getattr(spark._jvm, name)  # noqa: SLF001


def jvm_session(spark: SparkSession) -> Any:
    """The JVM's own SparkSession."""
    return spark._jsparkSession  # noqa: SLF001


def scala_none(spark: SparkSession) -> Any:
    """Scala's None."""
    return jvm_class(spark, "scala.Option").empty()


def input_files(df: DataFrame) -> list[str]:
    """URLs of the files behind a frame; PySpark's own `inputFiles` asks the JVM twice for each."""
    behind: Any = df._jdf  # noqa: SLF001
    return list(behind.inputFiles())


def observed(observation: Observation) -> dict[str, Any] | None:
    """What `Observation.get` gives, for numbers and text; waits until the observed frame has run.

    None if that has run without the observation, which Spark cuts away with rows that it knows to reach nothing.

    As JSON, for `get` brings a pickled row over, which Python decodes byte by byte: a tenth of a second for what the
    gate gathers of a batch with many bad rows.
    """
    behind: Any = observation._jo  # noqa: SLF001
    row = behind.getRow()
    found: dict[str, Any] | None = json.loads(row.json()) if row.length() else None
    return found
