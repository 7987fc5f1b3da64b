"""Paths as text; no store is asked."""

import re
from posixpath import normpath

GLOB_SIGNS = frozenset("*?[]{}\\")
"""Any of them makes a path a pattern to Hadoop."""

LOCAL_SCHEMES = frozenset({"", "file"})
"""Of paths on the local, or a mounted, file system."""
_SCHEME = re.compile(r"([^/:]+):(?://[^/]*)?")
_UNTAKABLE = re.compile(r"[\[\]|^\\\x00-\x1f\x7f]|%[0-9A-Fa-f]{2}")
_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:/")


def check_absolute(path: str) -> str:
    """The path itself; ValueError if it would lie wherever a process happens to be started.

    Where a variable was not resolved, that is said elsewhere.
    """
    if not _ABSOLUTE.match(path) and "${" not in path:
        message = f"'{path}' is relative, and would be another place for each working directory; write ${{root}}/{path}"
        raise ValueError(message)
    return path


def split_scheme(path: str) -> tuple[str, str]:
    """Scheme, empty for a path without one, and the path behind it and its host, cut as Hadoop does.

    To Hadoop a path is no URL: `?`, `#` and `%20` are signs of a name.
    """
    found = _SCHEME.match(path)
    return (found[1], path[found.end() :]) if found else ("", path)


def untakable(path: str) -> str | None:
    """What delta-rs does not take in the path of a local table; None if there is nothing, or the path is not local."""
    scheme, rest = split_scheme(path)
    found = _UNTAKABLE.search(rest) if scheme in LOCAL_SCHEMES else None
    return found[0] if found else None


def folders_of(path: str) -> list[str]:
    """The parts of a path, from the top; `file:` and doubled slashes say nothing."""
    return normpath(path.removeprefix("file:")).split("/")
