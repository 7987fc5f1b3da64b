"""The DAG of a fleet: one task runs its pipelines in one Spark application, and each pipeline has a task of its own."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Context, get_parsing_context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from jobs.orchestration.dag_parts import load_sound, new_dag, spark_options, start_when, target_table
from jobs.orchestration.operators import PublishOperator, held_message
from jobs.orchestration.subject import Subject
from jobs.orchestration.submission import VAIN, SubmitOperator
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_target
from jobs.pipeline.errors import AlreadyRunningError, BatchHeldError
from jobs.pipeline.fleet import find_fleets, find_members
from jobs.pipeline.model import Pipeline
from jobs.pipeline.path_text import LOCAL_SCHEMES, split_scheme

_ENDS = "ends"
_RUN = "run-fleet"
"""No pipeline can have this name either."""
_SOUND = {0, AlreadyRunningError.exit_code}

Ends = dict[str, tuple[int, str | None]]
"""How pipelines have ended, by name: exit code, and the error's stable name."""


class RunFleetOperator(SubmitOperator):
    """Runs the pipelines of a fleet in one Spark application; a further try runs those that repeating can help.

    Fails while there are such. How each pipeline has ended is for the tasks behind it, through XCom.
    """

    def __init__(self, *, bundle: Bundle, fleet: str, pipelines: list[str], results: str, **kwargs: Any) -> None:
        super().__init__(bundle=bundle, entrypoint="run_pipeline", **kwargs)
        self.fleet = fleet
        self.pipelines = pipelines
        self.results = results

    def execute(self, context: Context) -> None:
        """Run what is left, and push how all have ended so far."""
        folder = _folder_of(self.results, context["run_id"])
        names = what_is_left(self.pipelines, _read_ends(folder, self.pipelines))
        for name in names:
            (folder / f"{name}.json").unlink(missing_ok=True)
        code = self.submit(context, [*names, f"--fleet={self.fleet}", f"--results={folder}"])
        ends = _read_ends(folder, self.pipelines)
        context["ti"].xcom_push(key=_ENDS, value=ends)
        unfinished = [name for name in names if name not in ends or ends[name][0] not in _SOUND | VAIN]
        if unfinished:
            raise AirflowException(f"exit code {code}; to be run again: {', '.join(unfinished)}")


def what_is_left(pipelines: list[str], ends: Ends) -> list[str]:
    """What a try runs: pipelines that have not ended, or so that repeating can help; of a run that was cleared
    afterwards those that failed; if none has failed, all.
    """
    open_ones = [name for name in pipelines if name not in ends or ends[name][0] not in _SOUND | VAIN]
    failed = [name for name in pipelines if name in ends and ends[name][0] in VAIN]
    return open_ones or failed or pipelines


def _folder_of(results: str, run_id: str) -> Path:
    """Where the results of this run lie; those of the run before are removed."""
    scheme, path = split_scheme(results)
    if scheme not in LOCAL_SCHEMES:
        raise AirflowFailException(f"fleets need `state` on a local or mounted path, not {results}")
    folder = Path(path)
    marker = folder / "run_id"
    if not marker.is_file() or marker.read_text(encoding="utf-8") != run_id:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        marker.write_text(run_id, encoding="utf-8")
    return folder


def _read_ends(folder: Path, pipelines: list[str]) -> Ends:
    files = {name: folder / f"{name}.json" for name in pipelines}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}
    return {name: (end["exit_code"], end["code"]) for name, end in found.items()}


class PublishMemberOperator(PublishOperator):
    """Is to a fleet's pipeline what `run` and `publish` are to one that runs alone."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Fail as the pipeline's own run has failed; else emit its event, or be skipped."""
        ends: Ends = context["ti"].xcom_pull(task_ids=_RUN, key=_ENDS) or {}
        code, name = ends.get(self.subject.pipeline, (None, None))
        if code is None:
            raise AirflowFailException(
                f"{self.subject.pipeline} has not ended: the application did; see the log of `{_RUN}`"
            )
        if code == AlreadyRunningError.exit_code:
            raise AirflowSkipException("another run holds the pipeline, and says itself what it commits")
        if code == BatchHeldError.exit_code:
            raise AirflowFailException(held_message(self.bundle, [self.subject.pipeline]))
        if code:
            raise AirflowFailException(f"{name}: exit code {code}; see the log of `{_RUN}`")
        return self.publish(context)


def build_fleet_dags(bundle: Bundle) -> Iterator[DAG]:
    """A DAG for each fleet that has a valid pipeline; only the one that is asked for, where one is."""
    only = get_parsing_context().dag_id
    folder = bundle.conf / "pipelines"
    for fleet in find_fleets(folder):
        if only in {None, dag_id_of(fleet)}:
            pipelines = load_sound(bundle, find_members(folder, fleet))
            if pipelines:
                yield build_fleet_dag(bundle, fleet, pipelines)


def dag_id_of(fleet: str) -> str:
    """No pipeline can have this name: theirs have no hyphens."""
    return f"fleet-{fleet}"


def build_fleet_dag(bundle: Bundle, fleet: str, pipelines: list[Pipeline]) -> DAG:
    """Run all, then a task for each; at most one run at a time, and none for times that have passed."""
    names = [pipeline.name for pipeline in pipelines]
    description = f"{len(names)} pipelines in one Spark application"
    with new_dag(dag_id_of(fleet), description, start_when(pipelines[0].spec)) as dag:
        run = RunFleetOperator(
            task_id=_RUN,
            bundle=bundle,
            fleet=fleet,
            pipelines=names,
            results=f"{load_target(bundle).state.rstrip('/')}/fleets/{fleet}",
            spark_conf=spark_options(pipelines[0].spark),
        )
        for name in names:
            table = target_table(name)
            run >> PublishMemberOperator(
                task_id=name, bundle=bundle, subject=Subject(name), table=table, trigger_rule="all_done"
            )
    return dag
