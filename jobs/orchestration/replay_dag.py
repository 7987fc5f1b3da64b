"""The DAG that a person triggers to replay quarantined rows: a dry run, the person's word on it, the replay."""

import json
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Context, Param, task
from airflow.sdk.exceptions import AirflowFailException

from jobs.orchestration.dag_parts import new_dag, spark_options
from jobs.orchestration.submission import SubmitOperator
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_target, pipeline_names
from jobs.pipeline.errors import ConfError

REPLAY = "esclusa-replay"
"""No pipeline can have this name: theirs have no hyphens."""
_TIME = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d)?$"
_SELECTION = ("check", "since", "where")
_BODY = """\
{% set found = ti.xcom_pull(task_ids='dry_run') %}
Of {{ found.values() | sum }} rows in the quarantine of `{{ params.pipeline }}` that were selected, today's rules would
write {{ found.written }} to the target, drop {{ found.dropped }}, and leave {{ found.quarantined }} where they are.
The log of `dry_run` has the counts of each check. Selected were:

    {{ {"check": params.check, "since": params.since, "where": params.where} | tojson }}
"""


class ReplayOperator(SubmitOperator):
    """Replays what the run's params select, or says what would become of it; returns rows by outcome.

    A run that holds the pipeline (exit code 5) fails this try, as all does that repeating can help: the replay is not
    done until it is done, and repeating it sends nothing twice.
    """

    def __init__(self, *, bundle: Bundle, is_dry: bool, **kwargs: Any) -> None:
        super().__init__(bundle=bundle, entrypoint="replay_quarantine", **kwargs)
        self.is_dry = is_dry

    def execute(self, context: Context) -> dict[str, int]:  # type: ignore[override] # Airflow stores what any task returns
        """Submit `esclusa replay` with the params as its arguments."""
        with TemporaryDirectory(prefix="esclusa-replay-") as folder:
            report = Path(folder) / "report.json"
            dry = ["--dry-run"] if self.is_dry else []
            code = self.submit(context, [*_arguments(context["params"]), *dry, f"--report={report}"])
            if code:
                self.fail(code)
            if not report.is_file():
                raise AirflowFailException("the driver has left no report here; replays need deploy mode client")
            rows: dict[str, int] = json.loads(report.read_text(encoding="utf-8"))["rows"]
        self.log.info("%s: %s", context["params"]["pipeline"], rows)
        return rows


def _arguments(params: Any) -> list[str]:
    """One word a param: none of them can be taken for an option of its own."""
    return [params["pipeline"], *(f"--{name}={params[name]}" for name in _SELECTION if params[name] is not None)]


def build_replay_dag(bundle: Bundle) -> DAG | None:
    """For manual runs alone; nothing is written unless a person says so, or has said so with the params.

    None if the target cannot be read: dags/check_conf.py reports it.
    """
    try:
        submit: dict[str, Any] = {"bundle": bundle, "spark_conf": spark_options(load_target(bundle).spark)}
    except ConfError:
        return None
    description = "Sends quarantined rows of a pipeline through today's rules"
    with new_dag(REPLAY, description, None, params=_params(pipeline_names(bundle))) as dag:
        dry_run = ReplayOperator(task_id="dry_run", is_dry=True, **submit)
        approve = ApprovalOperator(
            task_id="approve",
            subject="Replay quarantined rows of {{ params.pipeline }}?",
            body=_BODY,
            response_timeout=timedelta(days=1),
            defaults=ApprovalOperator.REJECT,
        )
        replay = ReplayOperator(task_id="replay", is_dry=False, trigger_rule="none_failed_min_one_success", **submit)
        dry_run >> _choose() >> [approve, replay]
        approve >> replay
    return dag


@task.branch(task_id="choose")
def _choose(**context: Any) -> str | None:
    """What follows the dry run: the question, the replay itself, or nothing."""
    params, ti = context["params"], context["ti"]
    if params["dry_run"] or not sum(ti.xcom_pull(task_ids="dry_run").values()):
        return None
    return "approve" if params["ask"] else "replay"


def _params(pipelines: list[str]) -> dict[str, Param]:
    text = ["null", "string"]
    return {
        "pipeline": Param(type="string", enum=pipelines, description="Whose quarantine"),
        "check": Param(None, type=text, maxLength=255, description="Only rows that this check set apart"),
        "since": Param(None, type=text, pattern=_TIME, description="Only rows set apart at this time (UTC) or later"),
        "where": Param(None, type=text, maxLength=10_000, description="Only rows for which this predicate holds"),
        "dry_run": Param(False, type="boolean", description="Stop behind the dry run"),
        "ask": Param(True, type="boolean", description="Ask a person before anything is written"),
    }
