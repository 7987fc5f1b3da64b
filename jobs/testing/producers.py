"""Producers that keep an id ledger: of files placed atomically, and of Kafka records acknowledged one by one."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

from jobs.testing.ids import Event, EventMaker, IdLedger, State, make_events

_FLUSH_SECONDS = 60


class Producer(Protocol):
    """Sends events of its own making."""

    @property
    def placed(self) -> int:
        """Files, or records, that the source holds: what a checkpoint counts when it has taken all."""

    def send(self, count: int) -> None:
        """Send that many events and wait for the source's answers."""


@dataclass(slots=True)
class FileProducer:
    """One file of lines a call: written under a hidden name, then renamed. An id's place is the file's name."""

    folder: Path
    ledger: IdLedger
    random: Random
    make: EventMaker = make_events
    sent: int = 0
    placed: int = 0

    def send(self, count: int) -> None:
        """Place one file of that many lines; all its ids are acknowledged by the rename."""
        events = self.make("file", self.sent, count, self.random)
        self.ledger.intend(events)
        place = self._place(events)
        self.ledger.settle(State.ACKED, (event.id for event in events), place)
        self.sent += count

    def _place(self, events: list[Event]) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        final = self.folder / f"{self.placed:06}.json"
        hidden = final.with_name(f".{final.name}")
        hidden.write_bytes(b"".join(event.value + b"\n" for event in events))
        hidden.rename(final)
        self.placed += 1
        return final.name


@dataclass(slots=True)
class KafkaProducer:
    """One record an event, acknowledged by the broker's delivery report. An id's place is `topic/partition/offset`."""

    servers: str
    topic: str
    ledger: IdLedger
    random: Random
    make: EventMaker = make_events
    sent: int = 0
    _client: Any = field(init=False)

    def __post_init__(self) -> None:
        from confluent_kafka import Producer as Client  # noqa: PLC0415 - an extra; files need no Kafka

        settings = {"bootstrap.servers": self.servers, "enable.idempotence": True, "linger.ms": 5, "log_level": 2}
        self._client = Client(settings)

    @property
    def placed(self) -> int:
        """Records."""
        return self.sent

    def send(self, count: int) -> None:
        """Send, and wait for every report; what the broker has not answered by then stays unknown."""
        events = self.make("kafka", self.sent, count, self.random)
        self.ledger.intend(events)
        for event in events:
            self._produce(event)
        self._client.flush(_FLUSH_SECONDS)
        self.sent += count

    def _produce(self, event: Event) -> None:
        while True:
            try:
                self._client.produce(self.topic, event.value, on_delivery=lambda *report: self._settle(event, *report))
                break
            except BufferError:
                self._client.poll(0.1)
        self._client.poll(0)

    def _settle(self, event: Event, error: Any, message: Any) -> None:
        place = "" if error else f"{message.topic()}/{message.partition()}/{message.offset()}"
        self.ledger.settle(State.FAILED if error else State.ACKED, [event.id], place)
