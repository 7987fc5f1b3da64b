"""The wheel on a real standalone cluster: a master and two workers, as processes on loopback."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pyspark
import pytest
from deltalake import DeltaTable

from jobs.pipeline.session import jars_folder

SPARK = Path(pyspark.__file__).parent
ROOT = Path(__file__).parents[2]
START_SECONDS = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def alive_workers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/", timeout=2) as answer:
            return answer.read().decode().count('"ALIVE"') - 1
    except OSError:
        return 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    port, ui = free_port(), free_port()
    master = f"spark://127.0.0.1:{port}"
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_NO_DAEMONIZE": "1", "SPARK_HOME": str(SPARK)}
    deploy = "org.apache.spark.deploy"
    commands = [
        [f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(ui)],
        *[
            [f"{deploy}.worker.Worker", "--host", "127.0.0.1", "--webui-port", "0", "--cores", "1", "--memory", "1g",
             "--work-dir", str(folder / f"work{n}"), master]
            for n in (1, 2)
        ],
    ]  # fmt: skip
    with ExitStack() as stack:
        log = stack.enter_context((folder / "cluster.log").open("wb"))
        for command in commands:
            process = subprocess.Popen(
                [str(SPARK / "bin" / "spark-class"), *command], env=environment, stdout=log, stderr=subprocess.STDOUT
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        deadline = time.monotonic() + START_SECONDS
        while alive_workers(ui) < 2:
            assert time.monotonic() < deadline, (folder / "cluster.log").read_text()[-3000:]
            time.sleep(0.2)
        yield master


def test_wheel_runs_on_a_cluster_with_spark_submit(bundle, cluster, wheel, tmp_path):
    landing = bundle.folder / "data" / "landing" / "flights"
    landing.mkdir(parents=True)
    lines = (line for line in (ROOT / "tests" / "e2e" / "flights.csv").read_text().splitlines(keepends=True))
    (landing / "a.csv").write_text("".join(lines))
    entrypoint = tmp_path / "app" / "run_pipeline.py"
    entrypoint.parent.mkdir()
    entrypoint.write_text((ROOT / "jobs" / "run_pipeline.py").read_text())
    defaults = bundle.folder / "conf" / "spark-defaults.conf"
    jars = ",".join(map(str, sorted(jars_folder().glob("*.jar"))))
    lines = [line for line in defaults.read_text().splitlines() if not line.startswith("spark.jars.packages")]
    defaults.write_text("\n".join([*lines, f"spark.jars {jars}"]) + "\n")
    command = [
        str(SPARK / "bin" / "spark-submit"), "--master", cluster, "--properties-file", str(defaults),
        "--conf", "spark.driver.bindAddress=127.0.0.1", "--conf", "spark.driver.host=127.0.0.1",
        "--conf", "spark.ui.enabled=false", "--conf", "spark.executor.memory=512m",
        "--py-files", str(wheel), str(entrypoint), "flights", "--conf", str(bundle.folder / "conf"),
    ]  # fmt: skip
    hide_source = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        f"sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]\n"
    )
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(hide_source)
    environment = os.environ | {
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_HOME": str(SPARK),
        "PYTHONPATH": str(tmp_path / "site"),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert '"rows_written": 3' in done.stdout
    assert DeltaTable(bundle.table("flights")).to_pyarrow_table().num_rows == 3
    assert DeltaTable(bundle.table("flights_quarantine")).to_pyarrow_table().num_rows == 1
