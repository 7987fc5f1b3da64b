"""What must hold of a pipeline's tables after any kill, audited from disk with Arrow and delta-rs: no Spark.

I1 to I7 are the invariants' names in reports. `Reader` in `reader.py` watches I4 and I6 while the pipeline runs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from jobs.pipeline.commit import Step, transaction
from jobs.pipeline.delta_reader import read_rows
from jobs.pipeline.ledger import Status, read_ledger
from jobs.testing.ids import Entry, Kind, State
from jobs.testing.logs import Checkpoint, LoggedCommit, read_commits


@dataclass(frozen=True, slots=True)
class Tables:
    """Where a pipeline's state lies, and where it shows ids. A job without a ledger is held to I1, I4 and I7 only."""

    target: Path
    quarantine: Path
    checkpoint: Path
    ledger: Path | None
    id_column: str = "id"
    """Of the target."""
    checksum_column: str | None = "checksum"
    """Of the target; None if it keeps no checksums."""
    raw_id: str = '"id": ?"(?P<id>[^"]+)"'
    """Regular expression that finds the id in a raw record of the quarantine, as the group `id`."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken invariant; `ids` are those concerned, where it is about rows."""

    invariant: str
    message: str
    ids: tuple[str, ...] = ()


@dataclass(slots=True)
class Conservation:
    """I1: what became of the ids. All lists are empty if every acknowledged id is in its one right place."""

    acked: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    """On the wrong side of the gate, or dropped on purpose and there all the same."""
    altered: list[str] = field(default_factory=list)
    """In the target with another payload."""
    strange: list[str] = field(default_factory=list)
    """Never sent, or refused by the source, and there all the same."""

    def violations(self) -> list[Violation]:
        """One violation a kind of fault."""
        found = {name: getattr(self, name) for name in ("lost", "doubled", "misplaced", "altered", "strange")}
        return [Violation("I1", f"{len(ids)} ids {name}", tuple(ids)) for name, ids in found.items() if ids]


def audit(tables: Tables, ids: dict[str, Entry]) -> tuple[Conservation, list[Violation]]:
    """Check all invariants of a pipeline that has caught up and stands still; the list is empty if they hold.

    Where log or files are not whole, the rows cannot be counted: the audit ends there.
    """
    for check in (check_versions, check_files):
        if torn := [violation for table in _tables(tables) for violation in check(table)]:
            return Conservation(), torn
    conservation = check_conservation(tables, ids)
    found = conservation.violations()
    if tables.ledger is not None:
        rows = [row for row in read_ledger(str(tables.ledger)) if row["status"] == Status.DONE]
        found += [*check_batches(tables, rows), *check_coverage(tables, rows, ids)]
    return conservation, found


def check_conservation(tables: Tables, ids: dict[str, Entry]) -> Conservation:
    """I1: every acknowledged id exactly once, and on the right side; an unknown one at most once."""
    target, checksums = read_target_ids(tables)
    apart = Counter(read_quarantine_ids(tables))
    result = Conservation()
    for name, entry in ids.items():
        _account(result, name, entry, (target[name], apart[name]))
        if name in checksums and checksums[name] != entry.checksum:
            result.altered.append(name)
    result.strange += [name for name in {**target, **apart} if name not in ids]
    return result


def _account(result: Conservation, name: str, entry: Entry, times: tuple[int, int]) -> None:
    result.acked += entry.state is State.ACKED
    if sum(times) > 1:
        result.doubled.append(name)
    elif sum(times) == 1 and entry.state is State.FAILED:
        result.strange.append(name)
    elif sum(times) == 1 and times != _RIGHT_PLACE[entry.kind]:
        result.misplaced.append(name)
    elif sum(times) == 0 and entry.state is State.ACKED and entry.kind is not Kind.DROP:
        result.lost.append(name)


_RIGHT_PLACE = {Kind.GOOD: (1, 0), Kind.BAD: (0, 1), Kind.POISON: (0, 1), Kind.DROP: (0, 0)}


def read_target_ids(tables: Tables) -> tuple[Counter[str], dict[str, int]]:
    """How often each id stands in the target, and the checksum beside it (empty if it keeps none)."""
    columns = [column for column in (tables.id_column, tables.checksum_column) if column]
    rows = read_rows(str(tables.target), columns)
    names = rows[tables.id_column].to_pylist()
    checksums = rows[tables.checksum_column].to_pylist() if tables.checksum_column else []
    return Counter(names), dict(zip(names, checksums, strict=False))


def read_quarantine_ids(tables: Tables) -> list[str]:
    """Ids in the raw records set apart; a record that shows none is named by its bytes."""
    raw = read_rows(str(tables.quarantine), ["raw"])["raw"]
    found = pc.extract_regex(raw, tables.raw_id).to_pylist()
    return [one["id"].decode() if one else repr(record.as_py()) for one, record in zip(found, raw, strict=True)]


def check_versions(table: Path) -> Iterator[Violation]:
    """I4: versions are contiguous, and each writer's transactions strictly rise."""
    commits = read_commits(table)
    versions = [commit.version for commit in commits]
    if not versions:
        yield Violation("I4", f"{table.name}: there is no table")
    elif versions != list(range(versions[-1] + 1 - len(versions), versions[-1] + 1)):
        yield Violation("I4", f"{table.name}: versions are not contiguous")
    for writer in {writer for commit in commits for writer in commit.transactions}:
        numbers = [commit.transactions[writer] for commit in commits if writer in commit.transactions]
        if numbers != sorted(set(numbers)):
            yield Violation("I4", f"{table.name}: transactions of {writer} do not rise: {numbers}")


