"""A real single-node Kafka broker for development and tests: KRaft, loopback, a free port, stopped by process id."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.dev.jars import install_kafka_jars, kafka_folder
from jobs.dev.processes import free_port
from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.session import find_java

START_SECONDS = 60
STOP_SECONDS = 20
_STATE = "broker.json"


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that runs, or ran, in a folder of its own."""

    pid: int
    port: int

    @property
    def servers(self) -> str:
        """Value for kafka.bootstrap.servers."""
        return f"127.0.0.1:{self.port}"

    @property
    def is_alive(self) -> bool:
        """Whether it still is the broker's process and takes connections."""
        return _is_kafka(self.pid) and _answers(self.port)


def start_broker(folder: Path, port: int | None = None, settings: Mapping[str, object] | None = None) -> Broker:
    """Start a broker whose data lies in the folder, or return the one that runs there; waits until it answers.

    `settings` go over those of `server.properties` that it is given otherwise.
    """
    running = find_broker(folder)
    if running is not None:
        return running
    install_kafka_jars()
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    properties = _write_properties(folder, port, free_port(), settings or {})
    if not (folder / "logs" / "meta.properties").exists():
        _java(["kafka.tools.StorageTool", "format", "-t", str(uuid.uuid4()), "-c", str(properties)]).wait()
    process = _java(["kafka.Kafka", str(properties)], log=folder / "broker.log")
    broker = Broker(process.pid, port)
    (folder / _STATE).write_text(json.dumps({"pid": broker.pid, "port": broker.port}))
    _wait_until_ready(process, broker, folder)
    return broker


def find_broker(folder: Path) -> Broker | None:
    """The broker that runs in this folder, or None."""
    file = folder / _STATE
    if not file.is_file():
        return None
    broker = Broker(**json.loads(file.read_text()))
    return broker if broker.is_alive else None


def stop_broker(folder: Path) -> bool:
    """Stop the folder's broker by its process id; False if none ran."""
    file = folder / _STATE
    if not file.is_file():
        return False
    pid = json.loads(file.read_text())["pid"]
    file.unlink()
    if not _is_kafka(pid):
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while _is_kafka(pid):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.1)
    return True


@contextlib.contextmanager
def running_broker(folder: Path) -> Iterator[Broker]:
    """A broker for the time of the body."""
    broker = start_broker(folder)
    try:
        yield broker
    finally:
        stop_broker(folder)


def _java(arguments: list[str], log: Path | None = None) -> subprocess.Popen[bytes]:
    memory = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    command = [find_java(), *memory, "-cp", f"{kafka_folder()}/*", *arguments]
    output = log.open("ab") if log else subprocess.DEVNULL
    return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)  # noqa: S603


def _write_properties(folder: Path, port: int, controller_port: int, settings: Mapping[str, object]) -> Path:
    properties = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": folder / "logs",
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "num.partitions": 2,
        "group.initial.rebalance.delay.ms": 0,
        **settings,
    }
    file = folder / "server.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    return file


def _wait_until_ready(process: subprocess.Popen[bytes], broker: Broker, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(broker.port):
        if process.poll() is not None or time.monotonic() > deadline:
            message = f"the Kafka broker did not start; see {folder / 'broker.log'}"
            raise UnavailableError(message)
        time.sleep(0.1)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _is_kafka(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"kafka.Kafka" in words
