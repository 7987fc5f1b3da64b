import json
import os
import shutil
from dataclasses import replace

import pyarrow as pa
import pytest
from pyspark import StorageLevel

from jobs.pipeline import attempts
from jobs.pipeline.delta import TransactionId
from jobs.pipeline.errors import (
    AlreadyRunningError,
    BatchHeldError,
    ConfError,
    LeaseLostError,
    StateMismatchError,
    UnavailableError,
)
from jobs.pipeline.lease import hold_lease
from jobs.pipeline.quality import gate
from jobs.pipeline.quality.gathering import USUAL
from jobs.pipeline.runner import PipelineRun
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.staged_append import stage_append

CSV = "{header: true}"
LOOKUP = """
def add_country(df):
    known = df.sparkSession.createDataFrame([(1, "DE")], "id INT, country STRING")
    return df.join(known, "id", "left")
"""


def sums(batch):
    return batch.verdict.rows_read, batch.rows_written, batch.verdict.rows_quarantined, batch.rows_dropped


def replay_last_batch(bench):
    """What a crash after all writes, before Spark's own mark, leaves behind."""
    commits = bench.folder / "state/checkpoints/p/commits"
    last = max((file for file in commits.iterdir() if file.name.isdigit()), key=lambda file: int(file.name))
    last.unlink()
    (commits / f".{last.name}.crc").unlink(missing_ok=True)


def test_every_row_lands_once_and_only_new_files_are_read(bench, expect):
    bench.suite(expect("column_values_to_be_between", "id", min_value=1, max_value=8, name="small"))
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", "id,name\n1,a\n2,b\n9,c\n")
    [first] = bench.run()
    assert sums(first) == (3, 2, 1, 0)
    assert bench.run() == []
    bench.write("landing/b.csv", "id,name\n3,d\n")
    [second] = bench.run()
    assert sums(second) == (1, 1, 0, 0)
    assert sorted(row["id"] for row in bench.target()) == [1, 2, 3]


def test_quarantined_row_keeps_its_line_its_file_and_every_reason(bench, expect):
    bench.suite(
        expect("column_values_to_be_between", "id", min_value=1, max_value=8, name="small"),
        expect("column_values_to_match_regex", "name", regex="^[a-z]$", name="lower"),
    )
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", 'id,name\n1,a\n 9,"C, é"\n'.replace(" 9", "9"))
    bench.run()
    [row] = bench.quarantine()
    assert row["raw"] == '9,"C, é"'.encode()
    assert row["source"]["path"].endswith("/landing/a.csv")
    assert [error["check"] for error in row["_errors"]] == ["small", "lower"]
    assert row["_errors"][0] == {
        "check": "small",
        "column": "id",
        "message": "9: expect_column_values_to_be_between (min_value=1, max_value=8)",
    }
    assert (row["pipeline"], row["batch_id"]) == ("p", 0)
    assert row["rules_fingerprint"] == bench.ledger()[0]["rules_fingerprint"]


@pytest.mark.parametrize("limit", [USUAL.rows, 1])
def test_second_scan_beyond_the_limit_writes_the_same_rows(bench, expect, monkeypatch, limit):
    monkeypatch.setattr(gate, "USUAL", replace(USUAL, rows=limit))
    bench.suite(
        expect("column_values_to_be_between", "id", min_value=1, max_value=8, name="small"),
        expect("column_values_to_not_be_null", "name", name="named"),
    )
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", "id,name\n1,a\n9,\n10,x\nbroken\n11\n2,\n")
    [batch] = bench.run()
    assert sums(batch) == (6, 1, 5, 0)
    found = {
        row["raw"]: [(e["check"], e["column"], e["message"]) for e in row["_errors"]] for row in bench.quarantine()
    }
    between = "expect_column_values_to_be_between (min_value=1, max_value=8)"
    null = "NULL: expect_column_values_to_not_be_null"
    reason = "not 2 columns, or a column does not fit its type"
    assert found == {
        b"9,": [("small", "id", f"9: {between}"), ("named", "name", null)],
        b"10,x": [("small", "id", f"10: {between}")],
        b"2,": [("named", "name", null)],
        b"broken": [("malformed", None, reason)],
        b"11": [("malformed", None, reason)],
    }


