"""What a pipeline or a target may not say though each of its keys is right: one function a rule, no Spark.

Each yields faults: the path of keys in the document, and what is wrong there.
"""

import ast
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from jobs.pipeline.durations import as_timedelta, span
from jobs.pipeline.fleet import find_members
from jobs.pipeline.hints import did_you_mean
from jobs.pipeline.model import PipelineSpec, PythonTransform, TargetSpec
from jobs.pipeline.option_values import value_fault
from jobs.pipeline.path_text import folders_of, untakable
from jobs.pipeline.required_options import required_fault
from jobs.pipeline.secret_text import REFERENCE
from jobs.pipeline.source_model import LOSS_SWITCHES, FilesSource
from jobs.pipeline.table_model import TRANSACTION_MEMORY
from jobs.pipeline.yaml_text import KeyPath, YamlError, parse_yaml

REFUSED_SPARK_OPTIONS = {
    "spark.sql.files.ignorecorruptfiles": "it skips files that cannot be read, and their rows; remove it",
    "spark.sql.files.ignoremissingfiles": "it skips files that vanished, and their rows; remove it",
    "spark.databricks.delta.properties.defaults.settransactionretentionduration": TRANSACTION_MEMORY,
}
"""Spark options that a target may not set, in lower case, and why."""

Fault = tuple[KeyPath, str]
_HELD_BACK = frozenset({"minOffsetsPerTrigger", "maxTriggerDelay"})
_PROPERTY_DURATION = re.compile(r"\s*(?:interval\s+)?(\d+)\s+(hour|day|week)s?\s*", re.IGNORECASE)


def spark_faults(target: TargetSpec) -> Iterator[Fault]:
    """Options of Spark that would lose, double or change rows."""
    for key, value in target.spark.items():
        why = REFUSED_SPARK_OPTIONS.get(key.lower())
        if why:
            yield ("spark", key), why
        elif fault := required_fault(key, value):
            yield ("spark", key), f"{fault}; remove it"


def option_faults(spec: PipelineSpec) -> Iterator[Fault]:
    """Options that the source does not take, or that lose rows; secrets where nothing reveals them."""
    allowed = spec.source.allowed_options
    for key, value in spec.source.options.items():
        path = ("source", "options", key)
        if key in LOSS_SWITCHES and not (key == "failOnDataLoss" and value.lower() == "true"):
            yield path, f"not allowed: {LOSS_SWITCHES[key]}"
        elif key not in allowed:
            message = f"not an option of this source{did_you_mean(key, allowed)}; allowed: {', '.join(sorted(allowed))}"
            yield path, message
        elif isinstance(spec.source, FilesSource) and REFERENCE.search(value):
            yield path, f"{value}: only a kafka source takes secrets; Spark would read this as it is written"
        elif fault := value_fault(key, value):
            yield path, fault
    if {"maxFilesPerTrigger", "maxBytesPerTrigger"} <= set(spec.source.options):
        yield ("source", "options"), "maxFilesPerTrigger and maxBytesPerTrigger exclude each other"
    for key in _HELD_BACK & set(spec.source.options) if spec.trigger.available_now else ():
        message = "holds records back for a batch to come, and with available_now none comes in this run; remove it"
        yield ("source", "options", key), message


def archive_faults(spec: PipelineSpec) -> Iterator[Fault]:
    """Files that are to be archived once they are read, and no folder of their own to move them to."""
    source, sink = spec.source, spec.sink
    if not isinstance(source, FilesSource) or source.options.get("cleanSource", "").lower() != "archive":
        return
    key, folder = ("source", "options", "sourceArchiveDir"), source.options.get("sourceArchiveDir")
    if not folder:
        yield key, "missing; cleanSource: archive moves files that are read into this directory"
        return
    moved_to = f"{folder.rstrip('/')}/{'/'.join(folders_of(source.path))}"  # Spark keeps the path of a file below it
    for where, name, path in (
        (folder, "source.path", source.path),
        (moved_to, "sink.path", sink.path),
        (moved_to, "the quarantine", sink.quarantine),
    ):
        if _overlap(where, path):
            yield key, f"overlaps {name} ({path}): files that are read need a folder of their own"


def maintenance_faults(spec: PipelineSpec, target: TargetSpec | None) -> Iterator[Fault]:
    """A policy, the pipeline's own or the target's, that takes what the table's properties promise its readers."""
    policy = spec.maintenance or (target.maintenance if target else None)
    promised = {key.lower(): value for key, value in spec.sink.table_properties.items()}
    for key, duration in (("deletedFile", policy.vacuum), ("log", policy.log)) if policy else ():
        name = f"delta.{key}RetentionDuration"
        match = _PROPERTY_DURATION.fullmatch(promised.get(name.lower(), ""))
        if match and span(int(match[1]), match[2].lower()) > as_timedelta(duration):
            path = ("maintenance",) if spec.maintenance else ("sink", "table_properties")
            message = f"{duration} is less than the table promises its readers: {name} = {match[0]}"
            yield path, message if spec.maintenance else f"the target's maintenance: {message}"


def state_faults(target: TargetSpec) -> Iterator[Fault]:
    """A directory in which the ledger could not lie."""
    yield from _name_faults(("state",), target.state)


