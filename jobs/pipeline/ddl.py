"""A light reading of Spark DDL (`name TYPE, …`): finds typing errors without a JVM; Spark has the last word."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

TYPES = frozenset(
    "boolean byte tinyint short smallint int integer long bigint float real double date timestamp timestamp_ltz "
    "timestamp_ntz time string binary decimal dec numeric array map struct interval variant".split()
)
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`"""
_COMMENT = re.compile(rf"({_QUOTED})|--[^\n]*", re.DOTALL)
_SPACE = re.compile(rf"({_QUOTED})|\s+", re.DOTALL)
_MARK = re.compile(rf"{_QUOTED}|[<(>),'\"`]", re.DOTALL)
_COLUMN = re.compile(r"^\s*(`(?:[^`]|``)+`|[A-Za-z_][A-Za-z0-9_]*)\s*:?\s+([A-Za-z_]+)", re.DOTALL)
_CLOSES = {">": "<", ")": "("}


def strip_comments(text: str) -> str:
    """Text without `-- …` comments, line for line; a `--` inside quotes stays."""
    return _COMMENT.sub(lambda match: match.group(1) or "", text)


def join_lines(text: str) -> str:
    """Text on one line, runs of white space outside quotes as one space."""
    return _SPACE.sub(lambda match: match.group(1) or " ", text).strip()


def check_ddl(text: str) -> list[tuple[int, str]]:
    """Problems of a text without comments as (1-based line, message).

    Empty if quotes and brackets are closed, the columns read well and no name stands twice.
    """
    if not text.strip():
        return [(1, "no columns; write name TYPE, separated by commas")]
    marks = _read_marks(text)
    if marks.fault:
        return [marks.fault]
    return list(_column_problems(_split(text, marks.commas)))


@dataclass(frozen=True, slots=True)
class _Marks:
    """Positions of the commas between columns; what is not closed, as (line, message)."""

    commas: list[int]
    fault: tuple[int, str] | None


def _read_marks(text: str) -> _Marks:
    commas: list[int] = []
    opened: list[re.Match[str]] = []
    for match in _MARK.finditer(text):
        mark = match.group()
        if mark in {"'", '"', "`"}:
            return _Marks([], (_line(text, match), f"{mark} is not closed"))
        if mark == "," and not opened:
            commas.append(match.start())
        elif mark in {"<", "("}:
            opened.append(match)
        elif mark in _CLOSES and (not opened or opened.pop().group() != _CLOSES[mark]):
            return _Marks([], (_line(text, match), f"'{mark}' closes no '{_CLOSES[mark]}'"))
    fault = (_line(text, opened[-1]), f"'{opened[-1].group()}' is not closed") if opened else None
    return _Marks(commas, fault)


def _line(text: str, match: re.Match[str]) -> int:
    return text.count("\n", 0, match.start()) + 1


def _split(text: str, commas: list[int]) -> Iterator[tuple[int, str]]:
    """Parts between the commas, each with the line on which it begins."""
    start = 0
    for comma in [*commas, len(text)]:
        part = text[start:comma]
        leading = len(part) - len(part.lstrip())
        yield text.count("\n", 0, start + leading) + 1, part
        start = comma + 1


def _column_problems(parts: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    seen: set[str] = set()
    for line, part in parts:
        match = _COLUMN.match(part)
        if match is None:
            yield line, f"'{part.strip()}' is not a column; write name TYPE"
            continue
        name = _unquoted(match.group(1)).lower()
        if match.group(2).lower() not in TYPES:
            yield line, f"column {name}: type {match.group(2)} is not known{_hint(match.group(2))}"
        if name in seen:
            yield line, f"column {name} stands twice"
        seen.add(name)


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def _hint(type_: str) -> str:
    if type_.lower() in {"char", "varchar"}:
        return "; write STRING, and limit its length by a check"
    guess = difflib.get_close_matches(type_.lower(), TYPES, n=1)
    return f"; did you mean {guess[0].upper()}" if guess else ""
