"""strptime formats as regular expressions: `datetime.strptime` accepts a text exactly when they match.

But for a day that its month does not have, and a second of 60 or 61: they match, and are for the caller to refuse.

Source of the rules: CPython's `_strptime.TimeRE`. Locale names are English, digits ASCII.
"""

import re
from dataclasses import dataclass

_MONTHS = "january february march april may june july august september october november december".split()
_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()


def _any_of(words: list[str]) -> str:
    return "(?:" + "|".join(sorted(words, key=len, reverse=True)) + ")"


DIRECTIVES = {
    "Y": r"(\d\d\d\d)",
    "m": r"(1[0-2]|0[1-9]|[1-9])",
    "d": r"(3[0-1]|[1-2]\d|0[1-9]|[1-9]| [1-9])",
    "H": r"(?:2[0-3]|[0-1]\d|\d)",
    "I": r"(?:1[0-2]|0[1-9]|[1-9])",
    "M": r"(?:[0-5]\d|\d)",
    "S": r"(6[0-1]|[0-5]\d|\d)",
    "f": r"(?:[0-9]{1,6})",
    "p": r"(?:am|pm)",
    "b": _any_of([month[:3] for month in _MONTHS]),
    "B": _any_of(_MONTHS),
    "a": _any_of([day[:3] for day in _DAYS]),
    "A": _any_of(_DAYS),
    "%": "%",
}
_GROUPS = {"Y": "year", "m": "month", "d": "day", "S": "second"}
_WHITESPACE = r"[\s\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
"""What Python takes for whitespace, of which Java's \\s is the ASCII part."""
_SPECIAL = frozenset(".^$*+?(){}[]|\\/-&~#")


class UnsupportedFormatError(ValueError):
    """The format has a directive that is not compiled, or one that strptime itself refuses."""


@dataclass(frozen=True, slots=True)
class CompiledFormat:
    """Java regex for the whole text; `groups` maps year, month, day, second to their 1-based group."""

    regex: str
    groups: dict[str, int]


def compile_format(text: str) -> CompiledFormat:
    """Compile a strptime format; raises UnsupportedFormatError naming the directive."""
    tokens = _tokens(" ".join(re.split(r"\s+", text)))
    directives = [directive for directive, _ in tokens if directive is not None and directive != "%"]
    _refuse_repeated(directives)
    _refuse_month_name_with_day(directives)
    parts = [_quote(literal) if directive is None else DIRECTIVES[directive] for directive, literal in tokens]
    groups = [_GROUPS[directive] for directive in directives if directive in _GROUPS]
    return CompiledFormat(rf"(?i)\A{''.join(parts)}\z", {name: index for index, name in enumerate(groups, 1)})


def _tokens(text: str) -> list[tuple[str | None, str]]:
    tokens: list[tuple[str | None, str]] = []
    characters = iter(text)
    for character in characters:
        if character != "%":
            tokens.append((None, character))
            continue
        directive = next(characters, "")
        if directive not in DIRECTIVES:
            message = f"directive '%{directive}' is not supported; supported: {' '.join('%' + d for d in DIRECTIVES)}"
            raise UnsupportedFormatError(message)
        tokens.append((directive, ""))
    return tokens


def _quote(character: str) -> str:
    if character.isspace():
        return _WHITESPACE
    return "\\" + character if character in _SPECIAL else character


def _refuse_repeated(directives: list[str]) -> None:
    for directive in directives:
        if directives.count(directive) > 1:
            message = f"directive '%{directive}' stands twice"
            raise UnsupportedFormatError(message)


def _refuse_month_name_with_day(directives: list[str]) -> None:
    """Whether day 31 exists depends on the month, which is compared as a number."""
    if "d" in directives and "m" not in directives and ("b" in directives or "B" in directives):
        message = "a month name (%b, %B) together with %d is not supported; use %m"
        raise UnsupportedFormatError(message)
