"""Durations as conf has them: text such as `10 seconds`, parsed once."""

import re
from datetime import timedelta

LONGEST = timedelta(days=365_000)
"""So far back there is a date; what is to last longer is to last for ever."""
LONGEST_WAIT = timedelta(days=365)
_PATTERN = re.compile(r"^\s*(\d+)\s+(millisecond|second|minute|hour|day)s?\s*$")


def check_duration(text: str) -> str:
    """The text itself; ValueError if it is no number and unit, or longer than a thousand years."""
    _check_form(text)
    if as_timedelta(text) > LONGEST:
        message = f"'{text}' is too long; allowed: at most {LONGEST.days} days"
        raise ValueError(message)
    return text


def check_wait(text: str) -> str:
    """The text itself; ValueError if it is no duration, or none that somebody can wait for."""
    _check_form(text)
    if not timedelta() < as_timedelta(text) <= LONGEST_WAIT:
        message = f"'{text}' cannot be waited for; allowed: more than nothing, and at most {LONGEST_WAIT.days} days"
        raise ValueError(message)
    return text


def as_timedelta(text: str) -> timedelta:
    """How long a duration is."""
    number, unit = re.findall(_PATTERN, text)[0]
    return span(int(number), unit)


def span(number: int, unit: str) -> timedelta:
    """So many of a unit, such as `day`; timedelta.max in place of what Python cannot count."""
    try:
        return timedelta(**{f"{unit}s": number})
    except OverflowError:
        return timedelta.max


def _check_form(text: str) -> None:
    if not _PATTERN.match(text):
        message = f"'{text}' is not a duration; write a number and a unit, such as '10 seconds' or '5 minutes'"
        raise ValueError(message)
