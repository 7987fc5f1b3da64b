"""What the triggerer runs for this project. It imports this from the wheel: it cannot import from a bundle of DAGs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from jobs.orchestration.detached import Driver

_POLL_SECONDS = 2.0


class WaitTrigger(BaseTrigger):
    """Fires after some seconds; the event says how often the task has waited. A new triggerer begins anew."""

    def __init__(self, seconds: float, waited: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's
        self.seconds = seconds
        self.waited = waited

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How another triggerer makes it again."""
        return _path_of(self), {"seconds": self.seconds, "waited": self.waited}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait."""
        await asyncio.sleep(self.seconds)
        yield TriggerEvent(self.waited)  # type: ignore[no-untyped-call] # Airflow's


class DriverTrigger(BaseTrigger):
    """Fires when a detached driver has ended. The driver does not notice if the triggerer dies, and another goes on.

    The event is its folder, and how often the task had waited for another run before.
    """

    def __init__(self, folder: str, waited: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's
        self.driver = Driver(Path(folder))
        self.waited = waited

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How another triggerer makes it again."""
        return _path_of(self), {"folder": str(self.driver.folder), "waited": self.waited}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end. A driver of another machine looks ended from here; the worker looks again."""
        while self.driver.is_running:  # noqa: ASYNC110 - there is no event: the driver is no child of this process
            await asyncio.sleep(_POLL_SECONDS)
        yield TriggerEvent({"folder": str(self.driver.folder), "waited": self.waited})  # type: ignore[no-untyped-call] # as above

    async def on_kill(self) -> None:
        """A person marked or cleared the task: ask the driver to stop, and do not wait for it."""
        self.driver.request_stop()


def _path_of(trigger: BaseTrigger) -> str:
    return f"{type(trigger).__module__}.{type(trigger).__qualname__}"
