"""Airflow DAGs: one, or two, for each pipeline of conf/pipelines/ that is in no fleet, named like it."""

from jobs.orchestration.dag_factory import build_dags, bundle_of

globals().update((dag.dag_id, dag) for dag in build_dags(bundle_of(__file__)))
