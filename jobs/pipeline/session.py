"""SparkSession; the only place that knows Spark options and how the JVM is started."""

import logging
import os
import shlex
import shutil
import socket
import sys
from importlib.resources import files
from pathlib import Path

from pyspark import SparkContext
from pyspark.sql import SparkSession

from jobs.pipeline.errors import ConfError, EsclusaError, Problem, UnavailableError, root_cause
from jobs.pipeline.required_options import REQUIRED, required_fault
from jobs.pipeline.spark_properties import PACKAGES, further_packages

_CATALOG = {"spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog"}
"""Where a cluster brings no catalog of its own, which may be another that knows Delta."""
_LOSS_SWITCHES = ("spark.sql.files.ignoreCorruptFiles", "spark.sql.files.ignoreMissingFiles")
_FORGETTING = "spark.databricks.delta.properties.defaults.setTransactionRetentionDuration"
_SUBMITTED = "PYSPARK_GATEWAY_PORT"
_PROBE_SECONDS = 5


def start_session(app_name: str, options: dict[str, str]) -> SparkSession:
    """Start or join a session. Under spark-submit its options stand and `options` are not looked at.

    Raises UnavailableError without Java, ConfError for options that lose, double or change rows, EsclusaError with what
    to look at where Spark does not start.
    """
    builder = SparkSession.Builder().appName(app_name)
    if _SUBMITTED not in os.environ:
        find_java()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # Python workers with this environment's packages
        for key, value in _local_options(options).items():
            builder = builder.config(key, value)
    spark = _start(builder)
    # What a batch raises is raised again where the run waits for it; py4j would print it a second time.
    logging.getLogger("py4j.clientserver").setLevel(logging.CRITICAL)
    _check(spark)
    return spark


def _start(builder: SparkSession.Builder) -> SparkSession:
    try:
        return builder.getOrCreate()
    except Exception as error:
        message = (
            f"Spark does not start: {root_cause(error)}\nIts JVM may have said more above. It needs Java 17 or 21 "
            f"(JAVA_HOME: {os.environ.get('JAVA_HOME', 'not set')}), no SPARK_HOME of another version "
            f"({os.environ.get('SPARK_HOME', 'not set')}), and a spark.master that it knows"
        )
        raise EsclusaError(message) from error


def find_java() -> str:
    """The command that starts a JVM, as Spark's own scripts find it: JAVA_HOME's, or PATH's where that is not set.

    Raises UnavailableError, with what to do, where there is none.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(f"{home}/bin/java" if home else "java")
    if java is None and home:
        message = f"JAVA_HOME is {home}, and there is no bin/java in it; set it right, or unset it"
        raise UnavailableError(message)
    if java is None:
        message = "no Java found; Spark needs Java 17 or 21. On Debian: sudo apt-get install openjdk-17-jre-headless"
        raise UnavailableError(message)
    return java


def is_jvm_alive() -> bool:
    """Whether this process's JVM still takes calls; True where none was started."""
    gateway = SparkContext._gateway  # noqa: SLF001 - PySpark has no public name for its way to the JVM
    if gateway is None:
        return True
    address = gateway.gateway_parameters
    try:
        socket.create_connection((address.address, address.port), _PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def stop_session(spark: SparkSession) -> None:
    """End the session and its JVM; nothing is left to do if the JVM has died."""
    if is_jvm_alive():
        spark.stop()


def jars_folder() -> Path:
    """Where `esclusa setup` puts the JVM jars: inside the virtual environment."""
    return Path(sys.prefix) / "share" / "esclusa" / "jars"


def class_archive() -> Path:
    """Class-data archive of the JVM: halves the start; the JVM ignores one that does not fit it."""
    return jars_folder().parent / "spark.jsa"


def _local_options(options: dict[str, str]) -> dict[str, str]:
    result = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.driver.host": "localhost"}
    result |= {"spark.driver.bindAddress": "127.0.0.1"} | REQUIRED | _CATALOG | options
    jars = jars_folder()
    if jars.is_dir():
        result["spark.jars.packages"] = further_packages(result)
        result["spark.driver.extraClassPath"] = _class_path(jars, result.get("spark.driver.extraClassPath", ""))
    else:
        result.setdefault("spark.jars.packages", ",".join(PACKAGES))
    result["spark.driver.extraJavaOptions"] = " ".join(
        [*map(shlex.quote, _java_options()), result.get("spark.driver.extraJavaOptions", "")]
    )
    return result


def _class_path(jars: Path, given: str) -> str:
    """Esclusa's jars first. Without more behind them the class archive fits, which was recorded so."""
    ours = map(str, sorted(jars.glob("*.jar")))
    return ":".join(dict.fromkeys([*ours, *filter(None, given.split(":"))]))


def _java_options() -> list[str]:
    log_settings = files("jobs.pipeline").joinpath("log4j2.properties")
    options = [f"-Dlog4j2.configurationFile={log_settings}", "-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr"]
    return options + ([f"-XX:SharedArchiveFile={class_archive()}"] if class_archive().is_file() else [])


def _check(spark: SparkSession) -> None:
    problems = [
        Problem("spark options", 1, key, "is set; it skips files that cannot be read, and their rows. Remove it")
        for key in _LOSS_SWITCHES
        if (spark.conf.get(key, "false") or "").lower() == "true"
    ]
    if spark.conf.get(_FORGETTING, None) is not None:
        message = "is set; Delta would forget which batches are written, and a replay would double them. Remove it"
        problems.append(Problem("spark options", 1, _FORGETTING, message))
    problems += _required_problems({key: spark.conf.get(key) for key in REQUIRED})
    if problems:
        raise ConfError(problems)


def _required_problems(options: dict[str, str | None]) -> list[Problem]:
    faults = {key: required_fault(key, value) for key, value in options.items()}
    hint = "set it so, or submit with --properties-file conf/spark-defaults.conf"
    return [Problem("spark options", 1, key, f"{fault}; {hint}") for key, fault in faults.items() if fault]
