"""The DAG that maintains the tables of all pipelines which have a policy: one task each, one after the other."""

from airflow.sdk import DAG, Context
from airflow.sdk.exceptions import AirflowSkipException

from jobs.orchestration.dag_parts import load_sound, new_dag, spark_options
from jobs.orchestration.submission import SubmitOperator
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_target, pipeline_names
from jobs.pipeline.errors import AlreadyRunningError

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
    pipelines = [one for one in load_sound(bundle, pipeline_names(bundle)) if one.maintenance is not None]
    if not pipelines:
        return None
    description, schedule = (
        "Joins small files, removes what the policies let go",
        load_target(bundle).maintenance_schedule,
    )
    with new_dag(MAINTENANCE, description, schedule.root, max_active_tasks=1) as dag:
        for pipeline in pipelines:
            options = spark_options(pipeline.spark)
            MaintainOperator(task_id=pipeline.name, bundle=bundle, pipeline=pipeline.name, spark_conf=options)
    return dag
