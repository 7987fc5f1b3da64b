"""Backfills: which DAGs take them, and what their runs submit and announce."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.models.asset import AssetEvent, AssetModel
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.session import create_session
from sqlalchemy import select

from jobs.orchestration import operators
from jobs.orchestration.spark_environment import NEWEST

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)


def batch(pipeline, number=0, rows=10):
    names = {"pipeline": pipeline, "query_id": pipeline, "batch_id": number, "status": "done", "target_version": 3}
    return names | {"rows_written": rows, "rows_quarantined": 1}


@pytest.fixture
def archived(tried):
    """Function: the DAG of a pipeline with an archive by day; its submits end with the codes."""

    def make(name, *codes):
        tried.archived(name)
        tried.ends_with(*codes)
        return tried.load().dags[name]

    return make


def run_of(kind, start=START, end=END):
    return {"dag_run": SimpleNamespace(run_id="r", run_type=kind, data_interval_start=start, data_interval_end=end)}


def extras(table):
    with create_session() as session:
        query = select(AssetEvent.extra).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return list(session.scalars(query.where(AssetModel.name == table).order_by(AssetEvent.id)))


def test_only_a_pipeline_with_an_archive_takes_backfills(tried, archived):
    dag = archived("a")
    assert (type(dag.timetable).__name__, dag.timetable.expression) == ("CronDataIntervalTimetable", "0 0 * * *")
    assert (dag.allowed_run_types, dag.max_active_runs, dag.catchup) == (None, 1, False)
    for other in (one for name, one in tried.load().dags.items() if name != "a"):
        kinds = {str(kind.value) for kind in other.allowed_run_types}
        assert "backfill" not in kinds
        assert {"scheduled", "manual", "operator_triggered", "asset_triggered"} <= kinds


def test_a_run_of_a_backfill_submits_its_interval(tried, archived):
    archived("a", 0).get_task("run").execute(run_of("backfill"))
    words = ["a", "--interval-start=2026-01-01T00:00:00+00:00", "--interval-end=2026-01-03T00:00:00+00:00"]
    assert tried.argv[-7:] == [*words, "--conf", str(tried.folder / "conf"), "--target", "local"]


@pytest.mark.parametrize("kind", ["scheduled", "manual", "operator_triggered"])
def test_any_other_run_is_the_live_pipelines(tried, archived, kind):
    archived("a", 0).get_task("run").execute(run_of(kind))
    assert tried.argv[-5:] == ["a", "--conf", str(tried.folder / "conf"), "--target", "local"]


def test_an_interval_is_never_taken_for_a_live_run(tried, archived):
    with pytest.raises(AirflowFailException, match="has no interval"):
        archived("a").get_task("run").execute(run_of("backfill", None, None))
    with pytest.raises(AirflowFailException, match="c has no `backfill` any more"):
        tried.load().dags["c"].get_task("run").subject.names(run_of("backfill"))
    assert not (tried.folder / ".venv/argv").exists()


def test_a_backfill_announces_its_batches_once_and_live_runs_go_on_behind_their_own(
    tried, archived, run, in_backfill, monkeypatch
):
    dag = archived("told", 0, 0, 0, 0)
    monkeypatch.setattr(operators, "NEWEST", 2)  # the events come page by page
    tried.ledger(batch("told"))
    run(dag)
    with in_backfill():
        tried.ledger(*(batch("told@2026-01-01", number) for number in range(NEWEST)), batch("told@2026-01-02"))
        assert [run(dag)["publish"] for _ in range(2)] == ["success", "skipped"]
    tried.ledger(batch("told"), batch("told", 1, rows=1))
    run(dag)
    live, interval, later = extras("told")
    assert (live["batch_ids"], later["batch_ids"], later["rows"]) == ([0], [1], 1)
    assert (interval["rows"], interval["pipelines"]) == (10 * (NEWEST + 1), ["told@2026-01-01", "told@2026-01-02"])
