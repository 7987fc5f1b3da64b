"""Airflow DAGs: one for each available_now pipeline of conf/pipelines/, named like it."""

from jobs.orchestration.dag_factory import build_dags, bundle_of

globals().update((dag.dag_id, dag) for dag in build_dags(bundle_of(__file__)))
