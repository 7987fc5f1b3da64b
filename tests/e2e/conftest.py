"""Whole commands, as a user runs them: each in a process of its own, in a bundle of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.dev.broker import Broker, running_broker

ROOT = Path(__file__).parents[2]
ESCLUSA = Path(sys.prefix) / "bin" / "esclusa"
SMALL = """\
  spark.master: local[2]
  spark.driver.extraJavaOptions: -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
  spark.sql.shuffle.partitions: 1
  spark.databricks.delta.snapshotPartitions: 1
"""


@dataclass
class Bundle:
    """A copy of the shipped conf, its data beside it, tuned for small runs."""

    folder: Path

    def command(self, *arguments: str) -> list[str]:
        return [str(ESCLUSA), *arguments, "--conf", str(self.folder / "conf")]

    def esclusa(self, *arguments: str, expect: int = 0) -> str:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, cwd=self.folder, check=False)
        assert done.returncode == expect, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def events(self, *arguments: str, expect: int = 0) -> list[dict]:
        return [
            json.loads(line) for line in self.esclusa(*arguments, expect=expect).splitlines() if line.startswith("{")
        ]

    def table(self, name: str) -> str:
        return str(self.folder / "data" / "lake" / name)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    target = tmp_path / "conf" / "targets" / "local.yml"
    target.write_text(target.read_text().partition("spark:")[0] + "spark:\n" + SMALL)
    return Bundle(tmp_path)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    return next(folder.glob("esclusa-*.whl"))
