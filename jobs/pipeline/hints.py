"""A misspelt word -> the word that was probably meant."""

import difflib
from collections.abc import Iterable


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'word'`, to put behind a message; empty where no allowed word is close."""
    guess = difflib.get_close_matches(given, list(allowed), n=1)
    return f"; did you mean '{guess[0]}'" if guess else ""
