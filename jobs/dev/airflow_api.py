"""Airflow's REST API, as far as the demo and the tests need it. Nothing but the standard library."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from jobs.pipeline.errors import UnavailableError

_POLL_SECONDS = 0.2
_ANSWER_SECONDS = 60
_Found = TypeVar("_Found")


class ApiError(Exception):
    """An answer that is none of 2xx; `status` is its code."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"{status}: {message}")


@dataclass(frozen=True, slots=True)
class Api:
    """The API of an Airflow on loopback; without a token only its health can be asked for."""

    port: int
    token: str | None = None

    def get(self, path: str) -> Any:
        """What stands at a path below /api/v2; ApiError, or OSError if nobody answers."""
        return self.send("GET", f"/api/v2{path}")

    def post(self, path: str, **body: Any) -> Any:
        """As `get`, with a body."""
        return self.send("POST", f"/api/v2{path}", body)

    def patch(self, path: str, **body: Any) -> Any:
        """As `post`."""
        return self.send("PATCH", f"/api/v2{path}", body)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """One request; its answer, decoded."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_SECONDS)
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self.token}"} if self.token else {}
        )
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status // 100 != 2:  # noqa: PLR2004 - the class of success
            raise ApiError(answer.status, text)
        return json.loads(text) if text else None

    def unpause(self, dag: str) -> None:
        """Let a DAG's schedule start runs."""
        self.patch(f"/dags/{dag}", is_paused=False)

    def trigger(self, dag: str, **conf: Any) -> str:
        """Start a run by hand; returns its id."""
        return str(self.post(f"/dags/{dag}/dagRuns", logical_date=None, conf=conf)["dag_run_id"])

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Runs of a DAG, oldest first."""
        return list(self.get(f"/dags/{dag}/dagRuns?order_by=id&limit=100")["dag_runs"])

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """Task -> its instance in a run; of mapped ones the last."""
        found = self.get(f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {one["task_id"]: one for one in found}

    def states(self, dag: str, run: str) -> dict[str, str | None]:
        """Task -> its state in a run."""
        return {name: task["state"] for name, task in self.tasks(dag, run).items()}

    def events(self, dag: str) -> list[dict[str, Any]]:
        """Asset events that a DAG's runs emitted, oldest first.

        Waits until each run that an event created has started: before that Airflow 3.3 answers 500
        (apache/airflow#71360).
        """
        path = f"/assets/events?source_dag_id={dag}&order_by=timestamp"
        return list(wait_for(f"events of {dag}", lambda: self.get(path))["asset_events"])

    def log(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        """What a try of a task has logged so far."""
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}?full_content=true"
        return json.dumps(self.get(path)["content"])

    def await_run(self, dag: str, run: str, *states: str, seconds: float = 300) -> str:
        """Wait until a run is in one of the states; returns it."""
        return wait_for(
            f"run {run} of {dag} in {states}",
            lambda: _one_of(states, self.get(f"/dags/{dag}/dagRuns/{run}")["state"]),
            seconds,
        )

    def await_task(self, dag: str, run: str, task: str, *states: str, seconds: float = 300) -> str:
        """Wait until a task of a run is in one of the states; returns it."""
        return wait_for(
            f"{task} of run {run} of {dag} in {states}",
            lambda: _one_of(states, self.states(dag, run).get(task)),
            seconds,
        )


def log_in(port: int, user: str, password: str) -> Api:
    """The API with a user's token."""
    token = Api(port).send("POST", "/auth/token", {"username": user, "password": password})["access_token"]
    return Api(port, token)


def wait_for(what: str, look: Callable[[], _Found | None], seconds: float = 120) -> _Found:
    """Look until there is something to be seen, and return it; UnavailableError, naming it, if there is not in time.

    Refused and failed requests count as nothing seen: a component may be on its way.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := look():
                return found
            last: object = found
        except (ApiError, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise UnavailableError(f"{what}: not within {seconds:.0f} s; last seen: {last}")
        time.sleep(_POLL_SECONDS)


def _one_of(states: tuple[str, ...], state: str | None) -> str | None:
    return state if state in states else None
