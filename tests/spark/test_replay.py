import shutil
from datetime import UTC, datetime, timedelta

import pytest
from deltalake import DeltaTable

from jobs.pipeline import quarantine
from jobs.pipeline import replay as replay_module
from jobs.pipeline.delta import TransactionId
from jobs.pipeline.errors import AlreadyRunningError, ConfError, EsclusaError
from jobs.pipeline.lease import hold_lease
from jobs.pipeline.replay import Selection, replay
from jobs.pipeline.reset import reset_checkpoint
from jobs.pipeline.small_table import SmallTable
from jobs.replay_quarantine import describe

LINES = "id,name\n1,a\n9,b\n10,c\n99,d\nbroken\n"


class CrashError(EsclusaError):
    """The process ends here."""


@pytest.fixture
def filled(bench, expect):
    """1 row in the target; 9, 10 and 99 break `small`, and one is malformed."""
    bench.suite(small(expect, 8))
    bench.define_files("csv", "{header: true}")
    bench.write("landing/a.csv", LINES)
    bench.run()
    return bench


def small(expect, most, on_failure="expect_or_quarantine"):
    return expect("column_values_to_be_between", "id", max_value=most, name="small", on_failure=on_failure)


def send(bench, *, is_dry=False, **selection):
    report = replay(bench.spark, bench.load(), Selection(**selection), is_dry=is_dry)
    return {str(outcome): count for outcome, count in report.rows.items()}


def ids(bench):
    return sorted(row["id"] for row in bench.target())


def marks(bench):
    return DeltaTable(str(bench.folder / "lake/p_quarantine_replays")).to_pyarrow_table().to_pylist()


def test_rows_that_pass_todays_rules_reach_the_target_once_and_the_others_stay_with_new_reasons(filled, expect):
    filled.suite(small(expect, 10, "expect_or_fail"))
    before = filled.quarantine()
    assert send(filled) == {"written": 2, "quarantined": 2}
    assert ids(filled) == [1, 9, 10]
    assert filled.quarantine() == before
    raw = {row["row_id"]: row["raw"] for row in before}
    assert {raw[mark["row_id"]]: mark["outcome"] for mark in marks(filled)} == {
        b"9,b": "written",
        b"10,c": "written",
        b"99,d": "quarantined",
        b"broken": "quarantined",
    }
    [stays] = [mark for mark in marks(filled) if raw[mark["row_id"]] == b"99,d"]
    assert [error["message"] for error in stays["_errors"]] == ["99: expect_column_values_to_be_between (max_value=10)"]
    last = filled.ledger()[-1]
    assert [last[f"rows_{kind}"] for kind in ("read", "written", "quarantined", "dropped")] == [4, 2, 2, 0]
    assert (last["status"], last["batch_id"]) == ("replayed", 1)
    assert send(filled) == {"quarantined": 2}
    assert ids(filled) == [1, 9, 10]
    filled.write("landing/b.csv", "id,name\n2,a\n")
    filled.run()
    assert ids(filled) == [1, 2, 9, 10]


def test_once_all_rows_have_gone_a_replay_writes_nothing(filled, expect):
    filled.suite(small(expect, 100))
    filled.define_files("csv", "{header: true}", rest="transforms: [{sql: SELECT * FROM input WHERE id <> 10}]")
    assert send(filled, check="small") == {"written": 2, "dropped": 1}
    rows, versions = len(filled.ledger()), DeltaTable(str(filled.folder / "lake/p")).version()
    assert send(filled, check="small") == {}
    assert (len(filled.ledger()), DeltaTable(str(filled.folder / "lake/p")).version()) == (rows, versions)


@pytest.mark.parametrize(
    ("selection", "outcomes"),
    [
        ({"check": "malformed"}, {"quarantined": 1}),
        ({"where": "CAST(raw AS STRING) LIKE '9%'"}, {"written": 2}),
        ({"since": datetime.now(UTC) + timedelta(days=1)}, {}),
        ({"since": datetime(2000, 1, 1, tzinfo=UTC), "check": "small"}, {"written": 3}),
    ],
)
def test_only_what_is_selected_is_replayed(filled, expect, selection, outcomes):
    filled.suite(small(expect, 100))
    assert send(filled, is_dry=True, **selection) == outcomes


