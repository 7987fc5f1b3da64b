"""Airflow runs pipelines: what DAG files, workers and triggerers import. Needs the `airflow` extra, not Spark."""
