"""Events with known ids, and the ledger that says which of them the source took: the account that a checker audits."""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from random import Random


class Kind(StrEnum):
    """What must become of an event."""

    GOOD = "good"
    BAD = "bad"
    """Well-formed, and set apart by a check."""
    POISON = "poison"
    """Malformed, and set apart by the parser."""
    DROP = "drop"
    """Left out on purpose, and counted."""


class State(StrEnum):
    """What the source answered; `unknown` until it has answered."""

    UNKNOWN = "unknown"
    ACKED = "acked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One record to be sent, whatever its form: `value` is its bytes, without a line end, and shows the id."""

    id: str
    kind: Kind
    checksum: int
    """What the target's row must hold beside the id; of any meaning if the target keeps no checksums."""
    value: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger holds of one id; `place` is where the source put it, once it is acknowledged."""

    kind: Kind
    checksum: int
    state: State = State.UNKNOWN
    place: str = ""


EventMaker = Callable[[str, int, int, Random], list[Event]]
"""(source, first sequence number, how many, random) -> events; ids must differ, and repeat with the random's seed."""


def make_events(source: str, first: int, count: int, random: Random) -> list[Event]:
    """JSON of id, sequence, kind, payload; of a hundred about 95 good, 2 bad, 2 poison, 1 to be dropped.

    The checksum is the crc32 of the payload.
    """
    kinds = random.choices(list(Kind), weights=[95, 2, 2, 1], k=count)
    return [_make_event(source, sequence, kind, random) for sequence, kind in enumerate(kinds, first)]


def _make_event(source: str, sequence: int, kind: Kind, random: Random) -> Event:
    name, payload = f"{source}-{sequence}", f"{random.getrandbits(64):016x}"
    text = json.dumps({"id": name, "sequence": sequence, "kind": kind, "payload": payload})
    value = _spoil(text, sequence) if kind is Kind.POISON else text.encode()
    return Event(name, kind, zlib.crc32(payload.encode()), value)


def _spoil(text: str, sequence: int) -> bytes:
    """A record that no parser takes and that still shows its id: cut off, of a wrong type, two in one, not UTF-8."""
    spoilt = [
        text[:-9],
        text.replace('"payload": "', '"payload": ["'),
        text + text,
        text.replace(f" {sequence},", " 1e,"),
    ]
    values = [one.encode() for one in spoilt] + [text.encode()[:-2] + b"\xff\xfe" + text.encode()[-2:]]
    return values[sequence % len(values)]


class IdLedger:
    """An append-only file: each id is written down before it is sent, and again when the source has answered."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("a", encoding="utf-8")

    def intend(self, events: Iterable[Event]) -> None:
        """Write down what is about to be sent; its state is unknown from now on."""
        self._append((event.id, event.kind, str(event.checksum)) for event in events)

    def settle(self, state: State, ids: Iterable[str], place: str) -> None:
        """Write down what the source answered for some ids."""
        self._append((state, identifier, place) for identifier in ids)

    def _append(self, rows: Iterable[tuple[str, str, str]]) -> None:
        self._file.writelines("\t".join(row) + "\n" for row in rows)
        self._file.flush()


def read_ids(file: Path) -> dict[str, Entry]:
    """Every id that was ever to be sent, with the last answer for it."""
    entries: dict[str, Entry] = {}
    for first, second, third in _rows(file):
        if first in _STATES:
            entries[second] = replace(entries[second], state=State(first), place=third)
        else:
            entries[first] = Entry(Kind(second), int(third))
    return entries


def _rows(file: Path) -> Iterator[list[str]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield line.rstrip("\n").split("\t")


_STATES = frozenset(State)
