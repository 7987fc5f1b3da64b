"""Airflow with a database of its own, and two bundles: `tried` with a spark-submit that says what a test tells it
to, `real` with Spark. Airflow reads its settings when it is first imported, so they are set here, at the top.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOME = Path(tempfile.mkdtemp(prefix="esclusa-airflow-"))
BUNDLES = {"tried": HOME / "tried", "real": HOME / "real"}
MASTER = "local[2]"
_BUNDLE_CLASS = "airflow.dag_processing.bundles.local.LocalDagBundle"
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
        [
            {"name": name, "classpath": _BUNDLE_CLASS, "kwargs": {"path": str(folder / "dags")}}
            for name, folder in BUNDLES.items()
        ]
    ),
    "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": MASTER}),
}

SMALL = """\
  spark.driver.extraJavaOptions: -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
  spark.sql.shuffle.partitions: 1
  spark.databricks.delta.snapshotPartitions: 1
  spark.ui.enabled: false
"""
TARGET = f"variables: {{data: '${{root}}/data'}}\nstate: ${{data}}/state\nspark:\n  spark.master: local[7]\n{SMALL}"
PIPELINE = """\
source: {type: files, format: json, path: "${data}/landing", schema: one}
sink: {type: delta, path: "${data}/lake/NAME"}
"""
SPARK_SUBMIT = """\
#!/bin/sh
here=$(dirname "$0")/..
printf '%s\\n' "$@" > "$here/argv"
echo "$SPARK_HOME|$PYSPARK_PYTHON" > "$here/variables"
code=$(head -n 1 "$here/codes")
sed -i 1d "$here/codes"
echo "esclusa says $code"
exit "$code"
"""
ESCLUSA = """\
#!/bin/sh
cat "$(dirname "$0")/../ledger"
"""


@dataclass(frozen=True)
class Real:
    """A bundle of Airflow's configuration."""

    folder: Path

    def load(self):
        """All that Airflow finds in it: a bag of DAGs and import errors."""
        from airflow.dag_processing.dagbag import BundleDagBag  # noqa: PLC0415 - reads its settings when imported

        folder = self.folder / "dags"
        return BundleDagBag(dag_folder=str(folder), bundle_path=folder, bundle_name=self.folder.name)


@dataclass(frozen=True)
class Tried(Real):
    """A bundle whose spark-submit and ledger a test writes."""

    def write(self, file: str, text: str) -> Path:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def pipeline(self, name: str, more: str = "") -> None:
        self.write(f"conf/pipelines/{name}.yml", PIPELINE.replace("NAME", name) + more)

    def ends_with(self, *codes: int) -> None:
        """What the next submits exit with."""
        self.write(".venv/codes", "".join(f"{code}\n" for code in codes))

    def ledger(self, *batches: dict) -> None:
        self.write(".venv/ledger", "".join(json.dumps(batch) + "\n" for batch in batches))

    @property
    def argv(self) -> list[str]:
        return (self.folder / ".venv/argv").read_text().splitlines()


def make_tried(folder: Path) -> Tried:
    shutil.copytree(ROOT / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    tried = Tried(folder)
    tried.write("conf/targets/local.yml", TARGET)
    tried.write("conf/schemas/one.ddl", "id BIGINT")
    tried.write("conf/spark-defaults.conf", "")
    for name, text in {"spark-submit": SPARK_SUBMIT, "esclusa": ESCLUSA}.items():
        tried.write(f".venv/bin/{name}", text).chmod(0o755)
    (folder / ".venv/lib/python3.11/site-packages/pyspark").mkdir(parents=True)
    tried.ledger()
    return tried


def make_real(folder: Path) -> None:
    shutil.copytree(ROOT / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", folder / "conf")
    target = folder / "conf/targets/local.yml"
    target.write_text(target.read_text().partition("spark:")[0] + "spark:\n" + SMALL)
    landing = folder / "data/landing/flights"
    landing.mkdir(parents=True)
    shutil.copy(ROOT / "tests/e2e/flights.csv", landing)
    (folder / ".venv").symlink_to(ROOT / ".venv")


@pytest.fixture(scope="session", autouse=True)
def database() -> Iterator[None]:
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    yield
    shutil.rmtree(HOME)


@pytest.fixture
def tried() -> Iterator[Tried]:
    """The bundle with pipelines a (daily), b (after a), c (by hand)."""
    folder = BUNDLES["tried"]
    bundle = make_tried(folder)
    bundle.pipeline("a", 'description: First\nschedule: "@daily"\n')
    bundle.pipeline("b", "schedule: {after: [a]}\n")
    bundle.pipeline("c")
    yield bundle
    shutil.rmtree(folder)


@pytest.fixture
def real() -> Iterator[Real]:
    folder = BUNDLES["real"]
    make_real(folder)
    yield Real(folder)
    shutil.rmtree(folder)
