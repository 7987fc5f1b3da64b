"""The environment that holds Spark: what Airflow starts there, and with which variables."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.pipeline.bundle import Bundle

NEWEST = 1000
"""Rows of the ledger, and events, that are looked at first: far more than the batches between two events."""
ALL = sys.maxsize
"""As many rows as the ledger has."""


class SparkEnvironmentError(Exception):
    """The environment is not there, or a command in it failed."""


@dataclass(frozen=True, slots=True)
class SparkEnvironment:
    """A virtual environment with Esclusa and pyspark; Airflow's own has neither Spark nor Arrow."""

    folder: Path

    @property
    def spark_submit(self) -> Path:
        """The command that the task starts; SparkEnvironmentError, with the remedy, where there is none."""
        path = self.folder / "bin" / "spark-submit"
        if not path.is_file():
            raise SparkEnvironmentError(f"there is no {path}; `make setup` in the bundle makes it")
        return path

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of a submit, over the worker's own."""
        homes = sorted(self.folder.glob("lib/python3*/site-packages/pyspark"))
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ.get('PATH', '')}",
            "PYSPARK_PYTHON": str(self.folder / "bin" / "python"),
            **({"SPARK_HOME": str(homes[0])} if homes else {}),  # an empty one would break spark-submit's own search
        }

    @property
    def jars(self) -> list[str]:
        """JVM jars that `esclusa setup` put here; empty: spark-submit fetches what spark.jars.packages names."""
        return [str(path) for path in sorted(self.folder.glob("share/esclusa/jars/*.jar"))]

    def read_ledger(self, bundle: Bundle, pipelines: Sequence[str], newest: int = NEWEST) -> list[dict[str, Any]]:
        """The newest batches of each of the pipelines, oldest first, by `esclusa status`. Starts no Spark."""
        if not pipelines:
            return []
        done = self.run_esclusa(bundle, ["status", *pipelines, "--json", "--last", str(newest)])
        if done.returncode:
            raise SparkEnvironmentError(f"esclusa status ended with {done.returncode}: {done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def run_esclusa(self, bundle: Bundle, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command of `esclusa` over the bundle, without a shell, to its end, whatever its exit code."""
        options = ["--conf", str(bundle.conf), "--target", bundle.target]
        command = [str(self.folder / "bin" / "esclusa"), *arguments, *options]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
        except OSError as error:
            raise SparkEnvironmentError(f"{command[0]} cannot be started: {error}") from error


def environment_of(bundle: Bundle) -> SparkEnvironment:
    """Spark's environment of a bundle: `.venv` beside its conf/."""
    return SparkEnvironment(bundle.root / ".venv")
