"""Whole runs by `dag.test()`: what exit codes do to tasks, and which events the table emits."""

import json
from types import SimpleNamespace

import pytest
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.taskinstance import TaskInstance
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.session import create_session
from sqlalchemy import select

from jobs.orchestration.spark_environment import NEWEST
from jobs.pipeline.spark_properties import PACKAGES


def batch(number, status="done", rows=10, quarantined=0, **more):
    counts = {
        "rows_written": rows,
        "rows_quarantined": quarantined,
        "target_version": number,
        "checks": [],
        "message": None,
    }
    return {"pipeline": "p", "query_id": "q", "batch_id": number, "status": status, **counts, **more}


def tries(dag_id):
    with create_session() as session:
        found = session.scalars(
            select(TaskInstance).where(TaskInstance.dag_id == dag_id, TaskInstance.task_id == "run")
        )
        return max(found, key=lambda one: one.start_date).try_number


def events(table):
    """Extras of the table's events, oldest first."""
    with create_session() as session:
        query = select(AssetEvent.extra).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return list(session.scalars(query.where(AssetModel.name == table).order_by(AssetEvent.id)))


def dag_of(tried, name, *codes):
    """A DAG of a pipeline of its own, so that no test sees another's events; its submits end with the codes."""
    tried.pipeline(name)
    tried.ends_with(*codes)
    return tried.load().dags[name]


def test_rows_committed_are_an_event_and_the_next_event_begins_behind_it(tried, run):
    dag = dag_of(tried, "done", 0, 0, 0)
    tried.ledger(batch(0, quarantined=2), batch(1, rows=5))
    assert run(dag) == {"dag": "success", "run": "success", "publish": "success"}
    first = {"rows": 15, "quarantined": 2, "target_version": 1, "query_id": "q", "batch_ids": [0, 1]}
    assert events("done") == [first]

    assert run(dag) == {"dag": "success", "run": "success", "publish": "skipped"}
    assert events("done") == [first]

    tried.ledger(batch(0), batch(1), batch(2, rows=1), batch(3, status="held", rows=0))
    run(dag)
    assert events("done")[1:] == [{"rows": 1, "quarantined": 0, "target_version": 2, "query_id": "q", "batch_ids": [2]}]


def test_rows_of_more_batches_than_are_looked_at_first_are_an_event_as_well(tried, run):
    dag = dag_of(tried, "many", 0, 0, 0)
    first, second = NEWEST + 2, 2 * NEWEST + 4
    for count in (first, second, second):
        tried.ledger(*map(batch, range(count)))
        run(dag)
    assert [extra["batch_ids"] for extra in events("many")] == [[*range(first)], [*range(first, second)]]


def test_a_run_that_only_quarantined_emits_no_event(tried, run):
    dag = dag_of(tried, "apart", 0)
    tried.ledger(batch(0, rows=0, quarantined=3))
    assert run(dag)["publish"] == "skipped"
    assert events("apart") == []


def test_another_run_that_holds_the_pipeline_is_waited_for_and_is_no_failure_and_no_event(tried, run):
    dag = dag_of(tried, "busy", 5, 5, 5, 5, 0)
    tried.ledger(batch(0))
    assert run(dag) == {"dag": "success", "run": "success", "publish": "skipped"}
    assert (tried.folder / ".venv/codes").read_text() == "0\n", "four submits, three waits between them"
    assert (events("busy"), tries("busy")) == ([], 1)


def test_a_run_that_ends_while_it_is_waited_for_makes_room(tried, run):
    dag = dag_of(tried, "freed", 5, 0)
    tried.ledger(batch(0))
    assert run(dag) == {"dag": "success", "run": "success", "publish": "success"}
    assert tries("freed") == 1


@pytest.mark.parametrize("code", [2, 6])
def test_what_repeating_cannot_help_fails_at_once(tried, code, run):
    dag = dag_of(tried, f"vain{code}", code, 0)
    assert run(dag) == {"dag": "failed", "run": "failed", "publish": "upstream_failed"}
    assert (tried.folder / ".venv/codes").read_text() == "0\n", "tried again"


