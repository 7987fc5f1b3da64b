"""Paths as text; no store is asked."""

import re
from posixpath import normpath

GLOB_SIGNS = frozenset("*?[]{}\\")
"""Any of them makes a path a pattern to Hadoop."""


_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:/")


def check_absolute(path: str) -> str:
    """The path itself; ValueError if it would lie wherever a process happens to be started.

    Where a variable was not resolved, that is said elsewhere.
    """
    if not _ABSOLUTE.match(path) and "${" not in path:
        message = f"'{path}' is relative, and would be another place for each working directory; write ${{root}}/{path}"
        raise ValueError(message)
    return path


def folders_of(path: str) -> list[str]:
    """The parts of a path, from the top; `file:` and doubled slashes say nothing."""
    return normpath(path.removeprefix("file:")).split("/")