@pytest.mark.parametrize("row_bytes", [USUAL.row_bytes, 0])
def test_second_scan_shows_values_as_the_driver_does(bench, expect, monkeypatch, row_bytes):
    monkeypatch.setattr(gate, "USUAL", replace(USUAL, row_bytes=row_bytes))
    price, name = "12345678901234567890.123456789012345678", 'a "b" \\ è'
    bench.suite(
        expect("column_values_to_be_between", "price", max_value=1, name="price"),
        expect("column_values_to_be_in_set", "a.b", value_set=["c"], name="a.b"),
        expect("column_values_to_be_null", "who", name="who"),
        expect("column_pair_values_a_to_be_greater_than_b", column_A="n", column_B="m", name="pair"),
    )
    ddl = "price DECIMAL(38,18), `a.b` STRING, who STRUCT<name: STRING, is: BOOLEAN>, n DOUBLE, m BIGINT"
    sql = "SELECT price, `a.b`, who.is, n, m, who, _record FROM input"
    bench.define_files("json", ddl=ddl, rest=f"transforms: [{{sql: '{sql}'}}]")
    row = {"a.b": name, "who": {"name": "è", "is": True}, "n": 0.5, "m": 2**62}
    bench.write("landing/a.json", json.dumps(row)[:-1] + f', "price": {price}}}\n')
    bench.run()
    [row] = bench.quarantine()
    assert [error["message"].split(": expect")[0] for error in row["_errors"]] == [
        price,
        name,
        '{"name":"è","is":true}',
        "0.5, 4611686018427387904",
    ]


def test_batch_that_keeps_its_rows_for_the_second_scan_writes_the_same(bench, expect, monkeypatch):
    """The first batch with too many bad rows parses them again, those behind it keep them, until one has few."""
    kept = []
    frame = type(bench.spark.range(1))
    persist = frame.persist
    monkeypatch.setattr(frame, "persist", lambda df, *level: kept.append(df) or persist(df, *level))
    bench.suite(
        expect("column_values_to_be_between", "id", min_value=1, max_value=8, name="small"),
        expect("column_values_to_be_in_set", "name", value_set=["a"], on_failure="expect_or_drop", name="a"),
    )
    bench.define_files("csv", "{header: true, maxFilesPerTrigger: 1}")
    too_many = "".join(f"{number},\n" for number in range(10, 10 + USUAL.rows))
    many, few = f"id,name\n1,a\n2,b\n9,a\n{too_many}x,a\ny\n,\n", "id,name\n3,a\n12,a\n"
    for number, content in enumerate([many, many, few, few]):
        os.utime(bench.write(f"landing/{number}.csv", content), (number, number))  # Spark takes the oldest first
    batches = bench.run()
    assert [sums(batch) for batch in batches] == [(4_006, 2, 4_003, 1)] * 2 + [(2, 1, 1, 0)] * 2
    shown = [(len(batch.verdict.malformed.rows), len(batch.verdict.unfit.rows)) for batch in batches]
    assert shown == [(2, 4_000), (2, 100), (0, 1), (0, 1)], "examples of each batch"
    assert [df.columns for df in kept] == [["_record", "_malformed", "id", "name"]] * 2
    written: dict[int, list] = {}
    for row in bench.quarantine():
        written.setdefault(row["batch_id"], []).append((row["raw"], str(row["_errors"])))
    assert sorted(written[0]) == sorted(written[1])
    assert len(written[0]) == 4_003
    assert written[2] == written[3]
    assert sorted((row["id"] or 0, row["name"] or "") for row in bench.target()) == [
        (0, ""),
        (0, ""),
        (1, "a"),
        (1, "a"),
        (3, "a"),
        (3, "a"),
    ]
    assert [df.storageLevel for df in kept] == [StorageLevel.NONE] * 2


