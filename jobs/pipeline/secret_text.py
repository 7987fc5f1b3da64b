"""`${secret:NAME}` -> its value, as late as possible: only what opens a source or sink calls this."""

import os
import re
from pathlib import Path

from jobs.pipeline.errors import UnavailableError

REFERENCE = re.compile(r"\$\{secret:([A-Za-z_][A-Za-z0-9_]*)\}")


def reveal(text: str) -> str:
    """Text with each reference replaced; UnavailableError names a secret that is nowhere.

    Its value is the environment variable, or else the file of that name in $ESCLUSA_SECRETS_DIR, last line break cut.
    """
    return REFERENCE.sub(lambda match: _lookup(match.group(1)), text)


def reveal_quoted(text: str) -> str:
    """The same for text whose words stand in double quotes, as in JAAS: in a value a backslash escapes it and them."""
    return REFERENCE.sub(lambda match: re.sub(r'(["\\])', r"\\\1", _lookup(match.group(1))), text)


def _lookup(name: str) -> str:
    if name in os.environ:
        return os.environ[name]
    folder = os.environ.get("ESCLUSA_SECRETS_DIR")
    if folder and (Path(folder) / name).is_file():
        return (Path(folder) / name).read_text(encoding="utf-8").removesuffix("\n")
    message = f"secret {name} is not set: export it, or put it into a file of that name in $ESCLUSA_SECRETS_DIR"
    raise UnavailableError(message)
