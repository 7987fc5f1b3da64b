"""Canaries for secrets, looked for wherever Airflow and Spark write; signs of templates and shells that must stay text."""

import json
import socket
from pathlib import Path

import pytest

from jobs.dev.airflow import COMPONENTS
from jobs.dev.airflow_api import wait_for


@pytest.fixture(scope="module")
def mute_broker():
    """It takes connections and never answers: whoever speaks to it has revealed its options before."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def run(api, bundle, signs, mute_broker):
    """A run of a pipeline whose conf refers to a secret, once it has asked the broker with it and failed."""
    options = {
        "kafka.bootstrap.servers": f"127.0.0.1:{mute_broker}",
        "subscribe": "flights",
        "kafka.security.protocol": "SASL_PLAINTEXT",
        "kafka.sasl.mechanism": "PLAIN",
        "kafka.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="someone" password="${secret:CANARY}";',
        "kafka.request.timeout.ms": 3000,
        "kafka.default.api.timeout.ms": 6000,
    }
    source = {"type": "kafka", "value_format": "text", "options": options}
    bundle.pipeline("secretive", source=source, description=signs)
    wait_for("its DAG", lambda: api.get("/dags/secretive"))
    api.unpause("secretive")
    run = api.trigger("secretive", note=signs)
    api.await_task("secretive", run, "run", "up_for_retry", "failed")
    assert "takes connections and does not answer" in api.log("secretive", run, "run")
    return run


@pytest.mark.fault("I12")
def test_no_secret_is_in_arguments_rendered_fields_xcoms_logs_or_the_database(api, airflow, bundle, canaries, run):
    task = f"/dags/secretive/dagRuns/{run}/taskInstances"
    said = {
        "argv": "\n".join(bundle.argv),
        "tasks": json.dumps(api.get(task)),
        "xcoms": json.dumps(api.get(f"{task}/run/xcomEntries")),
        "log": api.log("secretive", run, "run"),
    }
    said |= {str(file): file.read_text(errors="replace") for file in airflow.place.home.rglob("*.log")}
    said |= {str(file): file.read_bytes().decode(errors="replace") for file in airflow.place.home.glob("airflow.db*")}
    said |= {str(file): file.read_text(errors="replace") for file in bundle.folder.rglob("data/**/*.json")}
    assert "spark.sql.shuffle.partitions=1" in said["argv"]
    assert "rendered_fields" in said["tasks"]
    assert sum(name.endswith(".log") for name in said) > len(COMPONENTS)
    leaks = {(name, canary) for name, text in said.items() for canary in canaries.values() if canary in text}
    assert leaks == set()


def test_the_canaries_are_where_they_belong(airflow, canaries):
    """Else the test above looks for what was never there."""
    variables = airflow.place.variables(airflow.port)
    assert all(any(canary in value for value in variables.values()) for canary in canaries.values())


def test_signs_of_templates_and_shells_stay_text(api, airflow, bundle, signs, run):
    assert f"spark.esclusa.note={signs}" in bundle.argv
    for folder in (airflow.place.home, bundle.folder, Path.cwd()):
        assert not (folder / "esclusa-was-here").exists()
    assert api.get("/dags/secretive")["description"] == signs
    assert api.get(f"/dags/secretive/dagRuns/{run}")["conf"] == {"note": signs}
