import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, Field, Transaction, write_deltalake
from deltalake.schema import PrimitiveType

from jobs.pipeline import ledger, quarantine
from jobs.testing.checker import Tables, audit, check_conservation, check_schema
from jobs.testing.ids import Entry, Kind, State
from jobs.testing.logs import Checkpoint
from jobs.testing.reader import Reader

QUERY = "q"
WIDE = pa.table({"id": ["s-5"], "checksum": [1], "extra": [2]})
THIRD = CommitProperties(app_transactions=[Transaction(f"{QUERY}:target", 2)])
IDS = {
    "s-0": Entry(Kind.GOOD, 10, State.ACKED, "a.json"),
    "s-1": Entry(Kind.BAD, 11, State.ACKED, "a.json"),
    "s-2": Entry(Kind.DROP, 12, State.ACKED, "a.json"),
    "s-3": Entry(Kind.GOOD, 13, State.ACKED, "b.json"),
    "s-4": Entry(Kind.POISON, 14, State.ACKED, "b.json"),
}


class Remains:
    """Two batches, whole, of one file each: what a good pipeline leaves behind."""

    def __init__(self, folder):
        self.tables = Tables(folder / "t", folder / "q", folder / "c", folder / "l")
        self.checkpoint()
        for table, schema in ((self.tables.quarantine, quarantine.SCHEMA), (self.tables.ledger, ledger.SCHEMA)):
            write_deltalake(str(table), schema.empty_table())
        self.batch(0, {"s-0": 10}, ["s-1"], 1)
        self.batch(1, {"s-3": 13}, ["s-4"], 0)

    def checkpoint(self):
        files = {"metadata": {"id": QUERY}, "commits/0": {}, "commits/1": {}}
        lines = {f"offsets/{n}": ["v1", "{}", json.dumps({"logOffset": n})] for n in (0, 1)}
        lines |= {name: [json.dumps(value)] for name, value in files.items()}
        for number, name in enumerate(("a.json", "b.json")):
            entry = {"path": f"file:///landing/{name}", "batchId": number}
            lines[f"sources/0/{number}"] = ["v1", json.dumps(entry)]
        for name, text in lines.items():
            file = self.tables.checkpoint / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(text))

    def batch(self, number, good, bad, dropped):
        self.write_target(number, good)
        self.write_quarantine(number, bad)
        self.write_ledger(number, len(good), len(bad), dropped)

    def write_target(self, number, good):
        rows = pa.table({"id": list(good), "checksum": list(good.values())})
        self._append(self.tables.target, rows, "target", number)

    def write_quarantine(self, number, bad):
        raw = [b'{"id": "%s"' % name.encode() for name in bad]
        self._append(self.tables.quarantine, pa.Table.from_pylist([{"raw": one} for one in raw], quarantine.SCHEMA), "quarantine", number)  # fmt: skip

    def write_ledger(self, number, written, quarantined, dropped):
        row = {"batch_id": number, "status": "done", "started_at": number, "rows_written": written}
        row |= {"rows_quarantined": quarantined, "rows_dropped": dropped}
        self._append(self.tables.ledger, pa.Table.from_pylist([row], ledger.SCHEMA), "ledger", number)

    def _append(self, table, rows, step, number):
        properties = CommitProperties(app_transactions=[Transaction(f"{QUERY}:{step}", number)])
        write_deltalake(str(table), rows, mode="append", commit_properties=properties)

    def broken(self):
        return {violation.invariant for violation in audit(self.tables, IDS)[1]}


@pytest.fixture
def state(tmp_path):
    return Remains(tmp_path)


def test_a_pipeline_that_kept_its_promise_breaks_nothing(state):
    conservation, violations = audit(state.tables, IDS)
    assert (conservation.acked, violations) == (5, [])


@pytest.mark.fault("I1")
@pytest.mark.parametrize(
    ("kind", "ids", "good", "bad"),
    [
        ("lost", {"s-9": Entry(Kind.GOOD, 1, State.ACKED)}, {}, []),
        ("doubled", {}, {"s-0": 10}, []),
        ("doubled", {}, {"s-1": 11}, []),
        ("doubled", {}, {}, ["s-4"]),
        ("misplaced", {"s-9": Entry(Kind.BAD, 1, State.ACKED)}, {"s-9": 1}, []),
        ("misplaced", {"s-9": Entry(Kind.GOOD, 1, State.ACKED)}, {}, ["s-9"]),
        ("misplaced", {"s-9": Entry(Kind.DROP, 1, State.ACKED)}, {"s-9": 1}, []),
        ("altered", {"s-9": Entry(Kind.GOOD, 1, State.ACKED)}, {"s-9": 2}, []),
        ("strange", {"s-9": Entry(Kind.GOOD, 1, State.FAILED)}, {"s-9": 1}, []),
        ("strange", {}, {"s-9": 1}, []),
        ("strange", {}, {}, ["s-9"]),
        (None, {"s-9": Entry(Kind.GOOD, 1)}, {}, []),
        (None, {"s-9": Entry(Kind.GOOD, 1)}, {"s-9": 1}, []),
        (None, {"s-9": Entry(Kind.GOOD, 1, State.FAILED)}, {}, []),
    ],
)
def test_i1_every_id_has_its_one_place(state, kind, ids, good, bad):
    if good:
        state.write_target(2, good)
    if bad:
        state.write_quarantine(2, bad)
    found = check_conservation(state.tables, IDS | ids)
    names = {name for name in ("lost", "doubled", "misplaced", "altered", "strange") if getattr(found, name)}
    assert names == ({kind} if kind else set())


