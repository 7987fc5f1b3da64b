"""Durations as conf has them: text such as `10 seconds`, parsed once."""

import re
from datetime import timedelta

LONGEST_WAIT = timedelta(days=365)
_PATTERN = re.compile(r"^\s*(\d+)\s+(millisecond|second|minute|hour|day)s?\s*$")


def check_duration(text: str) -> str:
    """The text itself; ValueError if it is no number and unit."""
    if not _PATTERN.match(text):
        message = f"'{text}' is not a duration; write a number and a unit, such as '10 seconds' or '5 minutes'"
        raise ValueError(message)
    return text


def check_wait(text: str) -> str:
    """The text itself; ValueError if it is no duration, or none that somebody can wait for."""
    check_duration(text)
    try:
        is_possible = timedelta() < as_timedelta(text) <= LONGEST_WAIT
    except OverflowError:
        is_possible = False
    if not is_possible:
        message = f"'{text}' cannot be waited for; allowed: more than nothing, and at most {LONGEST_WAIT.days} days"
        raise ValueError(message)
    return text


def as_timedelta(text: str) -> timedelta:
    """How long a duration is; OverflowError if Python cannot say."""
    number, unit = re.findall(_PATTERN, text)[0]
    return timedelta(**{f"{unit}s": int(number)})