@pytest.mark.parametrize("code", [4, 1, 137])
def test_what_repeating_can_help_is_tried_again(tried, code, run):
    dag = dag_of(tried, f"again{code}", code, 0)
    tried.ledger(batch(0))
    assert run(dag) == {"dag": "success", "run": "success", "publish": "success"}
    assert tries(f"again{code}") == 2


def test_a_held_batch_names_its_failing_checks_where_plain_failure_is_wanted(tried, run):
    tried.pipeline("held", "when_held: fail\n", can_be_held=True)
    tried.ends_with(3, 3)
    dag = tried.load().dags["held"]
    failing = {"name": "id_known", "unexpected_count": 1234, "success": False}
    sound = {"name": "id_small", "unexpected_count": 0, "success": True}
    tried.ledger(batch(7, "held", checks=[failing, sound], message="too many"), batch(1, "replayed"))
    with pytest.raises(
        AirflowFailException, match="held: batch 7 is held: too many; failing checks: id_known .1,234 rows.$"
    ):
        dag.get_task("run").execute({"dag_run": SimpleNamespace(run_type="manual")})
    assert run(dag) == {"dag": "failed", "run": "failed", "publish": "upstream_failed"}


def test_a_submit_goes_to_the_connections_master_with_the_targets_options(tried, run):
    dag = dag_of(tried, "argued", 0)
    run(dag)
    argv = tried.argv
    assert argv[argv.index("--master") + 1] == "local[2]"
    assert {"spark.sql.shuffle.partitions=1", "spark.log.level=WARN"} <= set(argv)
    assert not any("local[7]" in word for word in argv)
    assert argv[-6:] == [argv[-6], "argued", "--conf", str(tried.folder / "conf"), "--target", "local"]
    assert argv[-6].endswith("jobs/run_pipeline.py")
    home, python = (tried.folder / ".venv/variables").read_text().strip().split("|")
    assert home.endswith(".venv/lib/python3.11/site-packages/pyspark")
    assert python == str(tried.folder / ".venv/bin/python")


def test_installed_jars_take_the_place_of_their_coordinates_and_those_of_the_user_stay(tried, run):
    ours = tried.write(".venv/share/esclusa/jars/delta.jar", "")
    coordinates = f"{PACKAGES[0]},com.acme:one:1.0"
    tried.write("conf/spark-defaults.conf", f"spark.jars.packages {coordinates}\nspark.jars /acme/two.jar\n")
    run(dag_of(tried, "jars", 0))
    argv = tried.argv
    assert argv[argv.index("--jars") + 1] == f"{ours},/acme/two.jar"
    assert [word for word in argv if word.startswith("spark.jars.packages")] == ["spark.jars.packages=com.acme:one:1.0"]


@pytest.mark.parametrize("connection", [None, {"conn_type": "spark"}])
def test_without_a_connection_nothing_is_submitted(tried, monkeypatch, connection, run):
    monkeypatch.delenv("AIRFLOW_CONN_SPARK_DEFAULT")
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(connection))
    dag = dag_of(tried, f"nowhere{len(connection or ())}", 0)
    assert run(dag)["run"] == "failed"
    assert not (tried.folder / ".venv/argv").exists()


def test_real_spark_writes_real_rows_and_the_table_emits_an_event(real, run):
    bag = real.load()
    assert bag.import_errors == {}
    assert run(bag.dags["flights"]) == {"dag": "success", "run": "success", "publish": "success"}
    [extra] = events("flights")
    assert (extra["rows"], extra["quarantined"], extra["batch_ids"]) == (3, 1, [0])
    log = real.folder / "data/lake/flights/_delta_log" / f"{extra['target_version']:020}.json"
    added = [json.loads(line)["add"] for line in log.read_text().splitlines() if '"add"' in line]
    assert sum(json.loads(file["stats"])["numRecords"] for file in added) == 3
