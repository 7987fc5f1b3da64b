"""The console that people read: long lines stay whole, and a pipe is as wide as a good terminal."""

import sys

from rich.console import Console

PIPE_COLUMNS = 160


def open_console() -> Console:
    """A console on standard output."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