def test_behind_a_batch_of_large_bad_rows_they_are_gathered(bench, expect):
    bench.suite(expect("column_values_to_be_between", "id", min_value=1, name="small"))
    bench.define_files("json", "{maxFilesPerTrigger: 1}")
    bad = [json.dumps({"id": 0, "name": "x" * size}) for size in (3_000, 30_000)]
    for number in range(2):
        file = bench.write(f"landing/{number}.json", "\n".join([*bad, "x" * 3_000, '{"id": 2, "name": "ok"}\n']))
        os.utime(file, (number, number))  # Spark takes the oldest first
    batches = bench.run()
    assert [sums(batch) for batch in batches] == [(4, 1, 3, 0)] * 2
    assert [batch.verdict.is_gathered for batch in batches] == [False, True]
    written: dict[int, list] = {}
    for row in bench.quarantine():
        written.setdefault(row["batch_id"], []).append((row["raw"].decode(), str(row["_errors"])))
    assert sorted(written[0]) == sorted(written[1])
    assert sorted(raw for raw, _ in written[0]) == sorted([*bad, "x" * 3_000])


def test_large_row_is_not_gathered_but_quarantined_whole(bench, expect):
    bench.suite(expect("column_value_lengths_to_be_between", "name", max_value=5))
    bench.define_files("json")
    text = json.dumps({"id": 1, "name": "x" * 100_000})
    bench.write("landing/a.json", text + "\n" + '{"id": 2, "name": "ok"}\n')
    [batch] = bench.run()
    assert not batch.verdict.unfit.is_complete
    assert [row["raw"].decode() for row in bench.quarantine()] == [text]


def test_dispositions_send_rows_where_they_say(bench, expect):
    bench.suite(
        expect("column_values_to_be_in_set", "name", value_set=["a", "b", "c"], on_failure="expect", name="count"),
        expect("column_values_to_not_be_in_set", "name", value_set=["b"], on_failure="expect_or_drop", name="drop"),
        expect("column_values_to_be_between", "id", max_value=8, on_failure="expect_or_quarantine", name="apart"),
    )
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", "id,name\n1,a\n2,b\n9,c\n9,b\n3,z\n")
    [batch] = bench.run()
    assert sums(batch) == (5, 2, 2, 1)
    assert sorted(row["id"] for row in bench.target()) == [1, 3]
    counts = {result.check.name: (result.unexpected_count, result.success) for result in batch.verdict.results}
    assert counts == {"count": (1, False), "drop": (2, False), "apart": (2, False)}


def test_failing_check_holds_the_batch_until_the_rules_are_mended(bench, expect):
    bench.suite(expect("column_values_to_not_be_null", "name", mostly=0.9, on_failure="expect_or_fail", name="named"))
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", "id,name\n1,a\n2,\n")
    with pytest.raises(BatchHeldError, match="named failed: 1 of 2 rows"):
        bench.run()
    with pytest.raises(BatchHeldError):
        bench.run()
    assert bench.target() == []
    assert bench.quarantine() == []
    [held] = bench.ledger()
    assert (held["status"], held["rows_read"], held["rows_written"]) == ("held", 2, 0)
    bench.suite(expect("column_values_to_not_be_null", "name", mostly=0.5, on_failure="expect_or_fail", name="named"))
    [batch] = bench.run()
    assert sums(batch) == (2, 1, 1, 0)
    assert [row["status"] for row in bench.ledger()] == ["held", "done"]


def test_too_large_a_quarantined_share_holds_the_batch(bench):
    bench.define_files("csv", CSV, rest="quality: {halt_when: {quarantined_share_above: 0.5}}")
    bench.write("landing/a.csv", "id,name\n1,a\nx,b\n")
    [batch] = bench.run()
    assert sums(batch) == (2, 1, 1, 0)
    bench.write("landing/b.csv", "id,name\n1,a\nx,b\ny,c\n")
    with pytest.raises(BatchHeldError, match="66.67% of the rows"):
        bench.run()
    assert len(bench.target()) == 1


