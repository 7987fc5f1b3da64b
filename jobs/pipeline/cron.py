"""Cron expressions: five fields or a @preset, checked before a scheduler ever sees them."""

import re
from calendar import monthrange
from dataclasses import dataclass

from jobs.pipeline.hints import did_you_mean

PRESETS = frozenset({"@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"})
_LEAP_YEAR = 2024
_ITEM = re.compile(r"(?:\*|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d+))?")


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    lowest: int
    highest: int
    words: tuple[str, ...] = ()
    """Names for the values from `lowest` on, in lower case."""


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


def check_cron(text: str) -> str:
    """The text itself, if it is a preset or five fields that some day fit; ValueError says which field is wrong."""
    if text.startswith("@"):
        if text not in PRESETS:
            message = f"'{text}' is no preset{did_you_mean(text, PRESETS)}; there are: {', '.join(sorted(PRESETS))}"
            raise ValueError(message)
        return text
    parts = text.split()
    if len(parts) != len(_FIELDS):
        names = ", ".join(field.name for field in _FIELDS)
        raise ValueError(
            f"'{text}' has {len(parts)} fields; cron has five ({names}), or write a preset such as @hourly"
        )
    _, _, days, months, weekdays = (_values(field, part) for field, part in zip(_FIELDS, parts, strict=True))
    longest = max(monthrange(_LEAP_YEAR, month)[1] for month in months)
    if len(set(weekdays) - {7}) == len(_DAYS) and min(days) > longest:
        raise ValueError(f"'{text}' never comes: no such month has a day {min(days)}")
    return text


def _values(field: _Field, text: str) -> list[int]:
    return [value for item in text.split(",") for value in _range(field, item)]


def _range(field: _Field, item: str) -> range:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise _refusal(field, item, "write a number, *, a range a-b, or one of them with /step")
    low, high, step = match["low"], match["high"], int(match["step"] or 1)
    first = _number(field, item, low) if low else field.lowest
    last = _number(field, item, high) if high else (field.highest if low is None or match["step"] else first)
    if step == 0 or first > last:
        raise _refusal(field, item, "a range goes upwards, in steps of 1 or more")
    return range(first, last + 1, step)


def _number(field: _Field, item: str, text: str) -> int:
    if text.lower() in field.words:
        return field.words.index(text.lower()) + field.lowest
    if not re.fullmatch(r"[0-9]{1,2}", text) or not field.lowest <= int(text) <= field.highest:
        raise _refusal(field, item, f"allowed: {field.lowest} to {field.highest}")
    return int(text)


def _refusal(field: _Field, item: str, rule: str) -> ValueError:
    return ValueError(f"'{item}' is no {field.name}; {rule}")
