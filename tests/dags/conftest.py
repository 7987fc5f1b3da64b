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
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.pipeline.dated_path import Interval

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
ARCHIVE = 'schedule: "@daily"\nbackfill: {path: "${data}/archive/%Y-%m-%d"}\n'
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
here=$(dirname "$0")/..
if [ "$1" = status ]; then
  while [ "$1" != --last ]; do shift; done
  exec tail -n "$2" "$here/ledger"
fi
printf '%s\\n' "$@" > "$here/release"
cat "$here/release_says" >&2
cp "$here/ledger_then" "$here/ledger"
exit "$(cat "$here/release_code")"
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

    def archived(self, name: str, *, can_be_held: bool = False) -> None:
        """A pipeline with an archive by day."""
        self.pipeline(name, ARCHIVE, can_be_held=can_be_held)

    def pipeline(self, name: str, more: str = "", *, can_be_held: bool = False) -> None:
        quality = "quality: {halt_when: {quarantined_share_above: 0.5}}\n" if can_be_held else ""
        self.write(f"conf/pipelines/{name}.yml", PIPELINE.replace("NAME", name) + quality + more)

    def ends_with(self, *codes: int) -> None:
        """What the next submits exit with."""
        self.write(".venv/codes", "".join(f"{code}\n" for code in codes))

    def ledger(self, *batches: dict) -> None:
        self.ledger_then(*batches)
        self.write(".venv/ledger", _lines(batches))

    def ledger_then(self, *batches: dict) -> None:
        """What the ledger holds once `esclusa release` was called."""
        self.write(".venv/ledger_then", _lines(batches))

    def release_ends(self, code: int, says: str = "") -> None:
        """What `esclusa release` exits with, and says."""
        self.write(".venv/release_code", str(code))
        self.write(".venv/release_says", says)

    @property
    def argv(self) -> list[str]:
        return (self.folder / ".venv/argv").read_text().splitlines()

    @property
    def release(self) -> list[str] | None:
        """Words of the last `esclusa release`, but for --conf and --target."""
        path = self.folder / ".venv/release"
        return path.read_text().splitlines()[:-4] if path.exists() else None


def _lines(batches):
    return "".join(json.dumps(batch) + "\n" for batch in batches)


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
    tried.release_ends(0)
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


@pytest.fixture
def run():
    """Runs a DAG; gives the states of its tasks, and of the run itself under `dag`.

    Tasks of the gate path are left out where nobody was asked. Tries and waits follow each other at once.
    """

    def run_at_once(dag):
        for task in dag.tasks:
            task.retry_delay = timedelta(seconds=0.1)
            task.retry_exponential_backoff = 0
            task.busy_waits = [timedelta(seconds=0.1)] * 3
        ended = dag.test(logical_date=None)
        states = {task.task_id: str(task.state) for task in ended.get_task_instances()}
        is_asked = states.get("held.decide") not in {"skipped", "upstream_failed"}
        return {"dag": str(ended.state)} | {
            task: state for task, state in states.items() if is_asked or not task.startswith("held.")
        }

    return run_at_once


@pytest.fixture
def in_backfill(monkeypatch):
    """Function: a context in which what runs is of a backfill over the first two days of 2026.

    `dag.test()` makes no such runs. The real scheduler does, in tests/airflow.
    """

    @contextmanager
    def in_interval():
        from jobs.orchestration import held_batch, operators, subject  # noqa: PLC0415 - imports airflow

        interval = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC))
        with monkeypatch.context() as patched:
            for module in (subject, operators, held_batch):
                patched.setattr(module, "interval_of", lambda _: interval)
            yield

    return in_interval