def test_a_dry_run_tells_what_would_happen_and_writes_nothing(filled, expect):
    filled.suite(small(expect, 10))
    before = {file: file.stat().st_mtime_ns for file in (filled.folder / "lake").rglob("*")}
    report = replay(filled.spark, filled.load(), Selection(), is_dry=True)
    assert describe("p", report, is_dry=True) == [
        "p: dry run, nothing written: 4 rows of the quarantine: 2 written, 2 quarantined, 0 dropped",
        "  check          written  quarantined      dropped",
        "  malformed            0            1            0",
        "  small                2            1            0",
    ]
    assert {file: file.stat().st_mtime_ns for file in (filled.folder / "lake").rglob("*")} == before
    assert [row["status"] for row in filled.ledger()] == ["done"]


@pytest.mark.parametrize(("point", "left"), [("replay.marked", 4), ("replay.written", 2)])
def test_killing_it_anywhere_loses_and_doubles_nothing(filled, expect, monkeypatch, point, left):
    filled.suite(small(expect, 10))

    def crash(reached):
        if reached == point:
            raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(replay_module, "reach", crash)
        with pytest.raises(CrashError):
            send(filled)
    assert sum(send(filled, is_dry=True).values()) == left
    send(filled)
    assert ids(filled) == [1, 9, 10]
    assert sum(send(filled, is_dry=True).values()) == 2
    written = sum(row["rows_written"] for row in filled.ledger() if row["status"] == "replayed")
    assert written == 2


def test_it_waits_for_no_run_and_a_run_for_no_replay(filled):
    with hold_lease(filled.spark, "p", filled.load().lease_path), pytest.raises(AlreadyRunningError):
        send(filled)


def test_a_replay_that_another_one_overtook_commits_nothing(filled, expect, monkeypatch):
    """The loser of the lease wakes up between its judgement and its commit."""
    filled.suite(small(expect, 10))
    commit = replay_module._commit

    def be_overtaken(*given):
        commit(*given)
        commit(*given)

    with monkeypatch.context() as patch:
        patch.setattr(replay_module, "_commit", be_overtaken)
        with pytest.raises(AlreadyRunningError):
            send(filled)
    assert ids(filled) == [1, 9, 10]
    assert send(filled) == {"quarantined": 2}


def test_a_row_that_is_set_apart_while_others_are_replayed_waits_for_the_next_replay(filled, expect, monkeypatch):
    """As by a run over an archive, which has a lease of its own."""
    filled.suite(small(expect, 100))
    errors_of_rows, pipeline = replay_module.row_errors, filled.load()

    def add_row(gate):
        [row, *_] = [row for row in filled.quarantine() if row["raw"] == b"9,b"]
        late = row | {"raw": b"50,late", "row_id": "late"}
        SmallTable(filled.spark, pipeline.quarantine_path, quarantine.SCHEMA).append([late], TransactionId("late", 0))
        return errors_of_rows(gate)

    with monkeypatch.context() as patch:
        patch.setattr(replay_module, "row_errors", add_row)
        assert send(filled, check="small") == {"written": 3}
    assert "late" not in {mark["row_id"] for mark in marks(filled)}
    assert send(filled, check="small") == {"written": 1}
    assert ids(filled) == [1, 9, 10, 50, 99]


def test_a_record_of_which_transforms_make_several_rows_goes_whole_or_not_at_all(bench, expect):
    sql = "SELECT id, part FROM input LATERAL VIEW explode(split(name, '-')) AS part"
    bench.suite(expect("column_values_to_not_be_in_set", "part", value_set=["x"], name="no_x"))
    bench.define_files("csv", rest=f'transforms:\n  - sql: "{sql}"')
    bench.write("landing/a.csv", "1,a-x\n,b-c,\n3\n")
    bench.run()
    assert sorted(row["part"] for row in bench.target()) == ["a"]
    bench.suite(expect("column_values_to_not_be_null", "part"))
    assert send(bench, check="no_x") == {"quarantined": 1}
    assert "several rows" in marks(bench)[0]["_errors"][0]["message"]
    assert len(bench.target()) == 1
    bench.define_files(
        "csv",
        ddl="id STRING, name STRING, rest STRING",
        rest="transforms:\n  - sql: \"SELECT CAST(id AS INT) AS id, part FROM input LATERAL VIEW explode(split(name, '-')) AS part\"",
    )
    send(bench)
    assert sorted(row["part"] for row in bench.target()) == ["a", "b", "c"]


