"""A real Airflow over a bundle of small pipelines: one scheduler, one api-server, one database for the whole session.

The tests run in Spark's environment and see Airflow from outside, by its REST API and its processes.
"""

import fcntl
import json
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from deltalake import DeltaTable

from jobs.dev.airflow import Airflow, Place, running_airflow
from jobs.dev.airflow_api import Api, wait_for
from jobs.dev.processes import interrupted_by_sigterm
from jobs.pipeline.session import class_archive, jars_folder
from jobs.testing.bed import Bed, Trigger, file_source, make_bed

ROOT = Path(__file__).parents[2]
CANARIES = {name: f"canary-{name}-7dZ1" for name in ("password", "extra", "variable")}
"""Secrets: of the connection, of its extra, and of a `${secret:…}` of conf."""
SIGNS = "{{ 7 * 6 }} {% raw %} $(touch esclusa-was-here) `touch esclusa-was-here` ; exit 1 & ' | > x"
"""What templates and shells would act on; each submit carries it."""

PICTURES = ROOT / "build" / "screenshots"
BROWSER = [
    *["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"],
    *["--disable-background-networking", "--disable-component-update", "--window-size=1500,950"],
    "--virtual-time-budget=20000",
]
_SMALL_IDS = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "id", "max_value": 99},
    "meta": {"esclusa": {"name": "small", "on_failure": "expect_or_fail"}},
}
_SMALL = {
    "spark.esclusa.note": SIGNS,
    "spark.driver.extraClassPath": ":".join(map(str, sorted(jars_folder().glob("*.jar")))),
    "spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:SharedArchiveFile={class_archive()}",
    "spark.driver.memory": "1g",
    "spark.sql.shuffle.partitions": 1,
    "spark.databricks.delta.snapshotPartitions": 1,
    "spark.ui.enabled": False,
}
_SPARK_SUBMIT = """\
#!/bin/sh
# The real one; it notes its arguments, and hands the next driver with a test's words the fail point that lies here.
here=$(dirname "$0")/..
printf '%s\\n' "$@" >> "$here/argv"
if [ -f "$here/failpoint" ]; then
  case "$*" in *"$(sed -n 2p "$here/failpoint")"*)
    ESCLUSA_FAILPOINT=$(head -n 1 "$here/failpoint"); export ESCLUSA_FAILPOINT; rm "$here/failpoint" ;;
  esac
fi
SPARK_HOME=REAL exec "$here/bin/spark-submit.real" "$@"
"""
_HASTY = """
from datetime import timedelta

for dag in [dag for name, dag in globals().items() if name in ("ids", "past")]:
    for task in dag.tasks:  # tests do not wait for minutes between two tries
        task.retry_delay, task.retry_exponential_backoff = timedelta(seconds=1), 0
"""
_PLAIN = """\
from pathlib import Path

import jobs
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG
from jobs.orchestration.spark_environment import SparkEnvironment

root = Path(__file__).resolve().parents[1]
environment = SparkEnvironment(root / ".venv")
with DAG("plain_submit", schedule=None) as dag:
    SparkSubmitOperator(
        task_id="run",
        application=str(Path(jobs.__file__).parent / "run_pipeline.py"),
        application_args=["spare", "--conf", str(root / "conf")],
        properties_file=str(root / "conf/spark-defaults.conf"),
        conf=SMALL | {"spark.jars.packages": "", "spark.esclusa.note": ""},  # it does render conf
        jars=",".join(environment.jars),
        spark_binary=str(environment.spark_submit),
        env_vars=environment.variables,
    )
"""


@dataclass(frozen=True)
class Bundle:
    """A bundle of pipelines over files of JSON lines with one column, `id`, and of the fault harness's `ids`."""

    folder: Path
    bed: Bed

    def write(self, file: str, text: str) -> Path:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def pipeline(self, name: str, **more: object) -> None:
        source = {"type": "files", "format": "json", "path": f"${{data}}/in/{name}", "schema": "one"}
        sink = {"type": "delta", "path": f"${{data}}/lake/{name}"}
        self.write(f"conf/pipelines/{name}.yml", json.dumps({"source": source, "sink": sink} | more))

    @property
    def pipelines(self) -> set[str]:
        return {file.stem for file in (self.folder / "conf/pipelines").glob("*.yml")}

    def land(self, name: str, *ids: int) -> None:
        """Place a file of rows whole, where a pipeline's live run looks."""
        self.place(f"data/in/{name}", *ids)

    def place(self, folder: str, *ids: int) -> None:
        """Place a file of rows whole."""
        hidden = self.write(f"{folder}/.{ids[0]}.json", "".join(f'{{"id": {number}}}\n' for number in ids))
        hidden.rename(hidden.with_name(f"{ids[0]}.json"))

    def rows(self, name: str) -> list[int]:
        table = DeltaTable(str(self.folder / "data/lake" / name)).to_pyarrow_dataset().to_table()
        return sorted(table["id"].to_pylist())

    def fail_at(self, point: str, words: str = "") -> None:
        """Hand the next driver, of those that have the words in their arguments, a fail point."""
        self.write(".venv/failpoint", f"{point}\n{words}\n")

    @property
    def argv(self) -> list[str]:
        """Arguments of all submits so far."""
        return (self.folder / ".venv/argv").read_text().splitlines()

    @contextmanager
    def another_run(self, name: str) -> Iterator[None]:
        """Hold the pipeline's lease as a run on this machine does: by the kernel's lock on its file."""
        with self.write(f"data/state/leases/{name}/holder", "").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