@pytest.mark.fault("I2")
def test_i2_a_batch_is_whole(state):
    state.batch(2, {"s-5": 1}, [], 0)
    state.write_ledger(3, 1, 0, 0)
    assert "I2" in state.broken()


@pytest.fixture
def widened(state):
    """A third batch that brings a column."""
    write_deltalake(str(state.tables.target), WIDE, mode="append", schema_mode="merge", commit_properties=THIRD)
    return state.tables.target


def test_columns_that_come_with_a_batch_are_in_order(widened):
    assert list(check_schema(widened, 1)) == []


@pytest.mark.fault("I2", "K15")
def test_i2_columns_that_come_too_often_or_not_at_all_are_reported(state, widened):
    assert [one.message for one in check_schema(widened, 2)] == ["t: its columns changed 1 times, 2 expected"]
    assert next(one.message for one in check_schema(state.tables.quarantine, 1)).startswith("q: its columns changed 0")


@pytest.mark.fault("I2", "K15")
def test_i2_columns_that_come_without_rows_and_rows_without_the_columns_are_reported(widened):
    DeltaTable(str(widened)).alter.add_columns([Field("alone", PrimitiveType("string"))])
    newest = next(path for path in widened.glob("*.parquet") if "extra" in pq.read_schema(path).names)
    pq.write_table(pq.read_table(newest).drop_columns("extra"), newest)
    found = [one.message for one in check_schema(widened, 2)]
    assert len(found) == 2
    assert "has columns ['id', 'checksum'], the table ['id', 'checksum', 'extra']" in found[0]
    assert found[1] == "t: version 3 changes the columns and brings no batch"


@pytest.mark.fault("I3")
@pytest.mark.parametrize("write", ["write_target", "write_quarantine"])
def test_i3_a_table_is_not_ahead_of_the_ledger_at_rest(state, write):
    getattr(state, write)(2, {})
    assert "I3" in state.broken()


@pytest.mark.fault("I3")
def test_i3_a_batch_that_spark_committed_is_in_the_ledger_once(state):
    (state.tables.checkpoint / "commits" / "2").touch()
    assert "I3" in state.broken()


@pytest.mark.fault("I4")
def test_i4_versions_are_contiguous(state):
    log = state.tables.ledger / "_delta_log"
    (log / f"{1:020}.json").rename(log / f"{7:020}.json")
    assert state.broken() == {"I4"}


@pytest.mark.fault("I4")
def test_i4_a_table_that_is_not_there_is_reported(state):
    shutil.rmtree(state.tables.ledger)
    assert state.broken() == {"I4"}


@pytest.mark.fault("I5")
def test_i5_a_file_is_taken_once(state):
    (state.tables.checkpoint / "sources/0/1").write_text('v1\n{"path": "file:///landing/a.json", "batchId": 1}')
    assert "I5" in state.broken()


@pytest.mark.fault("I7")
def test_i7_a_file_that_the_table_refers_to_is_there(state):
    next(state.tables.quarantine.glob("*.parquet")).unlink()
    assert state.broken() == {"I7"}


def test_an_id_belongs_to_the_batch_that_took_its_place(state):
    checkpoint = Checkpoint(state.tables.checkpoint)
    assert [checkpoint.batch_of(place) for place in ("a.json", "b.json", "c.json")] == [0, 1, None]
    assert checkpoint.count_finished() == 2


def test_offsets_of_kafka_are_counted_by_partition(tmp_path):
    for name in ("offsets", "commits"):
        (tmp_path / name).mkdir()
    for batch, offsets in enumerate(({"t": {"0": 2, "1": 1}}, {"t": {"0": 3, "1": 1}})):
        (tmp_path / "offsets" / str(batch)).write_text(f"v1\n{{}}\n{json.dumps(offsets)}")
        (tmp_path / "commits" / str(batch)).touch()
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.count_finished() == 4
    assert [checkpoint.batch_of(f"t/{place}") for place in ("0/1", "0/2", "1/0", "1/1")] == [0, 1, 0, None]


@pytest.mark.fault("I6")
def test_i6_a_reader_reports_an_id_that_it_sees_twice_and_rows_that_vanish(state):
    reader = Reader(state.tables.target)
    reader.poll()
    state.write_target(2, {"s-5": 1})
    reader.poll()
    assert reader.violations == []
    state.write_target(3, {"s-0": 10})
    reader.poll()
    write_deltalake(str(state.tables.target), pa.table({"id": ["s-0"], "checksum": [10]}), mode="overwrite")
    reader.poll()
    assert [violation.invariant for violation in reader.violations] == ["I6", "I6", "I6"]


@pytest.mark.fault("I4")
def test_i4_a_reader_reports_a_version_that_was_written_again(state):
    reader = Reader(state.tables.target)
    reader.poll()
    log = state.tables.target / "_delta_log" / f"{0:020}.json"
    log.write_text(log.read_text() + " ")
    reader.poll()
    assert [violation.invariant for violation in reader.violations] == ["I4"]
