"""Airflow DAGs: `fleet-NAME` for each fleet that pipelines name."""

from jobs.orchestration.dag_factory import bundle_of
from jobs.orchestration.fleet_dag import build_fleet_dags

globals().update((dag.dag_id, dag) for dag in build_fleet_dags(bundle_of(__file__)))
