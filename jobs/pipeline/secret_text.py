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
    """The same for text with words in double quotes, as JAAS has them: in these a backslash escapes it and them."""

    def value(match: re.Match[str]) -> str:
        is_quoted = text[: match.start()].count('"') % 2 == 1
        found = _lookup(match.group(1))
        return re.sub(r'(["\\])', r"\\\1", found) if is_quoted else found

    return REFERENCE.sub(value, text)


def _lookup(name: str) -> str:
    if name in os.environ:
        return os.environ[name]
    folder = os.environ.get("ESCLUSA_SECRETS_DIR")
    if folder and (Path(folder) / name).is_file():
        return (Path(folder) / name).read_text(encoding="utf-8").removesuffix("\n")
    message = f"secret {name} is not set: export it, or put it into a file of that name in $ESCLUSA_SECRETS_DIR"
    raise UnavailableError(message)
