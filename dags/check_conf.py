"""Holds no DAG. Its import error in Airflow is what `esclusa check` says: file:line of all that is wrong in conf.

It is a file of its own because Airflow drops all DAGs of a file that has an import error.
"""

from jobs.orchestration.dag_factory import bundle_of
from jobs.pipeline.conf import load_all

load_all(bundle_of(__file__))
