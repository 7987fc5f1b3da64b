"""The demo behind `make airflow`: the flights land, a local Airflow runs their pipeline, until Ctrl-C."""

import contextlib
import os
import time
from pathlib import Path

from rich.console import Console

from jobs.dev import flights
from jobs.dev.airflow import USER, Airflow, Place, running_airflow
from jobs.dev.airflow_api import wait_for
from jobs.dev.processes import interrupted_by_sigterm
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipelines
from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.terminal import open_console

DATABASE = "ESCLUSA_AIRFLOW_DATABASE"
"""Environment variable: URL of SQLAlchemy for Airflow's database; by default SQLite."""
PIPELINE = "flights"
_LOOK_SECONDS = 1


def run_demo(bundle: Bundle, port: int | None = None) -> None:
    """Land the flights, start Airflow over the bundle's DAGs, let the pipeline run, wait for Ctrl-C or SIGTERM."""
    console = open_console()
    [pipeline] = load_pipelines(bundle, [PIPELINE])
    placed = flights.land_files(Path(pipeline.spec.source.path))  # type: ignore[union-attr] # the demo's own conf: files
    console.print(f"landed {placed} files of flights" if placed else "all flights have landed")
    place = demo_place(bundle)
    console.print(f"starting Airflow in {place.home}", soft_wrap=True)
    with contextlib.suppress(KeyboardInterrupt), interrupted_by_sigterm(), running_airflow(place, port) as airflow:
        _unpause(airflow)
        _print_welcome(console, airflow)
        _watch(airflow, console)


def demo_place(bundle: Bundle) -> Place:
    """The demo's Airflow: its home under data/, the bundle's own DAGs, its environment beside them."""
    root = bundle.root
    return Place(
        home=root / "data" / "airflow",
        environment=root / ".venv-airflow",
        dags={"esclusa": root / "dags"},
        database=os.environ.get(DATABASE),
        settings={"ESCLUSA_TARGET": bundle.target},
    )


def _watch(airflow: Airflow, console: Console) -> None:
    """Until an interrupt; UnavailableError if a component ends by itself."""
    try:
        while not (dead := airflow.find_dead()):
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        console.print("stopping Airflow and its tasks")
        raise
    raise UnavailableError(f"Airflow's {dead} has ended; see {airflow.log_of(dead)}")


def _unpause(airflow: Airflow) -> None:
    api = airflow.log_in()
    wait_for(f"the DAG {PIPELINE}", lambda: api.get(f"/dags/{PIPELINE}"))
    api.unpause(PIPELINE)


def _print_welcome(console: Console, airflow: Airflow) -> None:
    console.print(f"\n[bold]Airflow[/] runs at {airflow.url}", soft_wrap=True)
    console.print(f"log in as {USER} with the password {airflow.password}", markup=False, highlight=False)
    steps = {
        f"{airflow.url}/dags/{PIPELINE}": "its first run has begun; about a minute",
        f"{airflow.url}/assets": "the tables, and the events that say which rows came",
        ".venv/bin/esclusa status flights": "what each batch did, from the ledger",
        "cp more.csv data/landing/flights/": "then the button Trigger; else the next full hour finds it",
        "Ctrl-C": "stops all of it; make airflow-stop does so from elsewhere",
    }
    console.print("\n[bold]Try next[/]")
    for command, effect in steps.items():
        console.print(f"  {command:<48}{effect}", soft_wrap=True)
