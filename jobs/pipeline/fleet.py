"""Fleets: pipelines that name the same fleet, found by a look at their files, whatever else is wrong with those."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from jobs.pipeline.yaml_text import YamlError, parse_yaml

_FILES_KEPT = 1024


def find_members(folder: Path, fleet: str) -> dict[str, Any]:
    """Names of a fleet's pipelines, sorted, each with its schedule as it is written."""
    found = {path.stem: _fleet_and_schedule(path) for path in sorted(folder.glob("[!.]*.yml"))}
    return {name: schedule for name, (named, schedule) in found.items() if named == fleet}


def find_fleets(folder: Path) -> list[str]:
    """Names of all fleets, sorted."""
    named = [_fleet_and_schedule(path)[0] for path in folder.glob("[!.]*.yml")]
    return sorted({name for name in named if isinstance(name, str)})


def _fleet_and_schedule(path: Path) -> tuple[Any, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None, None
    return _parse(text) if "fleet" in text else (None, None)


@lru_cache(maxsize=_FILES_KEPT)
def _parse(text: str) -> tuple[Any, Any]:
    """Kept by content: each member of a fleet looks at all others."""
    try:
        data = parse_yaml(text).data
    except YamlError:
        return None, None
    return (data.get("fleet"), data.get("schedule")) if isinstance(data, dict) else (None, None)
