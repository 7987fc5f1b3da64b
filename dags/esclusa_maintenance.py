"""Airflow DAG: `esclusa-maintenance`, if a pipeline or the target has a maintenance policy."""

from jobs.orchestration.dag_factory import bundle_of
from jobs.orchestration.maintenance_dag import build_maintenance_dag

dag = build_maintenance_dag(bundle_of(__file__))
