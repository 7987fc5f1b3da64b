"""What a DAG file costs: CPU seconds of a process that imports Airflow alone, and of ones that load pipelines besides.

Each pipeline is the shipped `flights`, with a group of tasks for held batches. The processes run in turn.

    python benchmarks/parse.py [--rounds 5] [--pipelines 1 50 200]
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-airflow/bin/python"
AIRFLOW = "import airflow.sdk, airflow.providers.apache.spark.operators.spark_submit"
LOAD = f"""
{AIRFLOW}
import runpy, sys
found = runpy.run_path(sys.argv[1]).values()
assert sum(isinstance(one, airflow.sdk.DAG) for one in found) == int(sys.argv[2])
"""


def make_bundle(folder: Path, count: int) -> Path:
    """A bundle with so many pipelines; returns its DAG file."""
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copytree(ROOT / "dags", folder / "dags")
    text = (folder / "conf/pipelines/flights.yml").read_text(encoding="utf-8")
    shutil.rmtree(folder / "conf/pipelines")
    (folder / "conf/pipelines").mkdir()
    text = text.replace("quality:\n", "quality:\n  halt_when: {quarantined_share_above: 0.5}\n")
    for number in range(count):
        (folder / f"conf/pipelines/p{number}.yml").write_text(text, encoding="utf-8")
    return folder / "dags/esclusa_pipelines.py"


def cpu_seconds(home: Path, *arguments: str) -> float:
    """Of a fresh process of Airflow's environment, its children included."""
    before = os.times()
    subprocess.run([PYTHON, "-c", *arguments], env={**os.environ, "AIRFLOW_HOME": str(home)}, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def measure(rounds: int, counts: list[int]) -> dict[int, list[float]]:
    """Number of pipelines -> CPU seconds of each round; 0 stands for Airflow alone."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "airflow"
        files = {count: make_bundle(Path(name) / str(count), count) for count in counts}
        found: dict[int, list[float]] = {count: [] for count in (0, *counts)}
        for _ in range(rounds + 1):  # the first fills the caches of the disk
            found[0].append(cpu_seconds(home, AIRFLOW))
            for count, file in files.items():
                found[count].append(cpu_seconds(home, LOAD, str(file), str(count)))
    return {count: seconds[1:] for count, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pipelines", type=int, nargs="+", default=[1, 50, 200])
    options = parser.parse_args()
    found = measure(options.rounds, options.pipelines)
    fewest = min(options.pipelines)
    print(f"{'pipelines':>9}  CPU seconds  ratio to Airflow alone  ms a further pipeline")
    for count, seconds in found.items():
        ratio = statistics.median(one / alone for one, alone in zip(seconds, found[0], strict=True))
        line = f"{count:9}  {statistics.median(seconds):11.2f}  {ratio:22.2f}"
        if count > fewest:
            added = [many - few for many, few in zip(seconds, found[fewest], strict=True)]
            line += f"  {statistics.median(added) / (count - fewest) * 1000:21.1f}"
        print(line)


if __name__ == "__main__":
    main()