@dataclass
class Tally:
    """What became of the rows and processes of all faults."""

    counts: Counter[str] = field(default_factory=Counter)


TALLY = Tally()


@pytest.fixture(scope="session")
def canaries() -> dict[str, str]:
    return CANARIES


@pytest.fixture(scope="session")
def signs() -> str:
    return SIGNS


@pytest.fixture(scope="session")
def tally() -> Tally:
    return TALLY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TALLY.counts["faults"]:
        kinds = ("faults", "acked", "lost", "doubled", "misplaced", "other violations", "orphans")
        terminalreporter.write_line("Airflow: " + ", ".join(f"{TALLY.counts[kind]:,} {kind}" for kind in kinds))


def make_bundle(folder: Path) -> Bundle:
    """The product's DAG files and environments, and the pipeline `ids`."""
    bundle = Bundle(folder, make_bed(folder, file_source(), Trigger.AVAILABLE_NOW))
    shutil.copytree(ROOT / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "conf/spark-defaults.conf", folder / "conf")
    with (folder / "dags/esclusa_pipelines.py").open("a") as dags:
        dags.write(_HASTY)
    bundle.write("dags/plain_submit.py", _PLAIN.replace("SMALL", repr({key: str(_SMALL[key]) for key in _SMALL})))
    variables = {"data": "${root}/data", "landing": "${data}/landing", "lake": "${data}/lake"}
    bundle.write(
        "conf/targets/local.yml", json.dumps({"variables": variables, "state": "${data}/state", "spark": _SMALL})
    )
    bundle.write("conf/schemas/one.ddl", "id BIGINT")
    _link_environment(bundle)
    return bundle


def _link_environment(bundle: Bundle) -> None:
    """This environment under another path, but for spark-submit."""
    real, ours = Path(sys.prefix), bundle.folder / ".venv"
    (ours / "bin").mkdir(parents=True)
    for name in ("lib", "share", "pyvenv.cfg"):
        (ours / name).symlink_to(real / name)
    for file in (real / "bin").iterdir():
        (ours / "bin" / (f"{file.name}.real" if file.name == "spark-submit" else file.name)).symlink_to(file)
    spark_home = next(real.glob("lib/python3*/site-packages/pyspark"))  # the class archive knows the jars by this path
    bundle.write(".venv/bin/spark-submit", _SPARK_SUBMIT.replace("REAL", f"'{spark_home}'")).chmod(0o755)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Pipelines a (daily), past (daily, with an archive by day), b (after a), wrong (its SQL), absent (its source), busy, spare, shown, apart, held (ids over 99), and ids."""
    bundle = make_bundle(tmp_path_factory.mktemp("services") / "bundle")
    bundle.pipeline("a", schedule="@daily", description="Rows that land")
    bundle.pipeline("past", schedule="@daily", backfill={"path": "${data}/archive/past/%Y-%m-%d"})
    bundle.pipeline("b", schedule={"after": ["a"]})
    bundle.pipeline("wrong", transforms=[{"sql": "SELECT id FROM somewhere_else"}])
    for name in ("absent", "busy", "spare", "shown", "apart", "held"):
        bundle.pipeline(name)
    bundle.write("conf/suites/held.json", json.dumps({"name": "held", "expectations": [_SMALL_IDS]}))
    return bundle


@pytest.fixture(scope="session")
def airflow(bundle: Bundle) -> Iterator[Airflow]:
    """Airflow, quick to see that something has died, with canaries for secrets."""
    extra = {"conn_type": "spark", "host": "local[1]", "login": "someone", "password": CANARIES["password"]}
    settings = {
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(extra | {"extra": {"note": CANARIES["extra"]}}),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",  # less, and a busy scheduler takes itself for dead
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "CANARY": CANARIES["variable"],
    }
    home = bundle.folder.with_name("airflow")
    place = Place(home, ROOT / ".venv-airflow", {"tests": bundle.folder / "dags"}, settings=settings)
    with interrupted_by_sigterm(), running_airflow(place) as running:
        yield running


@pytest.fixture(scope="session")
def api(airflow: Airflow, bundle: Bundle) -> Api:
    """The REST API, once all DAGs are there."""
    api = airflow.log_in()
    wait_for("all DAGs", lambda: bundle.pipelines <= {dag["dag_id"] for dag in api.get("/dags?limit=100")["dags"]})
    return api


@pytest.fixture
def door(airflow, api):
    """Sends a browser that comes to it on to Airflow, logged in: a cookie belongs to a host, whatever the port."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Set-Cookie", f"_token={api.token}; Path=/")
            self.send_header("Location", airflow.url + self.path)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def browse(door, tmp_path):
    """Opens a path in a fresh browser, keeps a picture of it, and returns the page's HTML."""

    def open_page(path, picture):
        PICTURES.mkdir(parents=True, exist_ok=True)
        file = PICTURES / f"{picture}.png"
        file.unlink(missing_ok=True)
        command = [*BROWSER, f"--user-data-dir={tmp_path}", f"--screenshot={file}", "--dump-dom", door + path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert file.stat().st_size > 10_000
        return done.stdout

    return open_page
