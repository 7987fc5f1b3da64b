"""What conf/spark-defaults.conf says to Spark, read without Spark; the JVM jars that Esclusa needs."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGES = (
    "io.delta:delta-spark_4.2_2.13:4.4.0",
    "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
)
"""Maven coordinates of the JVM jars; `conf/spark-defaults.conf` names the same."""

_PROPERTY_SPACE = " \t\f"
_PROPERTY = re.compile(r"(?P<key>(?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(?P<value>.*)")
_PROPERTY_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_ENDS_IN_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\$")


def read_properties(path: Path) -> dict[str, str]:
    r"""A spark-defaults.conf, read as spark-submit does: by java.util.Properties, values trimmed; empty without it.

    Key and value stand apart by white space, `=` or `:`; # and ! begin comments; \ escapes, and joins lines.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    pairs = [_PROPERTY.fullmatch(line) for line in _property_lines(text)]
    return {_unescape(pair["key"]): _unescape(pair["value"]).strip() for pair in pairs if pair}


def further_packages(options: Mapping[str, str]) -> str:
    """Coordinates under spark.jars.packages that are none of PACKAGES, in whatever version."""
    ours = {_artifact(package) for package in PACKAGES}
    named = (package.strip() for package in options.get("spark.jars.packages", "").split(","))
    return ",".join(package for package in named if package and _artifact(package) not in ours)


def _artifact(package: str) -> str:
    return package.rpartition(":")[0]


def _property_lines(text: str) -> Iterator[str]:
    lines = iter(text.split("\n"))
    for first in lines:
        line = first.lstrip(_PROPERTY_SPACE)
        if line.startswith(("#", "!")):
            continue
        while _ENDS_IN_ESCAPE.search(line):
            line = line[:-1] + next(lines, "").lstrip(_PROPERTY_SPACE)
        if line:
            yield line


def _unescape(text: str) -> str:
    return _PROPERTY_ESCAPE.sub(lambda match: _escaped(match.group(1)), text)


def _escaped(sign: str) -> str:
    return chr(int(sign[1:], 16)) if len(sign) > 1 else {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}.get(sign, sign)
