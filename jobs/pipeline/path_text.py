"""Paths as text; no store is asked."""

from posixpath import normpath

GLOB_SIGNS = frozenset("*?[]{}\\")
"""Any of them makes a path a pattern to Hadoop."""


def folders_of(path: str) -> list[str]:
    """The parts of a path, from the top; `file:` and doubled slashes say nothing."""
    return normpath(path.removeprefix("file:")).split("/")
