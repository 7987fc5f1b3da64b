"""Airflow DAG: `esclusa-replay`, for a person to trigger."""

from jobs.orchestration.dag_factory import bundle_of
from jobs.orchestration.replay_dag import build_replay_dag

dag = build_replay_dag(bundle_of(__file__))
