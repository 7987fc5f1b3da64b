"""A real local Airflow: api-server, scheduler, dag-processor and triggerer, on loopback, each ended by process id.

It runs in an environment of its own and is driven from outside: nothing here imports Airflow. Not `airflow standalone`,
whose end by SIGTERM leaves its children behind.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from jobs.dev.airflow_api import Api, ApiError, log_in
from jobs.dev.processes import end_process, end_sessions, free_port, members, signal_process, start_ticks
from jobs.pipeline.errors import AlreadyRunningError, UnavailableError

USER = "admin"
COMPONENTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
"""In the order of their start. The log servers would listen on all addresses; on one machine the files are enough."""

START_SECONDS = 120
TASK_GRACE_SECONDS = 30
"""What running tasks get to end their Spark, once they are told to."""
GRACE_SECONDS = 10
_POLL_SECONDS = 0.1
_STARTER = "starter"
_PASSWORDS = "simple_auth_manager_passwords.json.generated"
_LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"
_HEALTH = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an Airflow lives, and what it loads; fixed before it starts."""

    home: Path
    """Database, logs, pid files and the login. Only its owner may look into it: Airflow's keys are there."""
    environment: Path
    """The virtual environment that holds Airflow."""
    dags: Mapping[str, Path]
    """Name of a DAG bundle -> the folder of its DAG files."""
    master: str = "local[*]"
    """Host of the connection `spark_default`."""
    database: str | None = None
    """URL of SQLAlchemy; by default SQLite in the home, which is right for one machine and few tasks at once."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables, over those that are set here."""

    def variables(self, port: int) -> dict[str, str]:
        """Environment of all components."""
        ours = {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "2",  # each task that submits is a JVM
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": self._bundles(),
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database or f"sqlite:///{self.home}/airflow.db?timeout=30",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": self.master}),
            "PYTHONUNBUFFERED": "1",
        }
        return {**os.environ, **ours, **self.settings}

    def _bundles(self) -> str:
        bundles = [
            {"name": name, "classpath": _LOCAL_BUNDLE, "kwargs": {"path": str(folder)}}
            for name, folder in self.dags.items()
        ]
        return json.dumps(bundles)