def test_replayed_batch_doubles_nothing(bench, expect):
    bench.suite(expect("column_values_to_be_between", "id", max_value=8))
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", "id,name\n1,a\n9,b\n")
    bench.run()
    replay_last_batch(bench)
    assert bench.run() == []
    assert (len(bench.target()), len(bench.quarantine()), len(bench.ledger())) == (1, 1, 1)


@pytest.mark.fault("K7", "K9")
@pytest.mark.parametrize("lost", [{"p_quarantine", "ledger"}, {"ledger"}])
def test_replay_writes_only_what_an_earlier_attempt_did_not(bench, expect, lost):
    bench.suite(expect("column_values_to_be_between", "id", max_value=8))
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", "id,name\n1,a\n2,b\n9,b\n")
    bench.run()
    replay_last_batch(bench)
    for name in lost:
        folder = "state/ledger/p" if name == "ledger" else f"lake/{name}"
        shutil.rmtree(bench.folder / folder)
    [batch] = bench.run()
    assert sums(batch) == (3, 2, 1, 0)
    assert (len(bench.target()), len(bench.quarantine()), len(bench.ledger())) == (2, 1, 1)
    assert bench.ledger()[0]["target_version"] == 1


def test_write_that_another_run_made_meanwhile_ends_the_run_and_does_not_hang_it(bench, monkeypatch):
    """A JVM that outlived its Python commits after this run has asked the tables what is done."""
    bench.define_files("csv")
    bench.write("landing/a.csv", "1,a\n")
    bench.run()
    replay_last_batch(bench)
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "steps_done", lambda *_: frozenset())
        with pytest.raises(AlreadyRunningError):
            bench.run()
    bench.run()
    assert len(bench.target()) == 1


def test_tables_that_only_spark_reaches_get_the_same_rows(bench, expect, monkeypatch):
    """Stands for object stores: nothing goes through delta-rs."""
    monkeypatch.setattr("jobs.pipeline.delta.local_path", lambda path: None)
    monkeypatch.setattr("jobs.pipeline.small_table.local_path", lambda path: None)
    bench.suite(expect("column_values_to_be_between", "id", max_value=8, name="small"))
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", "id,name\n1,a\n9,b\nbroken\n")
    [batch] = bench.run()
    assert sums(batch) == (3, 1, 2, 0)
    replay_last_batch(bench)
    bench.run()
    assert (len(bench.target()), len(bench.quarantine()), len(bench.ledger())) == (1, 2, 1)
    assert {row["raw"] for row in bench.quarantine()} == {b"9,b", b"broken"}
    bench.write("landing/b.csv", "id,name\n2,a\n")
    bench.run()
    assert len(bench.ledger()) == 2


def test_plain_foreach_batch_doubles_rows_on_the_same_replay(bench):
    """The baseline without the protocol: were it to pass, the replay above would prove nothing."""
    bench.write("landing/a.csv", "1,a\n")
    checkpoint, table = bench.folder / "state/checkpoints/p", bench.folder / "lake/p"

    def run():
        stream = bench.spark.readStream.schema("id INT, name STRING").csv(str(bench.folder / "landing"))
        query = stream.writeStream.foreachBatch(lambda df, _: df.write.format("delta").mode("append").save(str(table)))
        query.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start().awaitTermination()

    run()
    replay_last_batch(bench)
    run()
    assert len(bench.target()) == 2


def test_transform_that_filters_counts_as_dropped(bench):
    bench.define_files("csv", CSV, rest="transforms:\n  - sql: SELECT * FROM input WHERE id > 1")
    bench.write("landing/a.csv", "id,name\n1,a\n2,b\nbroken\n")
    [batch] = bench.run()
    assert sums(batch) == (3, 1, 1, 1)
    assert batch.verdict.rows_filtered == 1


