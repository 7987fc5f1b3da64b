"""JVM jars without a build tool: resolved by the Ivy that PySpark brings, checked against pinned hashes."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipeline
from jobs.pipeline.errors import EsclusaError, UnavailableError
from jobs.pipeline.jvm import jvm_class
from jobs.pipeline.runner import PipelineRun
from jobs.pipeline.session import class_archive, find_java, jars_folder, start_session
from jobs.pipeline.spark_properties import PACKAGES

KAFKA_PACKAGES = ("org.apache.kafka:kafka_2.13:4.1.2",)
LOCK_FILE = Path(__file__).with_name("jars.lock")
_EXAMPLE = {
    "conf/targets/local.yml": "state: ${root}/state",
    "conf/pipelines/example.yml": """
        source: {type: files, format: json, path: "${root}/landing", schema: example}
        transforms: [{sql: "SELECT *, year(at) AS year FROM input WHERE id > 0"}]
        sink: {type: delta, path: "${root}/lake/example"}
        """,
    "conf/schemas/example.ddl": "id INT, name STRING, at TIMESTAMP",
    "conf/suites/example.json": json.dumps(
        {"expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "name"}}]}
    ),
    "landing/a.json": '{"id": 1, "name": "a", "at": "2026-01-01T00:00:00Z"}\n{"id": 2}\nbroken\n',
}
_VERSION = re.compile(r"-\d.*$")


class JarMismatchError(EsclusaError):
    """A jar is not the one that the lock file pins."""

    code = "JAR_MISMATCH"


def kafka_folder() -> Path:
    """Where the broker's jars are."""
    return jars_folder().parent / "kafka"


def install_spark_jars() -> bool:
    """Install what Spark needs beyond PySpark's own jars; False if it was there. UnavailableError without network."""
    return _install(PACKAGES, jars_folder(), without=_shipped_with_pyspark())


def install_kafka_jars() -> bool:
    """Install a Kafka broker; False if it was there."""
    return _install(KAFKA_PACKAGES, kafka_folder(), without=frozenset())


def install_class_archive() -> bool:
    """Record the classes that a batch loads, for a faster start of the JVM; False if it was there."""
    archive = class_archive()
    if archive.is_file():
        return False
    with tempfile.TemporaryDirectory() as folder:
        spark = start_session(
            "esclusa-setup", {"spark.driver.extraJavaOptions": shlex.quote(f"-XX:ArchiveClassesAtExit={archive}")}
        )
        _run_example(spark, Path(folder))
        _open_kafka(spark)
        spark.stop()
        gateway: Any = spark.sparkContext._gateway  # noqa: SLF001 - the archive is written when the JVM ends
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()
    return True


def _run_example(spark: SparkSession, folder: Path) -> None:
    """A run of one batch: a good row, an unfit one, a malformed one."""
    for name, content in _EXAMPLE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    run = PipelineRun(spark, load_pipeline(Bundle(folder / "conf"), "example"), lambda _: None)
    run.start()
    run.wait()


def _open_kafka(spark: SparkSession) -> None:
    """Load Spark's source and Kafka's client; neither asks a broker before it reads."""
    servers = "127.0.0.1:1"
    spark.readStream.format("kafka").options(**{"kafka.bootstrap.servers": servers, "subscribe": "example"}).load()
    settings = jvm_class(spark, "java.util.HashMap")()
    settings.put("bootstrap.servers", servers)
    for kind in ("key", "value"):
        settings.put(f"{kind}.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer")
    jvm_class(spark, "org.apache.kafka.clients.consumer.KafkaConsumer")(settings).close()


def _pyspark_jars() -> Path:
    spec = find_spec("pyspark")
    assert spec is not None and spec.submodule_search_locations  # noqa: S101, PT018 - a requirement of this package
    return Path(spec.submodule_search_locations[0]) / "jars"


def _shipped_with_pyspark() -> frozenset[str]:
    return frozenset(_artifact(jar) for jar in _pyspark_jars().glob("*.jar"))


def _artifact(jar: Path) -> str:
    return _VERSION.sub("", jar.stem)


def write_lock() -> None:
    """Resolve all packages anew and pin what came; for a change of versions (`make lock`)."""
    lines = ["# kind  jar  sha256; written by `make lock`"]
    groups = ((PACKAGES, jars_folder(), _shipped_with_pyspark()), (KAFKA_PACKAGES, kafka_folder(), frozenset[str]()))
    for packages, folder, without in groups:
        with tempfile.TemporaryDirectory() as scratch:
            found = _hashes(_resolve(packages, Path(scratch) / folder.name, without))
        lines += [f"{folder.name} {name} {digest}" for name, digest in sorted(found.items())]
    LOCK_FILE.write_text("\n".join(lines) + "\n")


def _install(packages: tuple[str, ...], folder: Path, without: frozenset[str]) -> bool:
    pinned = _read_lock(folder.name)
    if folder.is_dir() and {jar.name for jar in folder.glob("*.jar")} == set(pinned):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        resolved = _resolve(packages, Path(scratch) / folder.name, without)
        _verify(_hashes(resolved), pinned)
        resolved.rename(folder)
    return True


def _resolve(packages: tuple[str, ...], folder: Path, without: frozenset[str]) -> Path:
    for package in packages:
        _retrieve(package, folder)
    for jar in folder.glob("*.jar"):
        if _artifact(jar) in without:
            jar.unlink()
    return folder


def _hashes(folder: Path) -> dict[str, str]:
    return {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}


def _retrieve(package: str, folder: Path) -> None:
    ivy = next(_pyspark_jars().glob("ivy-*.jar"))
    pattern = f"{folder}/[artifact]-[revision](-[classifier]).[ext]"
    words = ["-dependency", *package.split(":"), "-confs", "default", "-retrieve", pattern]
    command = [find_java(), "-jar", str(ivy), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, fixed words
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        message = f"cannot resolve {package} from the Maven repository:\n{tail}"
        raise UnavailableError(message)


def _read_lock(group: str) -> dict[str, str]:
    entries = [line.split() for line in LOCK_FILE.read_text().splitlines() if line and not line.startswith("#")]
    return {name: digest for kind, name, digest in entries if kind == group}


def _verify(found: dict[str, str], pinned: dict[str, str]) -> None:
    if found != pinned:
        changed = sorted(name for name in found.keys() | pinned.keys() if found.get(name) != pinned.get(name))
        message = f"jars differ from {LOCK_FILE}: {', '.join(changed)}; nothing was installed"
        raise JarMismatchError(message)


if __name__ == "__main__":
    write_lock()
