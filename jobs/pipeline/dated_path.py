"""Dated paths: folders of an archive, each for a stretch of time, in the directives of strftime and in UTC."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jobs.pipeline.path_text import GLOB_SIGNS

_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_UNITS = "YmdHM"
"""Years to minutes. A path that has one has all before it: no two stretches of time share a folder."""
_STAMPS = {"Y": "%Y", "m": "%Y-%m", "d": "%Y-%m-%d", "H": "%Y-%m-%dT%H", "M": "%Y-%m-%dT%H%M"}
_FIRST = (1, 1, 1, 0, 0)
"""Of each unit the first."""
_STEPS = {
    "Y": timedelta(days=366),
    "m": timedelta(days=31),
    "d": timedelta(days=1),
    "H": timedelta(hours=1),
    "M": timedelta(minutes=1),
}
"""From the beginning of a unit into the next one."""


@dataclass(frozen=True, slots=True)
class Interval:
    """From `start` until before `end`; both know their time zone."""

    start: datetime
    end: datetime


def check_dated_path(path: str) -> str:
    """The path itself, if it has a folder for each year, month, day, hour or minute; ValueError says what it lacks."""
    if globs := sorted(GLOB_SIGNS.intersection(path)):
        raise ValueError(f"{globs[0]} has no place in it: a time has one folder")
    found = set(_DIRECTIVE.findall(path))
    allowed = ", ".join(f"%{unit}" for unit in _UNITS)
    if not found:
        raise ValueError(f"has no date in it: write it as strftime does, such as archive/%Y-%m-%d; allowed: {allowed}")
    if unknown := sorted(found - set(_UNITS)):
        raise ValueError(f"%{unknown[0]} is not known; allowed: {allowed}")
    missing = [f"%{unit}" for unit in _UNITS[: _UNITS.index(_finest(path))] if unit not in found]
    if missing:
        raise ValueError(f"lacks {', '.join(missing)}: several times would share a folder, and be read together")
    return path


def find_times(path: str, interval: Interval) -> Iterator[datetime]:
    """The times of those folders whose time begins within the interval, oldest first, whether they are there or not.

    So each folder belongs to one interval of any schedule, however long its intervals are.
    """
    unit = _finest(path)
    start, end = interval.start.astimezone(UTC), interval.end.astimezone(UTC)
    time = _begin(unit, start)
    while time < end:
        if time >= start:
            yield time
        time = _begin(unit, time + _STEPS[unit])


def name_folder(path: str, time: datetime) -> str:
    """The folder of a time."""
    return time.strftime(path)


def stamp_time(path: str, time: datetime) -> str:
    """A time as precise as the path's folders, in letters that any file name may have."""
    return time.strftime(_STAMPS[_finest(path)])


def read_stamp(path: str, stamp: str) -> datetime:
    """The time that a stamp says; ValueError, with an example, for one that is not as precise as the path."""
    pattern = _STAMPS[_finest(path)]
    try:
        return datetime.strptime(stamp, pattern).replace(tzinfo=UTC)
    except ValueError:
        example = datetime(2026, 1, 31, 23, 59, tzinfo=UTC).strftime(pattern)
        message = f"'{stamp}' is no time of a folder of {path}; write it as {example}"
        raise ValueError(message) from None


def _finest(path: str) -> str:
    return str(max(_DIRECTIVE.findall(path), key=_UNITS.find))


def _begin(unit: str, time: datetime) -> datetime:
    kept = _UNITS.index(unit) + 1
    year, month, day, hour, minute = (*time.timetuple()[:kept], *_FIRST[kept:])
    return datetime(year, month, day, hour, minute, tzinfo=UTC)