def test_transform_that_multiplies_rows_adds_up(bench):
    sql = "SELECT id, part FROM input LATERAL VIEW explode(split(name, '-')) AS part"
    bench.define_files("csv", CSV, rest=f'transforms:\n  - sql: "{sql}"')
    bench.write("landing/a.csv", "id,name\n1,a-b-c\n2,d\n")
    [batch] = bench.run()
    assert sums(batch) == (2, 4, 0, -2)
    assert sorted(row["part"] for row in bench.target()) == ["a", "b", "c", "d"]


def test_rate_limit_makes_several_batches(bench):
    bench.define_files("csv", "{header: true, maxFilesPerTrigger: 1}")
    for number in range(3):
        bench.write(f"landing/{number}.csv", f"id,name\n{number},a\n")
    batches = bench.run()
    assert [sums(batch) for batch in batches] == [(1, 1, 0, 0)] * 3
    assert [json.loads(batch.source_range)["files"] for batch in batches] == [1, 1, 1]
    assert len({json.loads(batch.source_range)["hash"] for batch in batches}) == 3
    assert [batch.lag for batch in batches] == [2, 1, 0]


def test_target_has_the_declared_schema_and_layout(bench):
    sink = f"sink: {{type: delta, path: {bench.folder}/lake/p, partition_by: [name], table_properties: {{delta.appendOnly: true}}}}"
    bench.define_files("csv", CSV, ddl="id INT, name STRING, at TIMESTAMP", rest=sink)
    bench.write("landing/a.csv", "id,name,at\n1,a,2026-01-01T00:00:00Z\n")
    bench.run()
    detail = bench.spark.sql(f"DESCRIBE DETAIL delta.`{bench.folder}/lake/p`").first()
    assert detail.partitionColumns == ["name"]
    assert detail.properties["delta.appendOnly"] == "true"
    schema = bench.spark.read.format("delta").load(f"{bench.folder}/lake/p").schema.simpleString()
    assert schema == "struct<id:int,name:string,at:timestamp>"


def test_a_name_that_delta_cannot_hold_is_refused_or_mapped(bench):
    bench.write("landing/a.json", '{"unit price": 5, "a.b": "x"}\n')
    bench.define_files("json", ddl="`unit price` INT, `a.b` STRING")
    with pytest.raises(
        ConfError,
        match="Delta refuses a column's name: .* Rename it in a transform, or set delta.columnMapping.mode: name",
    ):
        bench.run()
    sink = f"sink: {{type: delta, path: {bench.folder}/lake/p, table_properties: {{delta.columnMapping.mode: name}}}}"
    bench.define_files("json", ddl="`unit price` INT, `a.b` STRING", rest=sink)
    bench.run()
    bench.define_files("json", ddl="`unit price` INT, `a.b` STRING")
    bench.write("landing/b.json", '{"unit price": 6, "a.b": "y"}\n')
    bench.run()
    rows = bench.spark.read.format("delta").load(f"{bench.folder}/lake/p").collect()
    assert sorted(map(tuple, rows)) == [(5, "x"), (6, "y")]


@pytest.mark.fault("K14")
def test_creation_that_was_killed_before_its_first_version_is_made_good(bench):
    bench.define_files("csv")
    bench.write("landing/a.csv", "1,a\n")
    bench.write(f"lake/p/_delta_log/.{0:020}.json.0.tmp", '{"commitInfo"')
    (bench.folder / "lake/p/_delta_log/_staged_commits").mkdir()
    [batch] = bench.run()
    assert batch.rows_written == len(bench.target()) == 1


def test_log_that_holds_more_than_the_remains_of_a_creation_is_left_alone(bench):
    bench.define_files("csv")
    bench.write("landing/a.csv", "1,a\n")
    strange = bench.write("lake/p/_delta_log/_last_checkpoint", "{}")
    with pytest.raises(StateMismatchError):
        bench.run()
    assert strange.exists()


def test_clustering_is_declared_on_the_table(bench):
    sink = f"sink: {{type: delta, path: {bench.folder}/lake/p, cluster_by: [id]}}"
    bench.define_files("csv", CSV, rest=sink)
    bench.write("landing/a.csv", "id,name\n1,a\n")
    bench.run()
    detail = bench.spark.sql(f"DESCRIBE DETAIL delta.`{bench.folder}/lake/p`").first()
    assert detail.clusteringColumns == ["id"]


