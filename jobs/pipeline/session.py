"""SparkSession; the only place that knows Spark options and how the JVM is started."""

import os
import shutil
import sys
from importlib.resources import files
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.pipeline.errors import ConfError, Problem, UnavailableError

PACKAGES = (
    "io.delta:delta-spark_4.2_2.13:4.4.0",
    "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
)
"""Maven coordinates of the JVM jars; `conf/spark-defaults.conf` names the same."""

REQUIRED = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
}
_LOSS_SWITCHES = ("spark.sql.files.ignoreCorruptFiles", "spark.sql.files.ignoreMissingFiles")
_SUBMITTED = "PYSPARK_GATEWAY_PORT"


def start_session(app_name: str, options: dict[str, str]) -> SparkSession:
    """Start or join a session. Under spark-submit its options stand and `options` are not looked at.

    Raises UnavailableError without Java, ConfError for an option that loses rows or a missing Delta extension.
    """
    builder = SparkSession.Builder().appName(app_name)
    if _SUBMITTED not in os.environ:
        require_java()
        for key, value in _local_options(options).items():
            builder = builder.config(key, value)
    spark = builder.getOrCreate()
    _check(spark)
    return spark


def read_properties(path: Path) -> dict[str, str]:
    """A spark-defaults.conf: `key value` or `key=value` a line, # for comments; empty if there is no file."""
    if not path.is_file():
        return {}
    options = {}
    for line in path.read_text().splitlines():
        text = line.strip()
        if text and not text.startswith("#"):
            key, _, value = text.replace("=", " ", 1).partition(" ") if _is_equals_form(text) else text.partition(" ")
            options[key.strip()] = value.strip()
    return options


def jars_folder() -> Path:
    """Where `esclusa setup` puts the JVM jars: inside the virtual environment."""
    return Path(sys.prefix) / "share" / "esclusa" / "jars"


def class_archive() -> Path:
    """Class-data archive of the JVM: halves the start; the JVM ignores one that does not fit it."""
    return jars_folder().parent / "spark.jsa"


def _is_equals_form(text: str) -> bool:
    head = text.split(None, 1)[0]
    return "=" in head


def _local_options(options: dict[str, str]) -> dict[str, str]:
    result = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.driver.host": "localhost"}
    result |= {"spark.driver.bindAddress": "127.0.0.1"} | REQUIRED | options
    jars = jars_folder()
    if jars.is_dir():
        result.pop("spark.jars.packages", None)
        result["spark.driver.extraClassPath"] = ":".join(map(str, sorted(jars.glob("*.jar"))))
    else:
        result.setdefault("spark.jars.packages", ",".join(PACKAGES))
    result["spark.driver.extraJavaOptions"] = " ".join([*_java_options(), result.get("spark.driver.extraJavaOptions", "")])
    return result


def _java_options() -> list[str]:
    logging = files("jobs.pipeline").joinpath("log4j2.properties")
    options = [f"-Dlog4j2.configurationFile={logging}", "-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr"]
    return options + ([f"-XX:SharedArchiveFile={class_archive()}"] if class_archive().is_file() else [])


def require_java() -> None:
    """Raise UnavailableError, with the command that installs it, where there is no Java."""
    home = os.environ.get("JAVA_HOME")
    if (home and (Path(home) / "bin" / "java").is_file()) or shutil.which("java"):
        return
    message = "no Java found; Spark needs Java 17 or 21. On Debian: sudo apt-get install openjdk-17-jre-headless"
    raise UnavailableError(message)


def _check(spark: SparkSession) -> None:
    problems = [
        Problem("spark options", 1, key, "is set; it skips files that cannot be read, and their rows. Remove it")
        for key in _LOSS_SWITCHES
        if (spark.conf.get(key, "false") or "").lower() == "true"
    ]
    extension = REQUIRED["spark.sql.extensions"]
    if extension not in (spark.conf.get("spark.sql.extensions", "") or ""):
        message = f"must hold {extension}; submit with --properties-file conf/spark-defaults.conf"
        problems.append(Problem("spark options", 1, "spark.sql.extensions", message))
    if problems:
        raise ConfError(problems)
