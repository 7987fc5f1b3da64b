"""One Spark session for the whole run of a worker, and pipelines written in a few lines."""

import json
import signal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.dev.broker import running_broker
from jobs.dev.produce import create_topic
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipeline
from jobs.pipeline.ledger import BatchRecord, read_ledger
from jobs.pipeline.model import Pipeline
from jobs.pipeline.runner import PipelineRun
from jobs.pipeline.session import start_session

SMALL = {
    "spark.master": "local[2]",
    "spark.driver.memory": "2g",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = start_session("tests", SMALL)
    yield session
    session.stop()


@dataclass
class Workbench:
    """A bundle in a temporary folder with one pipeline over files in landing/."""

    spark: SparkSession
    folder: Path
    batches: list[BatchRecord] = field(default_factory=list)

    def write(self, path: str, content: str | bytes) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def suite(self, *expectations: dict) -> None:
        self.write("conf/suites/p.json", json.dumps({"name": "p", "expectations": list(expectations)}))

    def define(self, *, source: str, ddl: str = "id INT, name STRING", rest: str = "") -> Pipeline:
        self.write("conf/targets/local.yml", f"state: {self.folder}/state\n")
        self.write("conf/schemas/p.ddl", ddl)
        sink = "" if "sink:" in rest else f"sink: {{type: delta, path: {self.folder}/lake/p}}\n"
        self.write("conf/pipelines/p.yml", f"source: {source}\n{rest}\n{sink}")
        return self.load()

    def define_files(self, format_: str, options: str = "{}", *, schema: bool = True, **others: str) -> Pipeline:
        (self.folder / "landing").mkdir(exist_ok=True)
        named = "schema: p, " if schema else ""
        source = f"{{type: files, format: {format_}, path: {self.folder}/landing, {named}options: {options}}}"
        return self.define(source=source, **others)

    def define_topic(self, servers: str, topic: str, **options: str | int) -> Pipeline:
        """Over the values of a topic, as text."""
        all_options = json.dumps({"kafka.bootstrap.servers": servers, "subscribe": topic} | options)
        return self.define(source=f"{{type: kafka, value_format: text, options: {all_options}}}")

    def load(self, name: str = "p") -> Pipeline:
        return load_pipeline(Bundle(self.folder / "conf"), name)

    def run(self, name: str = "p") -> list[BatchRecord]:
        """Run until caught up; returns this run's batches."""
        before = len(self.batches)
        run = PipelineRun(self.spark, self.load(name), self.batches.append)
        run.start()
        run.wait()
        return self.batches[before:]

    def target(self) -> list[dict]:
        return DeltaTable(str(self.folder / "lake/p")).to_pyarrow_table().to_pylist()

    def quarantine(self) -> list[dict]:
        return DeltaTable(str(self.folder / "lake/p_quarantine")).to_pyarrow_table().to_pylist()

    def values(self) -> list[str]:
        """Of a topic, as the target has them."""
        return sorted(row["value"] for row in self.target())

    def ledger(self, name: str = "p") -> list[dict]:
        return read_ledger(str(self.folder / "state/ledger" / name))


@pytest.fixture(scope="session")
def new_bench(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Workbench]:
    """For fixtures that several tests share."""
    return lambda: Workbench(spark, tmp_path_factory.mktemp("bench"))


@pytest.fixture
def bench(spark: SparkSession, tmp_path: Path) -> Workbench:
    return Workbench(spark, tmp_path)


@pytest.fixture
def handlers() -> Iterator[None]:
    """A run side by side leaves its signal handlers in place; the tests' own come back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker for all tests that do it no harm."""
    with running_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.servers


@pytest.fixture
def topic(servers: str) -> str:
    """A topic of one partition."""
    name = f"t{uuid.uuid4().hex}"
    create_topic(servers, name, 1)
    return name


@pytest.fixture
def expect() -> Callable[..., dict]:
    """expect("column_values_to_be_null", "c", on_failure=…, **kwargs) -> an expectation as GX writes it."""

    def build(
        kind: str, column: str | None = None, *, on_failure: str | None = None, name: str | None = None, **kwargs
    ):
        own = {key: value for key, value in (("on_failure", on_failure), ("name", name)) if value}
        columns = {} if column is None else {"column": column}
        return {"type": f"expect_{kind}", "kwargs": columns | kwargs, "meta": {"esclusa": own}}

    return build