@pytest.mark.fault("T12")
def test_changed_columns_are_refused_and_named(bench):
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", "id,name\n1,a\n")
    bench.run()
    bench.define_files("csv", CSV, ddl="id BIGINT, label STRING")
    with pytest.raises(StateMismatchError, match="id is int in the table, bigint.*lacks label.*not produce name"):
        bench.run()


def test_missing_directory_is_an_unavailable_source(bench):
    bench.define_files("csv", CSV)
    (bench.folder / "landing").rmdir()
    with pytest.raises(UnavailableError, match="landing does not exist"):
        bench.run()


def test_second_run_finds_the_pipeline_held(bench):
    pipeline = bench.define_files("csv", CSV)
    with hold_lease(bench.spark, "p", pipeline.lease_path), pytest.raises(AlreadyRunningError):
        bench.run()
    assert not (bench.folder / "lake").exists()


def test_check_of_a_missing_column_names_its_line_and_a_guess(bench, expect):
    bench.suite(expect("column_values_to_not_be_null", "nam"))
    bench.define_files("csv", CSV)
    with pytest.raises(ConfError) as caught:
        bench.run()
    [problem] = caught.value.problems
    assert problem.file.endswith("p.json")
    assert "did you mean name" in problem.message


ID_IS_TEXT = {"type": "comparison", "column": {"name": "id"}, "operator": "==", "parameter": "x"}
ID_IS_TEXT = {
    "type": "and",
    "conditions": [{"type": "nullity", "column": {"name": "id"}, "is_null": False}, ID_IS_TEXT],
}


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (("column_values_to_be_between", "name", {"min_value": 1}), "name' is string"),
        (("column_values_to_be_in_set", "name", {"value_set": [1, 2]}), "name' is string"),
        (("column_values_to_match_regex", "id", {"regex": "1"}), "needs text"),
        (("column_values_to_be_of_type", "id", {"type_": "IntType"}), "no Spark type IntType"),
        (("column_values_to_match_regex", "name", {"regex": "(?P<year>2)"}), "Java, and so Spark, cannot read"),
        (("column_values_to_not_match_regex_list", "name", {"regex_list": ["a", "(?P<x>b)"]}), "cannot read.*P<x>b"),
        (("column_values_to_be_between", "day", {"min_value": "20130601"}), "'20130601' cannot be compared"),
        (("column_values_to_be_null", "id", {"row_condition": ID_IS_TEXT}), "row_condition: column 'id' is int; 'x'"),
        (
            (
                "column_values_to_be_null",
                "id",
                {"row_condition": "reflect('a','b') = 'c'", "condition_parser": "spark"},
            ),
            "reflect",
        ),
    ],
)
def test_check_that_could_only_fail_at_run_time_is_refused(bench, expect, check, says):
    kind, column, kwargs = check
    bench.suite(expect(kind, column, **kwargs))
    bench.define_files("csv", CSV, ddl="id INT, name STRING, day DATE")
    with pytest.raises(ConfError, match=says):
        bench.run()


def test_a_transform_that_gives_a_name_twice_is_refused(bench):
    bench.define_files("csv", CSV, rest="transforms:\n  - sql: SELECT *, upper(name) AS NAME FROM input")
    with pytest.raises(ConfError, match=r"transforms\[0\]: its result has more than one column name") as caught:
        bench.run()
    assert caught.value.problems[0].line


def test_python_transform_of_the_bundle_is_found(bench):
    source = "def shout(df):\n    return df.withColumn('name', __import__('pyspark').sql.functions.upper('name'))\n"
    bench.write("jobs/transforms/loud.py", source)
    bench.define_files("csv", CSV, rest="transforms:\n  - python: loud.shout")
    bench.write("landing/a.csv", "id,name\n1,a\n")
    bench.run()
    assert [row["name"] for row in bench.target()] == ["A"]


