"""A real Airflow over a bundle of small pipelines: one scheduler, one api-server, one database for the whole session.

The tests run in Spark's environment and see Airflow from outside, by its REST API and its processes.
"""

import fcntl
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from deltalake import DeltaTable

from jobs.dev.airflow import Airflow, Place, running_airflow
from jobs.dev.airflow_api import Api, wait_for
from jobs.pipeline.session import class_archive, jars_folder

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-airflow"
CLASSPATH = ":".join(map(str, sorted(jars_folder().glob("*.jar"))))
SMALL = {
    "spark.driver.extraClassPath": CLASSPATH,
    "spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:SharedArchiveFile={class_archive()}",
    "spark.driver.memory": "1g",
    "spark.sql.shuffle.partitions": 1,
    "spark.databricks.delta.snapshotPartitions": 1,
    "spark.ui.enabled": False,
}
TARGET = {"variables": {"data": "${root}/data"}, "state": "${data}/state", "spark": SMALL}
MASTER = "local[1]"


@dataclass(frozen=True)
class Bundle:
    """A bundle of pipelines over files of JSON lines with one column, `id`."""

    folder: Path

    def write(self, file: str, text: str) -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def pipeline(self, name: str, **more: object) -> None:
        source = {"type": "files", "format": "json", "path": f"${{data}}/landing/{name}", "schema": "one"}
        sink = {"type": "delta", "path": f"${{data}}/lake/{name}"}
        self.write(f"conf/pipelines/{name}.yml", json.dumps({"source": source, "sink": sink} | more))

    def land(self, name: str, *ids: int) -> None:
        """Place a file of rows whole."""
        landing = self.folder / "data/landing" / name
        landing.mkdir(parents=True, exist_ok=True)
        hidden = landing / f".{ids[0]}.json"
        hidden.write_text("".join(f'{{"id": {number}}}\n' for number in ids))
        hidden.rename(landing / f"{ids[0]}.json")

    def rows(self, name: str) -> list[int]:
        table = DeltaTable(str(self.folder / "data/lake" / name)).to_pyarrow_dataset().to_table()
        return sorted(table["id"].to_pylist())

    @contextmanager
    def another_run(self, name: str) -> Iterator[None]:
        """Hold the pipeline's lease as a run on this machine does: by the kernel's lock on its file."""
        file = self.folder / "data/state/leases" / name / "holder"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


def make_bundle(folder: Path, target: dict = TARGET) -> Bundle:
    """The product's DAG files and environments, and no pipeline yet."""
    bundle = Bundle(folder)
    shutil.copytree(ROOT / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("*.yml", "suites", "schemas"))
    bundle.write("conf/targets/local.yml", json.dumps(target))
    bundle.write("conf/schemas/one.ddl", "id BIGINT")
    (folder / ".venv").symlink_to(sys.prefix)
    return bundle


def place_of(bundle: Bundle, **settings: str) -> Place:
    home = bundle.folder.with_name(f"{bundle.folder.name}-airflow")
    return Place(home, ENVIRONMENT, {"tests": bundle.folder / "dags"}, master=MASTER, settings=settings)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Pipelines a (daily), b (after a), wrong (its SQL), absent (its source), busy."""
    bundle = make_bundle(tmp_path_factory.mktemp("services") / "bundle")
    bundle.pipeline("a", schedule="@daily")
    bundle.pipeline("b", schedule={"after": ["a"]})
    bundle.pipeline("wrong", transforms=[{"sql": "SELECT id FROM somewhere_else"}])
    bundle.pipeline("absent")
    bundle.pipeline("busy")
    return bundle


@pytest.fixture(scope="session")
def airflow(bundle: Bundle) -> Iterator[Airflow]:
    with running_airflow(place_of(bundle)) as running:
        yield running


@pytest.fixture(scope="session")
def api(airflow: Airflow, bundle: Bundle) -> Api:
    """The REST API, once all DAGs are there."""
    api = airflow.log_in()
    names = sorted(file.stem for file in (bundle.folder / "conf/pipelines").glob("*.yml"))
    wait_for("all DAGs", lambda: sorted(dag["dag_id"] for dag in api.get("/dags")["dags"]) == names)
    return api
