"""The driver's JVM behind PySpark: classes and objects that have no Python door."""

from typing import Any

from pyspark.sql import SparkSession


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
