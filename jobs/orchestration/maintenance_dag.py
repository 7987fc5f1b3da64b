"""The DAG that maintains the tables of all pipelines which have a policy: one task each, one after the other."""

from collections.abc import Iterator
from contextlib import suppress

from airflow.sdk import DAG, Context
from airflow.sdk.exceptions import AirflowSkipException

from jobs.orchestration.dag_factory import RETRIES, START, spark_options
from jobs.orchestration.submission import SubmitOperator
from jobs.pipeline.conf import Bundle, load_pipeline, load_target, pipeline_names
from jobs.pipeline.errors import AlreadyRunningError, ConfError
from jobs.pipeline.model import Pipeline

MAINTENANCE = "esclusa-maintenance"
"""No pipeline can have this name: theirs have no hyphens."""


class MaintainOperator(SubmitOperator):
    """Maintains the tables of one pipeline; skipped while another maintenance of it runs."""

    def __init__(self, *, bundle: Bundle, pipeline: str, spark_conf: dict[str, str], **kwargs: object) -> None:
        super().__init__(bundle=bundle, entrypoint="maintain_tables", spark_conf=spark_conf, **kwargs)
        self.pipeline = pipeline

    def execute(self, context: Context) -> None:
        """Exit codes 2 and 6 fail for good, 5 skips, others fail this try: a repetition does what is left."""
        code = self.submit(context, [self.pipeline])
        if code == AlreadyRunningError.exit_code:
            raise AirflowSkipException("another maintenance of this pipeline runs")
        if code:
            self.fail(code)


def build_maintenance_dag(bundle: Bundle) -> DAG | None:
    """None if no pipeline has a policy. Tasks wait for each other; one that fails does not stop the others."""
    pipelines = list(_with_policy(bundle))
    if not pipelines:
        return None
    with DAG(
        dag_id=MAINTENANCE,
        description="Joins small files, removes what the policies let go",
        schedule=load_target(bundle).maintenance_schedule.root,
        start_date=START,
        catchup=False,
        max_active_runs=1,
        max_active_tasks=1,
        default_args=RETRIES,
        tags={"esclusa"},
    ) as dag:
        for pipeline in pipelines:
            options = spark_options(pipeline.spark)
            MaintainOperator(task_id=pipeline.name, bundle=bundle, pipeline=pipeline.name, spark_conf=options)
    return dag


def _with_policy(bundle: Bundle) -> Iterator[Pipeline]:
    for name in pipeline_names(bundle):
        with suppress(ConfError):  # dags/check_conf.py reports it
            pipeline = load_pipeline(bundle, name)
            if pipeline.maintenance is not None:
                yield pipeline
