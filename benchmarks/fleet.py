"""What a fleet saves: small pipelines, each in a Spark application of its own against all in one.

CPU seconds are user and system time of all processes that a submit starts, as the kernel counts them.

    python benchmarks/fleet.py [--pipelines 20]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from jobs.orchestration.spark_environment import SparkEnvironment

ROOT = Path(__file__).parents[1]
ROWS = 1000
PIPELINE = """\
source: {type: files, format: json, path: "${data}/landing/NAME", schema: events}
sink: {type: delta, path: "${data}/lake/NAME"}
fleet: small
"""
SUITE = {
    "name": "events",
    "expectations": [
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "value", "min_value": 0, "max_value": 990}},
    ],
}
OPTIONS = {
    "spark.master": "local[2]",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}


@dataclass(frozen=True)
class Cost:
    cpu_seconds: float
    wall_seconds: float


def make_bundle(folder: Path, names: list[str]) -> None:
    files = {
        "conf/targets/local.yml": "variables: {data: '${root}/data'}\nstate: ${data}/state\n",
        "conf/schemas/events.ddl": "id BIGINT, value INT",
        "conf/suites/events.json": json.dumps(SUITE),
        "conf/spark-defaults.conf": (ROOT / "conf/spark-defaults.conf").read_text(encoding="utf-8"),
    }
    lines = "".join(json.dumps({"id": number, "value": number}) + "\n" for number in range(ROWS))
    for name in names:
        files[f"conf/pipelines/{name}.yml"] = PIPELINE.replace("NAME", name) + "quality: {suite: events}\n"
        files[f"data/landing/{name}/events.json"] = lines
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")


def submit(folder: Path, *arguments: str) -> Cost:
    """As the DAGs submit; fails unless it ends with 0."""
    environment = SparkEnvironment(Path(sys.prefix))
    options = [word for key, value in OPTIONS.items() for word in ("--conf", f"{key}={value}")]
    options += ["--properties-file", str(folder / "conf/spark-defaults.conf")]
    if environment.jars:
        options += ["--conf", "spark.jars.packages=", "--jars", ",".join(environment.jars)]
    command = [str(environment.spark_submit), *options, str(ROOT / "jobs/run_pipeline.py"), *arguments]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [*command, "--conf", str(folder / "conf")],
        env=os.environ | environment.variables,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, time.monotonic() - began)


def rows_written(folder: Path, names: list[str]) -> int:
    esclusa = [str(Path(sys.prefix) / "bin" / "esclusa"), "status", *names, "--json", "--conf", str(folder / "conf")]
    told = subprocess.run(esclusa, check=True, capture_output=True, text=True).stdout
    return sum(json.loads(line)["rows_written"] for line in told.splitlines())


def measure(count: int) -> tuple[Cost, Cost]:
    """One application each, then one for all, over bundles of their own; both must write the same rows."""
    names = [f"p{number:02}" for number in range(count)]
    with tempfile.TemporaryDirectory(prefix="esclusa-fleet-") as place:
        apart, together = Path(place) / "apart", Path(place) / "together"
        for folder in (apart, together):
            make_bundle(folder, names)
        costs = [submit(apart, name) for name in names]
        alone = Cost(sum(cost.cpu_seconds for cost in costs), sum(cost.wall_seconds for cost in costs))
        fleet = submit(together, "--fleet", "small")
        written = {rows_written(folder, names) for folder in (apart, together)}
        if written != {count * 991}:
            raise SystemExit(f"the rows written differ: {written}")
    return alone, fleet


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipelines", type=int, default=20)
    count = parser.parse_args().pipelines
    alone, fleet = measure(count)
    print(f"{'':20}  CPU seconds  wall seconds")
    for name, cost in ((f"{count} applications", alone), ("one application", fleet)):
        print(f"{name:20}  {cost.cpu_seconds:11.1f}  {cost.wall_seconds:12.1f}")
    print(
        f"{'ratio':20}  {alone.cpu_seconds / fleet.cpu_seconds:11.1f}  {alone.wall_seconds / fleet.wall_seconds:12.1f}"
    )


if __name__ == "__main__":
    main()
