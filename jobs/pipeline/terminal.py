"""What people read: long lines stay whole, a pipe is as wide as a good terminal, and data cannot play with either."""

import sys

from rich.console import Console

PIPE_COLUMNS = 160


def open_console() -> Console:
    """A console on standard output."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def printable(text: str) -> str:
    """Text that cannot move the cursor, or turn the direction of what stands beside it."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
