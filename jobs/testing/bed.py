"""A small pipeline to be killed: conf in a folder of its own, tuned for many starts and many small batches."""

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from jobs.testing.checker import Tables

NAME = "ids"
BATCHES_A_CHECKPOINT = 5
"""Commits between two checkpoints of the target's log: few, so that kills meet them."""
_PIPELINE = f"conf/pipelines/{NAME}.yml"
_SCHEMA = "id STRING, sequence BIGINT, kind STRING, payload STRING"
_TRANSFORM = "SELECT id, sequence, crc32(encode(payload, 'utf-8')) AS checksum, kind FROM input"
_WIDENING = "SELECT *, sequence AS extra_{number} FROM input"
_SPARK = {
    "spark.master": "local[2]",
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.shuffle.partitions": 1,
    "spark.databricks.delta.snapshotPartitions": 1,
    "spark.sql.streaming.minBatchesToRetain": 1_000_000,
}


class Trigger(StrEnum):
    """Whether a run ends when it has caught up."""

    AVAILABLE_NOW = "available-now"
    CONTINUOUS = "continuous"


@dataclass(frozen=True, slots=True)
class Bed:
    """A bundle in a folder, with one pipeline over events of `ids.make_events`."""

    folder: Path

    @property
    def landing(self) -> Path:
        """Where a file source looks."""
        return self.folder / "data" / "landing"

    @property
    def tables(self) -> Tables:
        """Where the pipeline's state lies."""
        lake, state = self.folder / "data" / "lake", self.folder / "data" / "state"
        return Tables(lake / NAME, lake / f"{NAME}_quarantine", state / "checkpoints" / NAME, state / "ledger" / NAME)

    @property
    def command(self) -> list[str]:
        """Runs the pipeline."""
        return [sys.executable, "-m", "jobs.run_pipeline", NAME, "--conf", str(self.folder / "conf")]

    def widen(self) -> None:
        """Give the target one more column, with the next run's first new batch."""
        file = self.folder / _PIPELINE
        pipeline = json.loads(file.read_text(encoding="utf-8"))
        transforms = pipeline["transforms"]
        transforms.append({"sql": _WIDENING.format(number=len(transforms))})
        file.write_text(json.dumps(pipeline), encoding="utf-8")

    @property
    def plain_command(self) -> list[str]:
        """Runs the baseline over the same input, into the same places."""
        return [sys.executable, "-m", "jobs.testing.plain_job", NAME, "--conf", str(self.folder / "conf")]


def make_bed(folder: Path, source: dict[str, Any], trigger: Trigger) -> Bed:
    """Write the bundle's conf."""
    bed = Bed(folder)
    bed.landing.mkdir(parents=True, exist_ok=True)
    pipeline = {
        "source": {"schema": NAME} | source,
        "transforms": [{"sql": _TRANSFORM}],
        "sink": {
            "type": "delta",
            "path": "${lake}/" + NAME,
            "merge_schema": True,
            "table_properties": {"delta.checkpointInterval": str(BATCHES_A_CHECKPOINT)},
        },
        "trigger": {"available_now": True} if trigger is Trigger.AVAILABLE_NOW else {"processing_time": "0 seconds"},
    }
    variables = {"landing": str(bed.landing), "lake": str(bed.tables.target.parent)}
    target = {"variables": variables, "state": str(bed.tables.checkpoint.parents[1]), "spark": _SPARK}
    texts = {
        _PIPELINE: json.dumps(pipeline),
        f"conf/schemas/{NAME}.ddl": _SCHEMA,
        f"conf/suites/{NAME}.json": json.dumps(_suite()),
        "conf/targets/local.yml": json.dumps(target),
    }
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return bed


def file_source() -> dict[str, Any]:
    """JSON lines; one file a batch."""
    return {"type": "files", "format": "json", "path": "${landing}", "options": {"maxFilesPerTrigger": 1}}


def kafka_source(servers: str, topic: str, rows: int) -> dict[str, Any]:
    """JSON values; so many records a batch."""
    options = {"kafka.bootstrap.servers": servers, "subscribe": topic, "maxOffsetsPerTrigger": rows}
    return {"type": "kafka", "value_format": "json", "options": options}


def _suite() -> dict[str, Any]:
    return {"name": NAME, "expectations": [_refuse("bad", "expect_or_quarantine"), _refuse("drop", "expect_or_drop")]}


def _refuse(kind: str, on_failure: str) -> dict[str, Any]:
    return {
        "type": "expect_column_values_to_not_be_in_set",
        "kwargs": {"column": "kind", "value_set": [kind]},
        "meta": {"esclusa": {"name": f"not_{kind}", "on_failure": on_failure}},
    }
