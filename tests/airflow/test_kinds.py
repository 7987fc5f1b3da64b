"""Under a real scheduler: a held batch and the person who decides about it; a stream and the deaths around it."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from deltalake import DeltaTable

from jobs.dev.airflow import Airflow, Place, running_airflow
from jobs.dev.airflow_api import Api, ApiError, wait_for
from jobs.dev.processes import kill_process, members
from jobs.orchestration.detached import Driver, find_driver
from jobs.pipeline.ledger import read_ledger
from jobs.testing.bed import Bed, Trigger, file_source, make_bed
from jobs.testing.checker import audit, summarize
from jobs.testing.ids import IdLedger, read_ids
from jobs.testing.logs import Checkpoint
from jobs.testing.producers import FileProducer

ROOT = Path(__file__).parents[2]
ORDERS = {
    "source": {"type": "files", "format": "json", "path": "${root}/data/landing_orders", "schema": "orders"},
    "sink": {"type": "delta", "path": "${lake}/orders"},
}
NAMED = {
    "type": "expect_column_values_to_not_be_null",
    "kwargs": {"column": "name"},
    "meta": {"esclusa": {"name": "named", "on_failure": "expect_or_fail"}},
}
ROWS = [{"id": 1, "name": "a"}, {"id": 2, "name": None}, {"id": 3, "name": "c"}]


@dataclass(frozen=True)
class Scene:
    """A bundle with the pipelines `orders`, which ends by itself, and `ids`, which does not; and its Airflow."""

    bed: Bed
    airflow: Airflow
    api: Api

    def task(self, dag: str, run: str, name: str) -> str | None:
        return self.api.tasks(dag, run).get(name, {}).get("state")

    def await_task(self, dag: str, run: str, name: str, state: str) -> None:
        wait_for(f"{name} of {dag} to be {state}", lambda: self.task(dag, run, name) == state, 180)

    def await_run(self, dag: str, run: str, state: str) -> None:
        wait_for(f"{dag} to be {state}", lambda: self.api.get(f"/dags/{dag}/dagRuns/{run}")["state"] == state, 240)

    def extras(self, table: str) -> list[dict]:
        """Extras of the events of a table, oldest first."""
        found = self.api.get("/assets/events?order_by=timestamp&limit=100")["asset_events"]
        return [event["extra"] for event in found if event["uri"] == f"x-esclusa://{table}"]

    def kill(self, component: str) -> None:
        """SIGKILL to all processes of a component of Airflow."""
        for pid in members(self.airflow.processes[component].pid):
            kill_process(pid)
        self.airflow.processes[component].wait()

    def driver(self) -> Driver | None:
        return find_driver(self.airflow.place.home / "logs" / "esclusa" / "ids")


def make_bundle(folder: Path) -> Bed:
    bed = make_bed(folder, file_source(), Trigger.CONTINUOUS)
    shutil.copytree(ROOT / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "conf/spark-defaults.conf", folder / "conf")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "conf/pipelines/orders.yml").write_text(json.dumps(ORDERS))
    (folder / "conf/schemas/orders.ddl").write_text("id BIGINT, name STRING")
    (folder / "conf/suites/orders.json").write_text(json.dumps({"name": "orders", "expectations": [NAMED]}))
    landing = folder / "data/landing_orders"
    landing.mkdir(parents=True)
    (landing / "one.json").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return bed


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("kinds") / "bundle"
    bed = make_bundle(folder)
    place = Place(folder.with_name("airflow"), ROOT / ".venv-airflow", {"kinds": folder / "dags"}, master="local[2]")
    with running_airflow(place) as airflow:
        api = airflow.log_in()
        expected = ["ids", "ids.events", "orders"]
        wait_for("all DAGs", lambda: sorted(dag["dag_id"] for dag in api.get("/dags")["dags"]) == expected)
        scene = Scene(bed, airflow, api)
        try:
            yield scene
        finally:
            if driver := scene.driver():
                os.killpg(int((driver.folder / "process").read_text().split()[1]), signal.SIGKILL)


def statuses(scene):
    return [row["status"] for row in read_ledger(str(scene.bed.tables.ledger.with_name("orders")))]


def rows_of(table):
    return sorted(DeltaTable(str(table)).to_pyarrow_dataset().to_table(columns=["id"])["id"].to_pylist())


def test_a_held_batch_waits_for_a_person_and_is_released_once(scene):
    api, lake = scene.api, scene.bed.tables.target.parent
    api.unpause("orders")
    run = api.trigger("orders")
    scene.await_task("orders", run, "held.decide", "awaiting_input")
    assert (statuses(scene), rows_of(lake / "orders")) == (["held"], [])
    assert scene.task("orders", run, "publish") == "skipped"

    path = f"/dags/orders/dagRuns/{run}/taskInstances/held.decide/-1/hitlDetails"
    question = api.get(path)
    assert question["subject"] == "orders: what becomes of held batch 0?"
    assert "- ` named `: 1 of 3 rows" in question["body"]
    assert '` {"id": 2, "name": null} `' in question["body"]
    with pytest.raises(ApiError, match="Invalid options"):
        api.patch(path, chosen_options=["Publish"])

    api.patch(path, chosen_options=["Release with quarantine"])
    with pytest.raises(ApiError, match="409"):
        api.patch(path, chosen_options=["Drop"])
    scene.await_run("orders", run, "success")
    assert (rows_of(lake / "orders"), statuses(scene)) == ([1, 3], ["held", "released", "done"])
    [released] = [row for row in read_ledger(str(scene.bed.tables.ledger.with_name("orders"))) if row["decision"]][:1]
    assert released["message"].startswith("released by admin through ")
    assert DeltaTable(str(lake / "orders_quarantine")).to_pyarrow_dataset().count_rows() == 1
    assert [extra["rows"] for extra in scene.extras("orders")] == [2]
    assert scene.task("orders", run, "held.ask_again") == "skipped"


def test_a_stream_outlives_triggerer_and_scheduler_and_stops_when_it_is_told_to(scene, tmp_path):
    api, checkpoint = scene.api, scene.bed.tables.checkpoint
    producer = FileProducer(scene.bed.landing, IdLedger(tmp_path / "ids.tsv"), Random(5))

    def feed():
        """Two more batches, and wait until Spark has done them."""
        for _ in range(2):
            producer.send(40)
        wait_for("two batches", lambda: Checkpoint(checkpoint).count_finished() >= producer.placed)

    api.unpause("ids")
    feed()
    run = wait_for("a run of ids", lambda: api.runs("ids"))[0]["dag_run_id"]
    scene.await_task("ids", run, "run", "deferred")
    driver = scene.driver()
    assert driver is not None

    dead = wait_for("a triggerer to look after it", lambda: triggerer_of(api, run))
    scene.kill("triggerer")
    feed()
    scene.kill("scheduler")
    feed()
    scene.airflow.start("scheduler", "triggerer")
    feed()
    assert (scene.driver(), scene.task("ids", run, "run")) == (driver, "deferred")

    api.unpause("ids.events")
    scene.await_run("ids.events", api.trigger("ids.events"), "success")
    [extra] = scene.extras("ids")
    assert len(extra["batch_ids"]) == producer.placed

    log = f"its log is {driver.log}"
    wait_for("the new triggerer to look after it", lambda: triggerer_of(api, run) not in {None, dead})
    api.post("/dags/ids/clearTaskInstances", dag_run_id=run, task_ids=["run"], dry_run=False, only_failed=False)
    wait_for("the driver's end", lambda: not driver.is_running)
    assert driver.exit_code == 0
    other = wait_for("another driver", scene.driver)
    assert other.folder > driver.folder
    feed()
    assert log in api.log("ids", run, "run", 1)

    api.patch("/dags/ids", is_paused=True)
    last = api.runs("ids")[-1]["dag_run_id"]
    scene.await_task("ids", last, "run", "deferred")
    api.patch(f"/dags/ids/dagRuns/{last}/taskInstances/run", new_state="failed")
    wait_for("the driver's end", lambda: not other.is_running)
    assert other.exit_code == 0
    conservation, violations = audit(scene.bed.tables, read_ids(tmp_path / "ids.tsv"))
    assert (summarize(violations), conservation.acked) == ("", producer.placed * 40)


def triggerer_of(api, run):
    """The triggerer that looks after the task, as the database has it: a dead one looks alive there for a while."""
    job = api.tasks("ids", run)["run"]["triggerer_job"]
    return job and job["id"]
