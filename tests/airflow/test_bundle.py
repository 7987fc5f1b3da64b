"""The deployable archive: what is in it, and that it is enough for environments, DAGs and a run."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from deltalake import DeltaTable

from jobs.dev.bundle import MANIFEST, NAME, make_bundle

ROOT = Path(__file__).parents[2]
BIN = Path(sys.prefix) / "bin"
LOAD = """
import json, sys
from airflow.dag_processing.dagbag import BundleDagBag
import jobs
bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=sys.argv[1], bundle_name="esclusa")
print(json.dumps({"dags": sorted(bag.dags), "errors": bag.import_errors, "jobs": jobs.__file__}))
"""


def run(*command, **variables):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | variables
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make_bundle(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def unpacked(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployed")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / NAME


@pytest.fixture(scope="module")
def installed(unpacked):
    """Both environments, from the archive's own locks and wheel; the jars are those that this machine has verified."""
    for name, lock in {".venv": "requirements.lock", ".venv-airflow": "requirements-airflow.lock"}.items():
        run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, unpacked / name)
        into = ["pip", "install", "--quiet", "--python", unpacked / name / "bin/python"]
        run(BIN / "uv", *into, "--no-deps", "--require-hashes", "-r", unpacked / lock)
        run(BIN / "uv", *into, "--no-deps", *(unpacked / "wheel").glob("*.whl"))
    (unpacked / ".venv/share").mkdir(exist_ok=True)
    (unpacked / ".venv/share/esclusa").symlink_to(Path(sys.prefix) / "share/esclusa")
    return unpacked


def test_the_same_sources_make_the_same_bytes(archive, tmp_path):
    assert make_bundle(ROOT, tmp_path).read_bytes() == archive.read_bytes()


def test_the_manifest_names_every_file_and_only_deployable_ones_are_there(unpacked):
    run("sh", "-c", f"cd '{unpacked}' && sha256sum --check --strict {MANIFEST}")
    named = {line.split("  ", 1)[1] for line in (unpacked / MANIFEST).read_text().splitlines()}
    files = {str(file.relative_to(unpacked)) for file in unpacked.rglob("*") if file.is_file()}
    assert files - {MANIFEST} == named
    assert {name.split("/")[0] for name in named} == {
        *["INSTALL", "LICENSE", "conf", "dags", "jars.lock", "jobs", "requirements.lock", "requirements-airflow.lock"],
        "wheel",
    }
    assert {name for name in named if "__pycache__" in name or "/." in name or "data/" in name} == set()


def test_a_stray_file_beside_conf_stays_out(tmp_path):
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "jobs", "dags", "conf"):
        run("cp", "-r", ROOT / name, tmp_path)
    for lock in ROOT.glob("requirements*.lock"):
        run("cp", lock, tmp_path)
    for stray in ("conf/.env", "conf/password.txt", "conf/pipelines/.flights.yml.swp", "dags/__pycache__/x.py"):
        (tmp_path / stray).parent.mkdir(exist_ok=True)
        (tmp_path / stray).write_text("secret")
    with tarfile.open(make_bundle(tmp_path, tmp_path / "dist")) as tar:
        texts = [tar.extractfile(name).read() for name in tar.getnames()]
    assert len(texts) > 10
    assert b"secret" not in texts


def test_in_a_clean_airflow_its_dags_load_and_one_runs(installed):
    landing = installed / "data/landing/flights"
    landing.mkdir(parents=True)
    (landing / "flights.csv").write_text((ROOT / "tests/e2e/flights.csv").read_text())
    dags = installed / "dags"
    bundle = {
        "name": "esclusa",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(dags)},
    }
    variables = {
        "AIRFLOW_HOME": str(installed / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
    }
    bin_folder = installed / ".venv-airflow/bin"
    run(bin_folder / "airflow", "db", "migrate", **variables)
    found = json.loads(run(bin_folder / "python", "-P", "-c", LOAD, dags, **variables).splitlines()[-1])
    assert (found["dags"], found["errors"]) == (["flights", "flights_kafka"], {})
    assert Path(found["jobs"]).is_relative_to(installed / ".venv-airflow")
    run(bin_folder / "airflow", "dags", "test", "flights", **variables)
    assert DeltaTable(str(installed / "data/lake/flights")).to_pyarrow_dataset().count_rows() == 3
    assert Path(
        run(installed / ".venv/bin/python", "-P", "-c", "import jobs; print(jobs.__file__)").strip()
    ).is_relative_to(installed / ".venv")
