"""The gate path: the tasks that ask a person about a held batch, record the answer, and ask again."""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from jobs.orchestration.accounts import held_batch
from jobs.orchestration.question import DECISIONS, LEAVE_HELD, OPTIONS, ask_about
from jobs.orchestration.spark_environment import environment_of
from jobs.orchestration.subject import Subject, interval_of
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.errors import BatchHeldError, StateMismatchError

_BATCH = "batch"
_DECIDED_ELSEWHERE = ("NOT_HELD", "ALREADY_RELEASED")


class DecideOperator(HITLOperator):
    """Asks what becomes of the batch that `run` found held, and waits without a slot; skipped if none was.

    Returns pipeline, batch_id, chosen option and who chose it (None: nobody in time); None if somebody decided
    elsewhere before.
    """

    template_fields = ()  # the body holds data: Jinja must not see it

    def __init__(self, *, bundle: Bundle, subject: Subject, timeout: timedelta, **kwargs: Any) -> None:
        super().__init__(
            subject=f"{subject.pipeline}: what becomes of the held batch?",
            options=OPTIONS,
            defaults=LEAVE_HELD,
            response_timeout=timeout,
            **kwargs,
        )
        self.bundle = bundle
        self.about = subject

    def execute(self, context: Context) -> None:
        """Put the question, or skip the whole path."""
        _skip_unless_held(self, context)
        names = self.about.names(context)
        batch = held_batch(environment_of(self.bundle).read_ledger(self.bundle, names))
        if batch is None:
            self.log.info("%s: the held batch was decided on meanwhile; nobody is asked", ", ".join(names))
            return
        context["ti"].xcom_push(_BATCH, {"pipeline": batch["pipeline"], "batch_id": batch["batch_id"]})
        question = ask_about(batch["pipeline"], batch)
        self.subject, self.body = question.subject, question.body
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Take the answer."""
        answer = super().execute_complete(context, event)
        user = answer["responded_by_user"]
        batch = context["ti"].xcom_pull(task_ids=self.task_id, key=_BATCH)
        return {**batch, "choice": answer["chosen_options"][0], "by": user["name"] if user else None}


class ReleaseOperator(BaseOperator):
    """Records the answer by `esclusa release`. Fails for good where the batch is left held; idempotent.

    It says so, and ends well, where the batch is not held any more or somebody else has decided on it.
    """

    def __init__(self, *, bundle: Bundle, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bundle = bundle

    def execute(self, context: Context) -> str:
        """Return what was recorded, or why nothing was."""
        [decide] = self.upstream_task_ids
        answer = context["ti"].xcom_pull(task_ids=decide)
        if answer is None:
            return "decided elsewhere"
        if answer["choice"] == LEAVE_HELD:
            who = f"{answer['by']} left it so" if answer["by"] else "nobody answered in time"
            message = f"{BatchHeldError.code}: {answer['pipeline']}: batch {answer['batch_id']} stays held: {who}"
            raise AirflowFailException(message)
        return self._record(answer)

    def _record(self, answer: dict[str, Any]) -> str:
        words = ["release", answer["pipeline"], "--batch", str(answer["batch_id"])]
        words += [f"--{DECISIONS[answer['choice']]}", f"--by={answer['by']}"]
        done = environment_of(self.bundle).run_esclusa(self.bundle, words)
        said = (done.stdout or done.stderr).strip()
        if done.returncode and not _was_decided_elsewhere(done.returncode, done.stderr):
            message = f"esclusa release ended with {done.returncode}: {said}"
            raise AirflowException(message)
        self.log.info("%s", said)
        return said


class AskAgainOperator(TriggerDagRunOperator):
    """Starts another run if the released batch is behind the pipeline and the next one is held; that run asks.

    Fails in a backfill: another run would be a live one. Once this run is cleared, it asks.
    """

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        super().__init__(trigger_dag_id=pipeline, logical_date=None, **kwargs)

    def execute(self, context: Context) -> None:
        """Trigger, or skip."""
        _skip_unless_held(self, context)
        if interval_of(context) is not None:
            raise AirflowFailException(f"{BatchHeldError.code}: another batch is held; clear this run, and it asks")
        super().execute(context)


def _skip_unless_held(task: BaseOperator, context: Context) -> None:
    [run] = task.upstream_task_ids
    if context["ti"].xcom_pull(task_ids=run) != BatchHeldError.exit_code:
        raise AirflowSkipException("no batch is held")


def _was_decided_elsewhere(exit_code: int, message: str) -> bool:
    return exit_code == StateMismatchError.exit_code and any(word in message for word in _DECIDED_ELSEWHERE)