def check_files(table: Path) -> Iterator[Violation]:
    """I7: every file that the table refers to is there and holds as many rows as the log says."""
    actions = DeltaTable(str(table)).get_add_actions(flatten=True)
    for path, rows in zip(actions["path"].to_pylist(), actions["num_records"].to_pylist(), strict=True):
        file = _file(table, path)
        held = pq.read_metadata(file).num_rows if file.is_file() else None
        if held != rows:
            yield Violation("I7", f"{table.name}: {path} holds {held} rows, the log says {rows}")


def check_schema(table: Path, changes: int) -> Iterator[Violation]:
    """I2: the columns have changed so often, each time by the commit of a batch, and files have those of their time.

    For a table that nobody else alters.
    """
    created, *later = read_commits(table)
    columns, changed = created.columns or (), 0
    for commit in later:
        changed += commit.columns is not None
        columns = commit.columns or columns
        if commit.columns is not None and not (commit.transactions and commit.files):
            yield Violation("I2", f"{table.name}: version {commit.version} changes the columns and brings no batch")
        for path in commit.files:
            held = pq.read_schema(_file(table, path)).names
            if held != list(columns):
                yield Violation("I2", f"{table.name}: {path} has columns {held}, the table {list(columns)}")
    if changed != changes:
        yield Violation("I2", f"{table.name}: its columns changed {changed} times, {changes} expected")


def _file(table: Path, path: str) -> Path:
    """What the log's own name of a file stands for."""
    return table / unquote(urlparse(path).path)


def check_batches(tables: Tables, rows: list[dict[str, Any]]) -> Iterator[Violation]:
    """I2 and I3: each batch that Spark committed is in the ledger once, and the tables hold it whole."""
    checkpoint = Checkpoint(tables.checkpoint)
    times = Counter(row["batch_id"] for row in rows)
    wrong = [batch for batch in checkpoint.committed if times[batch] != 1]
    if wrong or max(times.values(), default=0) > 1:
        yield Violation("I3", f"batches {wrong[:9]} are not in the ledger exactly once: {times.most_common(3)}")
    for step, table, column in (
        (Step.TARGET, tables.target, "rows_written"),
        (Step.QUARANTINE, tables.quarantine, "rows_quarantined"),
    ):
        held = _rows_by_batch(read_commits(table), transaction(checkpoint.query_id, step, 0).app_id)
        for row in rows:
            batch, want = row["batch_id"], row[column]
            if held.get(batch, 0) != want:
                yield Violation("I2", f"batch {batch}: {held.get(batch, 0)} rows in {table.name}, {want} in the ledger")
        for batch in held.keys() - times.keys():
            yield Violation("I3", f"batch {batch} is in {table.name} and not in the ledger")


def _rows_by_batch(commits: list[LoggedCommit], app_id: str) -> dict[int, int]:
    return {commit.transactions[app_id]: commit.rows for commit in commits if app_id in commit.transactions}


def check_coverage(tables: Tables, rows: list[dict[str, Any]], ids: dict[str, Entry]) -> Iterator[Violation]:
    """I5: the checkpoint's ranges hold each acknowledged place once, without gaps, and add up to the ledger's rows."""
    checkpoint = Checkpoint(tables.checkpoint)
    places = {entry.place for entry in ids.values() if entry.state is State.ACKED}
    if checkpoint.files:
        yield from _check_file_coverage(checkpoint, places)
    else:
        yield from _check_offset_coverage(checkpoint, rows)
    dropped = sum(entry.kind is Kind.DROP and entry.state is State.ACKED for entry in ids.values())
    counted = sum(row["rows_dropped"] for row in rows)
    if counted != dropped:
        yield Violation("I1", f"{dropped} ids were to be dropped, the ledger counts {counted}")


def _check_file_coverage(checkpoint: Checkpoint, places: set[str]) -> Iterator[Violation]:
    for place in places | checkpoint.files.keys():
        if len(checkpoint.files.get(place, [])) != 1:
            yield Violation("I5", f"{place} is in the source log's entries {checkpoint.files.get(place, [])}")


def _check_offset_coverage(checkpoint: Checkpoint, rows: list[dict[str, Any]]) -> Iterator[Violation]:
    read = {row["batch_id"]: row["rows_read"] for row in rows}
    before: Counter[str] = Counter()
    for batch in checkpoint.planned:
        until = Counter(checkpoint.offsets[batch])
        covered = sum(until[partition] - before[partition] for partition in until)
        if covered != read.get(batch) or any(until[partition] < before[partition] for partition in before):
            yield Violation("I5", f"batch {batch} covers {covered} offsets; the ledger says {read.get(batch)} rows")
        before = until


def _tables(tables: Tables) -> list[Path]:
    return [table for table in (tables.target, tables.quarantine, tables.ledger) if table is not None]


def summarize(violations: Iterable[Violation]) -> str:
    """A line a violation, with its first ids."""
    return "\n".join(f"{one.invariant}: {one.message} {' '.join(one.ids[:5])}".rstrip() for one in violations)