@dataclass(frozen=True, slots=True)
class Airflow:
    """An Airflow whose components this process started; `running_airflow` makes one."""

    place: Place
    port: int
    password: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Of the user interface, and of the REST API below it."""
        return f"http://127.0.0.1:{self.port}"

    def log_in(self) -> Api:
        """The REST API, as its user."""
        return log_in(self.port, USER, self.password)

    def log_of(self, component: str) -> Path:
        """What a component prints."""
        return self.place.home / "logs" / f"{component}.log"

    def start(self, *components: str) -> None:
        """Start these components, or all; returns when they are healthy, UnavailableError if one does not become so."""
        begun = datetime.now(UTC)
        for component in components or COMPONENTS:
            self.processes[component] = self._launch(component)
        self._await_health(components or tuple(COMPONENTS), begun)

    def _launch(self, component: str) -> subprocess.Popen[bytes]:
        command = [str(self.place.environment / "bin" / "airflow"), *COMPONENTS[component]]
        with self.log_of(component).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - fixed words, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.place.variables(self.port),
                cwd=self.place.home,
                start_new_session=True,  # Ctrl-C in a terminal is for us alone; and all its processes can be found
            )
        _write_pid(self.place.home, component, process.pid)
        return process

    def _await_health(self, components: tuple[str, ...], begun: datetime) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_healthy(components, begun):
            if dead := self.find_dead():
                raise UnavailableError(f"Airflow's {dead} ended at its start; see {self.log_of(dead)}")
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"Airflow is not healthy after {START_SECONDS} s; see {self.place.home / 'logs'}"
                )
            time.sleep(_POLL_SECONDS)

    def _is_healthy(self, components: tuple[str, ...], begun: datetime) -> bool:
        try:
            health = Api(self.port).get("/monitor/health")
        except (ApiError, OSError):
            return False
        return all(_beats(health[_HEALTH[one]], begun) for one in components if one in _HEALTH)

    def find_dead(self) -> str | None:
        """A component that has ended by itself, if there is one."""
        return next((name for name, process in self.processes.items() if process.poll() is not None), None)

    def stop(self) -> None:
        """End all components and the tasks that run; harmless for those that are dead."""
        _stop_components(self.place.home)


@contextlib.contextmanager
def running_airflow(place: Place, port: int | None = None) -> Iterator[Airflow]:
    """An Airflow for the time of the body: its database brought up to date, its components healthy.

    Raises AlreadyRunningError if one runs in this home, UnavailableError if it does not start.
    """
    _require_idle(place.home)
    airflow = Airflow(place, port or free_port(), _prepare_home(place.home))
    _write_pid(place.home, _STARTER, os.getpid())
    try:
        _migrate(airflow)
        airflow.start()
        yield airflow
    finally:
        airflow.stop()


def stop_airflow(home: Path) -> bool:
    """End an Airflow that another process started: ask that process, or end what it left behind if it is dead.

    False if nothing runs in this home.
    """
    starter = _find_processes(home).get(_STARTER)
    if starter is None:
        return _stop_components(home)
    signal_process(starter, signal.SIGTERM)
    end_process(starter, TASK_GRACE_SECONDS + 2 * GRACE_SECONDS)
    _stop_components(home)
    return True


def _stop_components(home: Path) -> bool:
    """End the scheduler with its tasks first, for they report to the others; False if nothing ran.

    A running task is told to end its Spark; Airflow tries it again at the next start.
    """
    sessions = {name: pid for name, pid in _find_processes(home).items() if name in COMPONENTS}
    if scheduler := sessions.pop("scheduler", None):
        signal_process(scheduler, signal.SIGTERM)
        for worker in _busy_workers(scheduler):
            signal_process(worker, signal.SIGTERM)
        end_sessions([scheduler], TASK_GRACE_SECONDS)
    for pid in [pid for session in sessions.values() for pid in members(session)]:
        signal_process(pid, signal.SIGTERM)  # the triggerer alone would wait 10 s for its runner
    end_sessions(sessions.values(), GRACE_SECONDS)
    for file in _pid_folder(home).glob("*.pid"):
        file.unlink(missing_ok=True)
    return bool(sessions) or scheduler is not None


def _find_processes(home: Path) -> dict[str, int]:
    """Name -> process id, and session, of what lives: a dead scheduler may have left tasks in its session."""
    found = {}
    for file in _pid_folder(home).glob("*.pid"):
        pid, ticks = map(int, file.read_text().split())
        if start_ticks(pid) == ticks or (start_ticks(pid) is None and members(pid)):
            found[file.stem] = pid
    return found


def _write_pid(home: Path, name: str, pid: int) -> None:
    """Note a process beside the time of its start, which tells it from a later one with its id."""
    _pid_folder(home).mkdir(exist_ok=True)
    (_pid_folder(home) / f"{name}.pid").write_text(f"{pid} {start_ticks(pid) or 0}\n")


def _pid_folder(home: Path) -> Path:
    return home / "pids"


def _require_idle(home: Path) -> None:
    if running := _find_processes(home):
        raise AlreadyRunningError(f"an Airflow runs in {home} (processes {sorted(running.values())}); stop it first")


def _prepare_home(home: Path) -> str:
    """Make the folders and, once, the login; returns the password."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    (home / "logs").mkdir(exist_ok=True)
    file = home / _PASSWORDS
    if not file.is_file():
        file.touch(0o600)
        file.write_text(json.dumps({USER: secrets.token_urlsafe(12)}))
    return str(json.loads(file.read_text())[USER])


def _migrate(airflow: Airflow) -> None:
    command = [str(airflow.place.environment / "bin" / "airflow"), "db", "migrate"]
    with airflow.log_of("migrate").open("wb") as log:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            command, stdout=log, stderr=subprocess.STDOUT, env=airflow.place.variables(airflow.port), check=False
        )
    if done.returncode:
        raise UnavailableError(f"Airflow's database cannot be set up; see {airflow.log_of('migrate')}")


def _beats(health: Mapping[str, str | None], begun: datetime) -> bool:
    """Whether a component's heart has beaten since; without that, its predecessor's would count for a while."""
    latest = next((value for key, value in health.items() if key.startswith("latest_")), None)
    return health["status"] == "healthy" and latest is not None and datetime.fromisoformat(latest) >= begun


def _busy_workers(scheduler: int) -> list[int]:
    """Workers that run a task: they pass SIGTERM on to it. Idle ones end with their scheduler."""
    titles = {pid: _title(pid) for pid in members(scheduler)}
    return [pid for pid, title in titles.items() if title.startswith("airflow worker") and "<idle>" not in title]


def _title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    return ""
