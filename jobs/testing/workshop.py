"""The lanes of `make torture`: beds, producers and kills put together, and the baseline that must fail."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from jobs.dev.produce import create_topic
from jobs.pipeline.failpoints import Point
from jobs.testing.bed import Bed, Trigger, file_source, kafka_source, make_bed
from jobs.testing.checker import Conservation, check_conservation
from jobs.testing.ids import IdLedger, read_ids
from jobs.testing.lane import Lane
from jobs.testing.matrix import Case, creation_cases, random_cases, schema_cases, steady_cases
from jobs.testing.nemesis import AtPoint, Kill, Nemesis, Victims
from jobs.testing.producers import FileProducer, KafkaProducer, Producer

_GROUPS_A_LANE = 14
"""Cases of one lane, where those that follow each other count as one: few, so that audits come early and often."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """Builds lanes, each in a folder of its own."""

    folder: Path
    seed: int
    rows: int

    def random(self, name: str) -> Random:
        """The same numbers for the same seed, whatever else runs."""
        return Random(f"{self.seed} {name}")

    def over_files(self, name: str, trigger: Trigger) -> Lane:
        """A lane whose batches are files."""
        bed = make_bed(self.folder / name, file_source(), trigger)
        producer = FileProducer(bed.landing, IdLedger(_ids(bed)), self.random(name))
        return self._lane(bed, producer, 1, trigger)

    def over_kafka(self, name: str, trigger: Trigger, servers: str) -> Lane:
        """A lane over a topic of its own, of two partitions."""
        create_topic(servers, name)
        bed = make_bed(self.folder / name, kafka_source(servers, name, self.rows), trigger)
        producer = KafkaProducer(servers, name, IdLedger(_ids(bed)), self.random(name))
        return self._lane(bed, producer, self.rows, trigger)

    def _lane(self, bed: Bed, producer: Producer, places: int, trigger: Trigger) -> Lane:
        tables = bed.tables
        watched = [table for table in (tables.target, tables.ledger) if table]
        nemesis = Nemesis(bed.command, _log(bed), watched)
        ends_by_itself = trigger is Trigger.AVAILABLE_NOW
        ids, name = _ids(bed), bed.folder.name
        return Lane(name, tables, producer, ids, nemesis, self.rows, places, ends_by_itself, bed.widen)


@dataclass(frozen=True, slots=True)
class Plan:
    """A lane to come: it is built, topic and all, when its turn comes."""

    name: str
    build: Callable[[], Lane]
    choose: Callable[[Lane], list[Case]]

    def run(self, deadline: float) -> Lane:
        """Build the lane, and meet its cases until the deadline, by time.monotonic."""
        lane = self.build()
        lane.run(self.choose(lane), deadline)
        return lane


def plan(workshop: Workshop, servers: str, kills: int) -> list[Plan]:
    """The matrix, or an even part of it, and kills at random times beyond it; lanes of all kinds in turn."""
    kinds = [_Kind(workshop, trigger, servers if over_kafka else None) for trigger in Trigger for over_kafka in (0, 1)]
    first_starts = _first_starts(workshop)
    decks = [deck for kind in kinds for deck in kind.decks] + [len(first_starts)]
    share = min(1.0, kills / sum(decks))
    scripted = sum(round(deck * share) for deck in decks)
    beyond = max(0, kills - scripted) // len(kinds)
    dealt = [kind.plans(share, beyond) for kind in kinds] + [first_starts[: round(len(first_starts) * share)]]
    return [one for turn in itertools.zip_longest(*dealt) for one in turn if one is not None]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Lanes over one source with one trigger; together they hold all points of a batch."""

    workshop: Workshop
    trigger: Trigger
    servers: str | None

    @property
    def name(self) -> str:
        return f"{'kafka' if self.servers else 'files'}-{self.trigger}"

    @property
    def decks(self) -> list[int]:
        """How many scripted kills there are: at the points of a batch, and around one that changes the schema."""
        bed = Bed(self.workshop.folder)
        return [sum(map(len, self._groups(bed))), len(self._schema_cases(bed))]

    def plans(self, share: float, beyond: int) -> list[Plan]:
        """The first part of the deck, dealt to lanes, and a lane of kills at random times."""
        count = round(len(self._groups(Bed(self.workshop.folder))) * share)
        lanes = -(-count // _GROUPS_A_LANE)
        steady = [
            self._plan(str(number), partial(self._hand, count, slice(number, None, lanes))) for number in range(lanes)
        ]
        _, changes = self.decks
        of_schema = [self._plan("schema", partial(self._of_schema, round(changes * share)))] if changes else []
        at_random = [self._plan("any-time", partial(self._at_random, beyond))] if beyond else []
        return steady + of_schema + at_random

    def _plan(self, suffix: str, choose: Callable[[Lane], list[Case]]) -> Plan:
        name = f"{self.name}-{suffix}"
        return Plan(name, partial(self._build, name), choose)

    def _build(self, name: str) -> Lane:
        if self.servers:
            return self.workshop.over_kafka(name, self.trigger, self.servers)
        return self.workshop.over_files(name, self.trigger)

    def _hand(self, count: int, part: slice, lane: Lane) -> list[Case]:
        groups = self._groups(Bed(self.workshop.folder / lane.name))[:count]
        return [case for group in groups[part] for case in group]

    def _groups(self, bed: Bed) -> list[list[Case]]:
        random = self.workshop.random(f"deck {self.name}")
        return steady_cases(bed.tables, over_files=not self.servers, random=random)

    def _of_schema(self, count: int, lane: Lane) -> list[Case]:
        return self._schema_cases(Bed(self.workshop.folder / lane.name))[:count]

    def _schema_cases(self, bed: Bed) -> list[Case]:
        """For a lane of its own, over files with the one trigger and over Kafka with the other."""
        if bool(self.servers) != (self.trigger is Trigger.CONTINUOUS):
            return []
        return schema_cases(bed.tables, self.workshop.random(f"schema {self.name}"))

    def _at_random(self, count: int, _: Lane) -> list[Case]:
        return list(itertools.islice(random_cases(self.workshop.random(f"times {self.name}")), count))


def _first_starts(workshop: Workshop) -> list[Plan]:
    """A new pipeline for each kill, in random order: tables are created once."""
    numbers = list(range(len(creation_cases(Bed(workshop.folder).tables))))
    workshop.random("first starts").shuffle(numbers)
    return [_plan_first_start(workshop, number) for number in numbers]


def _plan_first_start(workshop: Workshop, number: int) -> Plan:
    name = f"first-start-{number}"
    build = partial(workshop.over_files, name, Trigger.AVAILABLE_NOW)
    return Plan(name, build, lambda lane: [creation_cases(lane.tables)[number]])


def run_baseline(workshop: Workshop, victims: list[Victims]) -> Conservation:
    """The plain job killed between its two appends, once for each of the victims, then drained: its ids' fate."""
    name = "baseline"
    bed = make_bed(workshop.folder / name, file_source(), Trigger.AVAILABLE_NOW)
    producer = FileProducer(bed.landing, IdLedger(_ids(bed)), workshop.random(name))
    nemesis = Nemesis(bed.plain_command, _log(bed), [bed.tables.target])
    for one in victims:
        producer.send(workshop.rows)
        nemesis.run(Kill(AtPoint(Point.TARGET_AFTER), one))
    nemesis.run()
    nemesis.bury_survivors()
    return check_conservation(bed.tables, read_ids(_ids(bed)))


def has_faults(conservation: Conservation) -> bool:
    """Whether a baseline failed as it must."""
    return bool(conservation.lost or conservation.doubled)


def _ids(bed: Bed) -> Path:
    return bed.folder / "ids.tsv"


def _log(bed: Bed) -> Path:
    return bed.folder / "runs.log"
