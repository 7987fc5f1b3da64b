from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_all, load_pipeline, load_pipelines
from jobs.pipeline.errors import ConfError, Problem
from jobs.pipeline.model import Pipeline

# Deadlines measure the machine; unit tests run beside builds.
settings.register_profile("esclusa", deadline=None)
settings.load_profile("esclusa")

FILES = {
    "conf/pipelines/orders.yml": """\
description: Orders of the shop
source:
  type: files
  format: csv
  path: ${landing}/orders
  schema: orders
  options:
    header: true
    maxFilesPerTrigger: 8
transforms:
  - sql: SELECT * FROM input
  - python: orders.clean
quality:
  suite: orders
  halt_when: {quarantined_share_above: 0.05}
sink:
  type: delta
  path: ${lake}/orders
  partition_by: [day]
trigger:
  available_now: true
""",
    "conf/pipelines/clicks.yml": """\
source:
  type: kafka
  schema: clicks
  options:
    kafka.bootstrap.servers: ${servers}
    kafka.sasl.jaas.config: ${secret:CLICKS_LOGIN}
    subscribe: clicks
sink:
  type: delta
  path: ${lake}/clicks
trigger:
  processing_time: 10 seconds
""",
    "conf/schemas/orders.ddl": "-- One order\nid BIGINT,\nday DATE, amount DECIMAL(10, 2) -- euros\n",
    "conf/schemas/clicks.ddl": "at TIMESTAMP, page STRING",
    "conf/suites/orders.json": """\
{
  "name": "orders",
  "expectations": [
    {
      "type": "expect_column_values_to_not_be_null",
      "kwargs": {"column": "id"}
    }
  ],
  "meta": {"great_expectations_version": "1.24.1"}
}
""",
    "conf/targets/local.yml": """\
variables:
  data: ${root}/data
  landing: ${data}/landing
  lake: ${data}/lake
  servers: 127.0.0.1:9092
state: ${data}/state
spark:
  spark.sql.shuffle.partitions: 2
""",
    "jobs/transforms/orders.py": "def clean(df):\n    return df\n",
}


@dataclass(frozen=True)
class ConfFiles:
    """A bundle on disk, two pipelines that load, for tests to break."""

    root: Path

    @property
    def conf(self) -> Path:
        return self.root / "conf"

    def write(self, file: str, text: str) -> None:
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def edit(self, file: str, old: str, new: str) -> None:
        text = (self.root / file).read_text(encoding="utf-8")
        assert old in text
        self.write(file, text.replace(old, new, 1))

    def line_of(self, file: str, text: str) -> int:
        """The 1-based line on which `text` stands; 1 for no text."""
        content = (self.root / file).read_text(encoding="utf-8")
        return content.count("\n", 0, content.index(text)) + 1

    def load(self, name: str, target: str = "local", **variables: str) -> Pipeline:
        return load_pipeline(Bundle(self.conf, target, variables), name)

    def problems(self, *names: str, target: str = "local", **variables: str) -> list[Problem]:
        with pytest.raises(ConfError) as caught:
            load_pipelines(Bundle(self.conf, target, variables), list(names))
        return caught.value.problems

    def all_problems(self) -> list[Problem]:
        with pytest.raises(ConfError) as caught:
            load_all(Bundle(self.conf))
        return caught.value.problems


@pytest.fixture
def bundle(tmp_path: Path) -> ConfFiles:
    files = ConfFiles(tmp_path)
    for file, text in FILES.items():
        files.write(file, text)
    return files