def test_rows_that_a_transform_cannot_compute_stay_and_the_rest_goes(filled, expect):
    filled.suite(small(expect, 100))
    sql = "SELECT * FROM input WHERE IF(id = 99, raise_error('no'), true)"
    filled.define_files("csv", "{header: true}", rest=f'transforms:\n  - sql: "{sql}"')
    assert send(filled, check="small") == {"written": 2, "quarantined": 1}
    assert ids(filled) == [1, 9, 10]


def test_sql_that_is_no_predicate_over_the_quarantine_is_refused(filled):
    for where in ("reflect('a', 'b') = 'c'", "no_such_column = 1"):
        with pytest.raises(ConfError):
            send(filled, where=where)


def test_records_of_kafka_are_replayed_from_the_quarantine_alone_without_a_broker(bench):
    options = "{kafka.bootstrap.servers: '127.0.0.1:1', subscribe: t, includeHeaders: true}"
    sql = "SELECT *, _record.offset AS position, CAST(_record.key AS STRING) AS k FROM input"
    pipeline = bench.define(
        source=f"{{type: kafka, schema: p, options: {options}}}", rest=f"transforms: [{{sql: '{sql}'}}]"
    )
    table = SmallTable(bench.spark, pipeline.quarantine_path, quarantine.SCHEMA)
    table.create()
    source = {"topic": "t", "partition": 0, "offset": 7, "key": b"k"}
    rows = [
        {"pipeline": "p", "batch_id": 0, "row_id": str(number), "raw": raw, "source": source, "_errors": []}
        for number, raw in enumerate([b'{"id": 1, "name": "a"}', b"{", None])
    ]
    table.append(rows, TransactionId("test", 0))
    assert send(bench) == {"written": 1, "quarantined": 2}
    assert bench.target() == [{"id": 1, "name": "a", "position": 7, "k": "k"}]
    assert {mark["_errors"][0]["message"] for mark in marks(bench) if mark["_errors"]} == {
        "not valid JSON, or a field does not fit its type",
        "null value (tombstone)",
    }


def test_without_a_suite_malformed_rows_stay_as_they_are(bench):
    bench.define_files("csv")
    bench.write("landing/a.csv", "1,a\nx,b\n2,c,d\n")
    bench.run()
    assert send(bench, is_dry=True) == send(bench) == {"quarantined": 2}


def test_formats_without_a_line_a_record_are_refused(bench):
    bench.define_files("parquet")
    bench.spark.createDataFrame([(1, None)], "id INT, name STRING").write.mode("append").parquet(
        str(bench.folder / "landing")
    )
    bench.run()
    with pytest.raises(ConfError, match="parquet files cannot be replayed"):
        send(bench)


def test_replays_go_on_though_their_marks_are_gone_as_when_tables_are_deleted_to_start_anew(filled, expect):
    filled.suite(small(expect, 10))
    send(filled)
    for name in ("p", "p_quarantine", "p_quarantine_replays"):
        shutil.rmtree(filled.folder / "lake" / name)
    reset_checkpoint(filled.spark, filled.load())
    filled.suite(small(expect, 8))
    filled.run()
    filled.suite(small(expect, 10))
    assert send(filled) == {"written": 2, "quarantined": 2}
    assert ids(filled) == [1, 9, 10]
    assert [row["batch_id"] for row in filled.ledger() if row["status"] == "replayed"] == [1, 2]
    assert send(filled) == {"quarantined": 2}


def test_an_element_of_multi_line_json_is_replayed_as_a_record_of_its_own(bench):
    bench.define_files("json", "{multiLine: true}")
    bench.write("landing/a.json", '[{"id": 1},\n {"id": "2",\n "name": "b"}]')
    bench.run()
    bench.define_files(
        "json",
        "{multiLine: true}",
        ddl="id STRING, name STRING",
        rest="transforms: [{sql: 'SELECT CAST(id AS INT) AS id, name FROM input'}]",
    )
    assert send(bench) == {"written": 1}
    assert sorted((row["id"], row["name"]) for row in bench.target()) == [(1, None), (2, "b")]