def location_faults(spec: PipelineSpec, state: str | None) -> Iterator[Fault]:
    """Tables that lie in each other, in what the source reads or in the target's state, or that hold one of these; and
    where they cannot lie.
    """
    sink = spec.sink
    yield from _name_faults(("sink", "path"), sink.path)
    yield from _name_faults(("sink", "quarantine_path"), sink.quarantine_path or "")
    if sink.quarantine_path and _overlap(sink.quarantine_path, sink.path):
        yield ("sink", "quarantine_path"), f"overlaps sink.path ({sink.path}): a table's folder is that table's alone"
    for key, path in (("path", sink.path), ("quarantine_path", sink.quarantine_path)):
        if path and isinstance(spec.source, FilesSource) and _overlap(path, spec.source.path):
            yield ("sink", key), f"overlaps source.path ({spec.source.path}): the pipeline would read what it writes"
        folder = next((one for one in _folders_of_state(state) if path and _overlap(path, one)), None)
        if folder:
            yield ("sink", key), f"overlaps the target's state ({folder}): each needs a folder that the other is not in"


def function_faults(spec: PipelineSpec, root: Path) -> Iterator[Fault]:
    """Transforms in Python that are not to be found; they are parsed, not imported."""
    for index, transform in enumerate(spec.transforms):
        if isinstance(transform, PythonTransform):
            message = _missing_function_message(transform.python, root)
            if message:
                yield ("transforms", index, "python"), message


def upstream_faults(spec: PipelineSpec, name: str, folder: Path) -> Iterator[Fault]:
    """Pipelines under `after` that are not in the folder, or that come after this one."""
    known = names_in(folder, ".yml") if spec.upstream else []
    for index, upstream in enumerate(spec.upstream):
        path = ("schedule", "after", index)
        if upstream not in known:
            yield path, f"no pipeline '{upstream}'{did_you_mean(upstream, known)}; there are: {', '.join(known)}"
        elif cycle := _way_back(folder, name, upstream):
            yield path, f"the pipeline would wait for itself: {' after '.join(cycle)}"


def fleet_faults(spec: PipelineSpec, written: dict[str, Any], folder: Path) -> Iterator[Fault]:
    """A fleet's name that is not written out, or a schedule that differs from that of the fleet's first member.

    `written` is the pipeline's file as it stands there: by that its members are found, for any target.
    """
    if spec.fleet != written.get("fleet"):
        yield ("fleet",), f"{written['fleet']}: a fleet's name holds no variables; write out '{spec.fleet}'"
    elif spec.fleet:
        own = written.get("schedule")
        first, schedule = next(iter(find_members(folder, spec.fleet).items()), (None, own))
        if schedule != own:
            says = f"{first}.yml says {schedule!r}, this one {own!r}"
            yield ("schedule",), f"the fleet '{spec.fleet}' has one schedule: {says}"


def names_in(folder: Path, suffix: str) -> list[str]:
    """What the folder's files with this ending are named, sorted; none if there is no such folder.

    Hidden files are what editors and copies leave beside conf.
    """
    return sorted(path.stem for path in folder.glob(f"[!.]*{suffix}"))


def missing_message(path: Path) -> str:
    """Says that a file is not there, and which of its kind are."""
    names = names_in(path.parent, path.suffix)
    return f"there is no {path}{did_you_mean(path.stem, names)}; there are: {', '.join(names) or 'none'}"


def _name_faults(key: KeyPath, path: str) -> Iterator[Fault]:
    sign = untakable(path)
    if sign:
        message = "delta-rs, which opens local tables, takes no [ ] | ^ \\ in a path, no control characters, and no % "
        yield key, f"{path} has {sign!r}: {message}before two hexadecimal digits; give the directory another name"


def _overlap(one: str, other: str) -> bool:
    """Whether one path is the other, or lies in it; globs are compared as they are written."""
    return all(mine == theirs for mine, theirs in zip(folders_of(one), folders_of(other), strict=False))


def _folders_of_state(state: str | None) -> list[str]:
    return [f"{state.rstrip('/')}/{name}" for name in ("checkpoints", "ledger", "leases", "fleets")] if state else []


def _way_back(folder: Path, start: str, upstream: str) -> list[str]:
    """The shortest chain of `after` from a pipeline through one upstream of it back to itself; empty if none."""
    chains, seen = [[start, upstream]], {upstream}
    for chain in chains:
        if chain[-1] == start:
            return chain
        following = [name for name in _named_after(folder / f"{chain[-1]}.yml") if name not in seen]
        seen.update(following)
        chains += [[*chain, name] for name in following]
    return []


def _named_after(path: Path) -> list[str]:
    """What a pipeline file says under `after`, whatever else is wrong with it: its own load reports that."""
    try:
        data = parse_yaml(path.read_text(encoding="utf-8")).data
    except (OSError, UnicodeDecodeError, YamlError):
        return []
    schedule = data.get("schedule") if isinstance(data, dict) else None
    names = schedule.get("after") if isinstance(schedule, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _missing_function_message(name: str, root: Path) -> str | None:
    module, _, function = name.rpartition(".")
    own = root / "jobs" / "transforms" / f"{module}.py"
    shipped = files("jobs.transforms").joinpath(f"{module}.py")  # in a wheel this is no file of the file system
    path = next((path for path in (own, shipped) if path.is_file()), None)
    if path is None:
        return f"there is no {own}"
    try:
        functions = _functions_in(path)
    except SyntaxError as error:
        return f"{path}:{error.lineno} is not valid Python: {error.msg}"
    except (OSError, ValueError, RecursionError) as error:
        return f"{path} cannot be read: {error}"
    if function in functions:
        return None
    hint = did_you_mean(function, functions)
    return f"{path} has no function '{function}'{hint}; it has: {', '.join(functions) or 'none'}"


def _functions_in(path: Traversable) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
