"""Under a real scheduler: a stream, the deaths around it, and what a person does to it."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from jobs.dev.airflow import Airflow, Place, running_airflow
from jobs.dev.airflow_api import Api, wait_for
from jobs.dev.processes import kill_process, members
from jobs.orchestration.detached import Driver, find_driver
from jobs.testing.bed import Bed, Trigger, file_source, make_bed
from jobs.testing.checker import audit, summarize
from jobs.testing.ids import IdLedger, read_ids
from jobs.testing.logs import Checkpoint
from jobs.testing.producers import FileProducer

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Scene:
    """A bundle with the pipeline `ids`, which does not end by itself, and an Airflow of its own: others share theirs."""

    bed: Bed
    airflow: Airflow
    api: Api

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
    return bed


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("kinds") / "bundle"
    bed = make_bundle(folder)
    place = Place(folder.with_name("airflow"), ROOT / ".venv-airflow", {"kinds": folder / "dags"}, master="local[2]")
    with running_airflow(place) as airflow:
        api = airflow.log_in()
        wait_for("all DAGs", lambda: {"ids", "ids.events"} <= {dag["dag_id"] for dag in api.get("/dags")["dags"]})
        scene = Scene(bed, airflow, api)
        try:
            yield scene
        finally:
            if driver := scene.driver():
                os.killpg(int((driver.folder / "process").read_text().split()[1]), signal.SIGKILL)


@pytest.mark.slow
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
    api.await_task("ids", run, "run", "deferred")
    driver = scene.driver()
    assert driver is not None

    dead = wait_for("a triggerer to look after it", lambda: triggerer_of(api, run))
    scene.kill("triggerer")
    feed()
    scene.kill("scheduler")
    feed()
    scene.airflow.start("scheduler", "triggerer")
    feed()
    assert (scene.driver(), api.states("ids", run)["run"]) == (driver, "deferred")

    api.unpause("ids.events")
    api.await_run("ids.events", api.trigger("ids.events"), "success")
    [event] = api.events("ids.events")
    assert len(event["extra"]["batch_ids"]) == producer.placed

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
    api.await_task("ids", last, "run", "deferred")
    api.patch(f"/dags/ids/dagRuns/{last}/taskInstances/run", new_state="failed")
    wait_for("the driver's end", lambda: not other.is_running)
    assert other.exit_code == 0
    conservation, violations = audit(scene.bed.tables, read_ids(tmp_path / "ids.tsv"))
    assert (summarize(violations), conservation.acked) == ("", producer.placed * 40)


def triggerer_of(api, run):
    """The triggerer that looks after the task, as the database has it: a dead one looks alive there for a while."""
    job = api.tasks("ids", run)["run"]["triggerer_job"]
    return job and job["id"]