def test_stop_request_ends_a_continuous_run_after_the_batch_in_flight(bench):
    bench.define_files("csv", CSV, rest="trigger: {processing_time: 1 second}")
    bench.write("landing/a.csv", "id,name\n1,a\n")
    run = PipelineRun(bench.spark, bench.load(), lambda record: (bench.batches.append(record), run.request_stop()))
    run.start()
    run.wait()
    assert len(bench.batches) == 1
    assert (bench.folder / "state/checkpoints/p/commits/0").exists()
    assert len(bench.target()) == 1


def test_a_target_takes_structs_in_arrays_that_are_never_null(bench):
    bench.define_files(
        "json",
        rest="""transforms: [{sql: "SELECT id, array(named_struct('kind', 'name', 'value', name)) AS all FROM input"}]""",
    )
    bench.write("landing/a.json", '{"id": 1, "name": "a"}\n')
    bench.run()
    assert bench.target() == [{"id": 1, "all": [{"kind": "name", "value": "a"}]}]


def test_a_column_that_was_a_literal_may_hold_null_once_the_transform_says_so(bench):
    bench.define_files("json", rest="transforms: [{sql: \"SELECT id, 'eu' AS region FROM input\"}]")
    bench.write("landing/a.json", '{"id": 1}\n')
    bench.run()
    bench.define_files("json", rest="transforms: [{sql: \"SELECT id, if(id < 2, 'eu', NULL) AS region FROM input\"}]")
    bench.write("landing/b.json", '{"id": 2}\n')
    bench.run()
    assert sorted(row["region"] or "" for row in bench.target()) == ["", "eu"]


def test_whole_numbers_beyond_64_bits_are_bounds_like_others(bench, expect):
    bench.suite(
        expect("column_values_to_be_between", "n", max_value=10**20, name="low"),
        expect("column_values_to_not_be_in_set", "n", value_set=[10**19], name="other"),
    )
    bench.define_files("json", ddl="n DECIMAL(38, 0)")
    bench.write("landing/a.json", "".join(f'{{"n": {number}}}\n' for number in (10**20, 10**20 + 1, 10**19)))
    bench.run()
    assert [int(row["n"]) for row in bench.target()] == [10**20]
    assert sorted(row["_errors"][0]["check"] for row in bench.quarantine()) == ["low", "other"]


def test_on_stores_the_lease_is_asked_between_staging_and_commit(bench, monkeypatch):
    """Delta itself refuses what another run commits after the staging began."""
    monkeypatch.setattr("jobs.pipeline.delta.local_path", lambda path: None)
    monkeypatch.setattr("jobs.pipeline.small_table.local_path", lambda path: None)
    schema = pa.schema([("id", pa.int64())])
    table, wanted = SmallTable(bench.spark, str(bench.folder / "t"), schema), TransactionId("q", 3)
    table.create()

    staged = []

    def stage(*given):
        staged.append(stage_append(*given))
        return staged[0]

    class LostLease:
        def check(self):
            assert staged
            raise LeaseLostError

    monkeypatch.setattr("jobs.pipeline.small_table.stage_append", stage)
    with pytest.raises(LeaseLostError):
        table.append([{"id": 1}], wanted, LostLease())
    assert bench.spark.read.format("delta").load(str(bench.folder / "t")).count() == 0


@pytest.mark.parametrize(
    "transform",
    [
        "sql: SELECT * FROM input WHERE 1 = 0",
        "python: lookups.add_country",
    ],
)
def test_malformed_rows_are_set_apart_though_spark_knows_that_transforms_give_no_row(bench, transform):
    """Spark cuts the scan away where it knows so, and what is observed on the way with it."""
    bench.write("jobs/transforms/lookups.py", LOOKUP)
    bench.define_files("json", rest=f"transforms: [{{{transform}}}]")
    bench.write("landing/a.json", "broken\n")
    [batch] = bench.run()
    assert sums(batch) == (1, 0, 1, 0)
    assert [row["raw"] for row in bench.quarantine()] == [b"broken"]
