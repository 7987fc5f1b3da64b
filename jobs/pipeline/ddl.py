"""A light reading of Spark DDL (`name TYPE, …`): finds typing errors without a JVM; Spark has the last word."""

import difflib
import re

TYPES = frozenset(
    "boolean byte tinyint short smallint int integer long bigint float real double date timestamp timestamp_ltz "
    "timestamp_ntz time string binary decimal dec numeric char varchar array map struct interval variant".split()
)
_COLUMN = re.compile(r"^\s*(`(?:[^`]|``)+`|[A-Za-z_][A-Za-z0-9_]*)\s*:?\s+([A-Za-z_]+)", re.DOTALL)


def check_ddl(text: str) -> list[tuple[int, str]]:
    """Problems as (1-based line, message); empty if the columns read well and no name stands twice."""
    if not text.strip():
        return [(1, "no columns; write name TYPE, separated by commas")]
    problems: list[tuple[int, str]] = []
    seen: set[str] = set()
    for line, part in _split(text):
        match = _COLUMN.match(part)
        if match is None:
            problems.append((line, f"'{part.strip()}' is not a column; write name TYPE"))
            continue
        name, type_ = match.group(1).strip("`").lower(), match.group(2).lower()
        if type_ not in TYPES:
            guess = difflib.get_close_matches(type_, TYPES, n=1)
            hint = f"; did you mean {guess[0].upper()}" if guess else ""
            problems.append((line, f"column {name}: type {match.group(2)} is not known{hint}"))
        if name in seen:
            problems.append((line, f"column {name} stands twice"))
        seen.add(name)
    return problems


def _split(text: str) -> list[tuple[int, str]]:
    """Parts between the commas outside brackets and back quotes, each with the line on which it begins."""
    parts, depth, quoted, start = [], 0, False, 0
    for position, character in enumerate(text + ","):
        if character == "`":
            quoted = not quoted
        elif not quoted and character in "<(":
            depth += 1
        elif not quoted and character in ">)":
            depth -= 1
        elif character == "," and not quoted and depth == 0:
            part = text[start:position]
            leading = len(part) - len(part.lstrip())
            parts.append((text.count("\n", 0, start + leading) + 1, part))
            start = position + 1
    return parts
