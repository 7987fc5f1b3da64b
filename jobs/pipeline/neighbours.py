"""Pipelines beside each other: tables of one that lie in a table of another. No Spark, no I/O."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from jobs.pipeline.model import Pipeline
from jobs.pipeline.path_text import folders_of
from jobs.pipeline.yaml_text import KeyPath

Place = tuple[str, KeyPath]
"""A pipeline's file, and the path of a key in it."""
_Folders = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Table:
    pipeline: str
    kind: str
    path: str
    folders: _Folders
    place: Place
    """What in conf says where it lies: for a quarantine by default the target's path."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.path})"


def find_overlaps(pipelines: list[Pipeline]) -> Iterator[tuple[Place, str]]:
    """Tables that lie in a table of another pipeline, and targets that are another's quarantine; a message for each.

    Pipelines may share a target, and a quarantine.
    """
    tables = [table for pipeline in pipelines for table in _tables_of(pipeline)]
    by_folders: dict[_Folders, list[_Table]] = defaultdict(list)
    for table in tables:
        by_folders[table.folders].append(table)
    told: set[Place] = set()
    for table in tables:
        others = [other for other in _around(table, by_folders) if _exclude_each_other(table, other)]
        if others and table.place not in told:
            told.add(table.place)
            says = f"the {table} overlaps the {others[0]} of {others[0].pipeline}"
            yield table.place, f"{says}: a table's folder is that table's alone"


def _tables_of(pipeline: Pipeline) -> Iterator[_Table]:
    sink = pipeline.spec.sink
    for kind, path, key in (
        ("target", sink.path, "path"),
        ("quarantine", pipeline.quarantine_path, "quarantine_path" if sink.quarantine_path else "path"),
    ):
        yield _Table(pipeline.name, kind, path, tuple(folders_of(path)), (pipeline.file, ("sink", key)))


def _around(table: _Table, by_folders: dict[_Folders, list[_Table]]) -> Iterator[_Table]:
    """Tables in the same folder, and in those that it lies in."""
    for depth in range(1, len(table.folders) + 1):
        yield from by_folders.get(table.folders[:depth], ())


def _exclude_each_other(inner: _Table, outer: _Table) -> bool:
    if inner.pipeline == outer.pipeline:
        return False
    return inner.folders != outer.folders or (inner.kind, outer.kind) == ("target", "quarantine")
