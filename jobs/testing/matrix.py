"""The distinct points of a batch at which a run can die, as moments that a nemesis can find."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from jobs.pipeline.failpoints import Point
from jobs.testing.bed import BATCHES_A_CHECKPOINT
from jobs.testing.checker import Tables
from jobs.testing.nemesis import AtFile, AtPoint, AtTime, Kill, Victims

_BATCHES_A_COMPACTION = 10
"""Spark's default of spark.sql.streaming.fileSource.log.compactInterval."""
_LONGEST_RANDOM_SECONDS = 15.0
_LONGEST_GRACE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Case:
    """One kill of the matrix; `batches` must wait in the source for its moment to come."""

    name: str
    kill: Kill
    batches: int = 4
    is_scripted: bool = True
    """Whether its moment must come; a random time may fall behind the run's end."""
    changes_schema: bool = False
    """Whether the run begins with nothing left to do, and by a batch that gives the target one more column."""


def steady_cases(tables: Tables, *, over_files: bool, random: Random) -> list[list[Case]]:
    """All points of a batch but table creation, each with every set of victims, in random order; cases of one list
    follow each other.

    Most strike in the second batch of a run, so that the run has recovered from the kill before it. K17 strikes thrice
    in the first, which then is the recovery.
    """
    single = [
        [replace(case, kill=replace(case.kill, victims=one))]
        for case in _points(tables, over_files=over_files)
        for one in Victims
    ]
    thrice = [[_at_point(name, point, 1, one)] * 3 for name, point in _IN_RECOVERY.items() for one in Victims]
    graceful = [[_graceful(random)] for _ in Victims]
    groups = single + thrice + graceful
    random.shuffle(groups)
    return groups


def creation_cases(tables: Tables) -> list[Case]:
    """K14: the kills that only a first start can meet, with every set of victims."""
    moments: list[AtPoint | AtFile] = [
        _committing(tables),
        AtPoint(Point.TARGET_CREATED),
        AtPoint(Point.TABLE_CREATED, 1),
        AtPoint(Point.TABLE_CREATED, 2),
    ]
    return [Case("K14 tables being created", Kill(moment, one), 2) for moment in moments for one in Victims]


def schema_cases(tables: Tables, random: Random) -> list[Case]:
    """K15: kills around the commit that changes the target's columns, with every set of victims, in random order."""
    moments: list[AtPoint | AtFile] = [
        AtFile(tables.target, r"part-.*\.parquet"),
        AtPoint(Point.QUARANTINE_AFTER),
        _committing(tables),
        AtPoint(Point.TARGET_AFTER),
        AtPoint(Point.BATCH_LEFT),
    ]
    kills = [Kill(moment, one) for moment in moments for one in Victims]
    random.shuffle(kills)
    return [Case("K15 schema being changed", kill, 2, changes_schema=True) for kill in kills]


def random_cases(random: Random) -> Iterator[Case]:
    """Kills at random times, without end."""
    while True:
        moment = AtTime(random.uniform(1, _LONGEST_RANDOM_SECONDS))
        yield Case("any time", Kill(moment, random.choice(list(Victims))), is_scripted=False)


def _committing(tables: Tables, nth: int = 1) -> AtFile:
    """While the target is committed for the nth time; a commit also leaves a checksum, `.<version>.json.crc`."""
    return AtFile(tables.target / "_delta_log", r"\.\d{20}\.json\..*\.tmp", nth, is_fleeting=True)


_IN_RECOVERY = {
    "K17 quarantine written, thrice in recovery": Point.QUARANTINE_AFTER,
    "K17 batch left, thrice in recovery": Point.BATCH_LEFT,
}


def _at_point(name: str, point: Point, nth: int, victims: Victims) -> Case:
    return Case(name, Kill(AtPoint(point, nth), victims))


def _graceful(random: Random) -> Case:
    moment = AtTime(random.uniform(1, _LONGEST_RANDOM_SECONDS), random.uniform(0, _LONGEST_GRACE_SECONDS))
    return Case("K19 SIGTERM, then SIGKILL", Kill(moment, Victims.BOTH), is_scripted=False)


def _points(tables: Tables, *, over_files: bool) -> Iterator[Case]:
    offsets, commits = tables.checkpoint / "offsets", tables.checkpoint / "commits"
    sources, log = tables.checkpoint / "sources" / "0", tables.target / "_delta_log"
    compaction = AtFile(sources, r"\.?\d+\.compact.*")
    checkpoint = AtFile(log, r".*checkpoint.*")
    moments: dict[str, AtPoint | AtFile] = {
        "K1 offsets being written": AtFile(offsets, r"\.\d+\..*\.tmp", 2, is_fleeting=True),
        "K2 offsets written": AtFile(offsets, r"\d+", 2),
        "K2 batch entered": AtPoint(Point.BATCH_ENTERED, 2),
        "K5 target staged": AtPoint(Point.TARGET_STAGED, 2),
        "K3 batch pinned": AtPoint(Point.BATCH_PINNED, 2),
        "K4 part file begun": AtFile(tables.target, r"part-.*\.parquet", 2),
        "K5 part file written": AtFile(tables.target, r"part-.*\.parquet", 2, least_bytes=1),
        "K6 target being committed": _committing(tables, 2),
        "K7 quarantine written": AtPoint(Point.QUARANTINE_AFTER, 2),
        "K8 quarantine being written": AtFile(tables.quarantine, r"part-.*\.parquet", 2, is_fleeting=True),
        "K9 target written": AtPoint(Point.TARGET_AFTER, 2),
        "K10 ledger written": AtPoint(Point.LEDGER_AFTER, 2),
        "K10 batch left": AtPoint(Point.BATCH_LEFT, 2),
        "K10 commit being written": AtFile(commits, r"\.\d+\..*\.tmp", 2, is_fleeting=True),
        "K11 commit written": AtFile(commits, r"\d+", 2),
        "K12 target's log in checkpoint": checkpoint,
    }
    waiting = {"K12 target's log in checkpoint": BATCHES_A_CHECKPOINT + 2}
    if over_files:
        moments |= {
            "K0 files listed": AtFile(sources, r"\d+(\.compact)?", 2, is_fleeting=True),
            "K13 source log compacted": compaction,
        }
        waiting |= {"K13 source log compacted": _BATCHES_A_COMPACTION + 1}
    for name, moment in moments.items():
        yield Case(name, Kill(moment, Victims.BOTH), waiting.get(name, 4))
