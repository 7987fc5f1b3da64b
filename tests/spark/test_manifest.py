"""A batch that is committed in part is finished by the rules that began it, whatever became of conf meanwhile."""

import importlib
import shutil
import sys

import pytest

from jobs.pipeline.errors import BatchHeldError, ConfError, EsclusaError, TransformChangedError
from jobs.pipeline.failpoints import Point, arm
from jobs.pipeline.manifest import read_manifest

CSV = "{header: true}"
DOUBLED = "def double(df):\n    return df.withColumn('id', df.id * {factor})\n"


def small(expect, limit):
    return expect("column_values_to_be_between", "id", max_value=limit, name="small")


def crash_at(point, monkeypatch):
    monkeypatch.setattr("jobs.pipeline.commit.reach", arm(f"{point}:1:raise"))


@pytest.fixture
def crashed(bench, expect, monkeypatch):
    """Rows 1, 5 and 9 under `id <= 6`, crashed between quarantine and target."""
    bench.suite(small(expect, 6))
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", "id,name\n1,a\n5,b\n9,c\n")
    crash_at(Point.QUARANTINE_AFTER, monkeypatch)
    with pytest.raises(EsclusaError):
        bench.run()
    assert (len(bench.target()), [row["raw"] for row in bench.quarantine()]) == (0, [b"9,c"])
    return bench


@pytest.mark.fault("D5")
def test_rules_edited_between_crash_and_restart_start_with_the_next_batch(crashed, expect):
    crashed.suite(small(expect, 3))
    crashed.write("landing/b.csv", "id,name\n5,d\n2,e\n")
    crashed.run()
    assert sorted((row["id"], row["name"]) for row in crashed.target()) == [(1, "a"), (2, "e"), (5, "b")]
    assert sorted(row["raw"] for row in crashed.quarantine()) == [b"5,d", b"9,c"]
    first, second = (row["rules_fingerprint"] for row in crashed.ledger())
    assert first != second
    assert {row["batch_id"]: row["rules_fingerprint"] for row in crashed.quarantine()} == {0: first, 1: second}


def test_without_the_manifest_the_edit_would_tear_the_batch_apart(crashed, expect):
    """The baseline: row 5 would be in neither table, so the counts stop the run."""
    (crashed.folder / "state/checkpoints/p/esclusa/manifest.json").unlink()
    crashed.suite(small(expect, 3))
    with pytest.raises(EsclusaError, match="does not add up: 1 rows in the quarantine, 2 expected"):
        crashed.run()


@pytest.mark.fault("D1")
def test_replay_keeps_the_clock_of_the_first_attempt(bench, monkeypatch):
    bench.define_files("csv", CSV, rest="transforms: [{sql: 'SELECT *, :batch_time AS loaded_at FROM input'}]")
    bench.write("landing/a.csv", "id,name\n1,a\nbroken\n")
    crash_at(Point.TARGET_AFTER, monkeypatch)
    with pytest.raises(EsclusaError):
        bench.run()
    manifest = read_manifest(bench.spark, str(bench.folder / "state/checkpoints/p"), 0)
    [loaded] = bench.target()
    assert loaded["loaded_at"] == manifest.batch_time
    bench.run()
    assert [row["quarantined_at"] for row in bench.quarantine()] == [manifest.batch_time]
    assert len(bench.ledger()) == 1


def test_batch_of_which_nothing_is_committed_takes_mended_rules(bench, expect):
    bench.suite(expect("column_values_to_be_between", "id", max_value=3, name="small", on_failure="expect_or_fail"))
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", "id,name\n1,a\n5,b\n")
    with pytest.raises(BatchHeldError):
        bench.run()
    bench.suite(small(expect, 9))
    bench.run()
    assert len(bench.target()) == 2


def test_code_of_a_transform_that_changed_under_a_batch_in_part_is_refused(bench, monkeypatch):
    bench.write("jobs/transforms/twice.py", DOUBLED.format(factor=2))
    bench.define_files("csv", CSV, rest="transforms: [{python: twice.double}]")
    bench.write("landing/a.csv", "id,name\n1,a\nbroken\n")
    crash_at(Point.QUARANTINE_AFTER, monkeypatch)
    with pytest.raises(EsclusaError):
        bench.run()
    monkeypatch.setattr("jobs.pipeline.stages.hash_functions", lambda pipeline: ["another"])
    with pytest.raises(TransformChangedError, match="committed in part"):
        bench.run()
    monkeypatch.undo()
    bench.run()
    assert [row["id"] for row in bench.target()] == [2]


@pytest.mark.fault("D1", "D2")
@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("rand()", "result a replay would change"),
        ("uuid()", "result a replay would change"),
        ("monotonically_increasing_id()", "result a replay would change"),
        ("shuffle(array(id, 2))", "result a replay would change"),
        ("current_timestamp()", ":batch_time"),
        ("now()", ":batch_time"),
        ("current_date", ":batch_time"),
        ("localtimestamp()", ":batch_time"),
    ],
)
def test_transform_that_a_replay_would_see_otherwise_is_refused(bench, expression, reason):
    bench.define_files("csv", CSV, rest=f"transforms: [{{sql: 'SELECT *, {expression} AS x FROM input'}}]")
    with pytest.raises(ConfError, match=reason):
        bench.run()


@pytest.mark.fault("D2")
def test_python_transform_that_a_replay_would_see_otherwise_is_refused(bench):
    code = "from pyspark.sql import functions as F\ndef add(df):\n    return df.withColumn('x', F.rand())\n"
    bench.write("jobs/transforms/random_column.py", code)
    bench.define_files("csv", CSV, rest="transforms: [{python: random_column.add}]")
    with pytest.raises(ConfError, match="p.yml:2: transforms"):
        bench.run()


@pytest.mark.fault("D3", "D4")
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("df.dropDuplicates(['id'])", "keeps some of several rows"),
        ("df.limit(1)", "keeps some of several rows"),
        ("df.sample(0.5, seed=1)", "keeps some of several rows"),
        ("df.withColumn('n', F.row_number().over(Window.orderBy('id')))", "keeps some of several rows"),
        ("df.join(df.sparkSession.read.format('delta').load('{lookup}'), 'id')", "reads a table or files"),
        ("df.join(df.sparkSession.read.parquet('{lookup}'), 'id')", "reads a table or files"),
        ("df.where('id IN (SELECT id FROM delta.`{lookup}`)')", "reads a table or files"),
        ("df.groupBy('id').applyInPandas(lambda rows: rows, df.schema)", "groups rows"),
    ],
)
def test_python_transform_that_depends_on_more_than_the_row_is_refused(bench, code, reason):
    lookup = str(bench.folder / "lookup")
    bench.spark.range(3).write.format("delta").save(lookup)
    bench.spark.conf.set("spark.databricks.delta.formatCheck.enabled", "false")
    body = f"    return {code.format(lookup=lookup)}\n"
    bench.write("jobs/transforms/wide.py", f"from pyspark.sql import Window, functions as F\ndef widen(df):\n{body}")
    sys.modules.pop("jobs.transforms.wide", None)
    bench.define_files("csv", CSV, rest="transforms: [{python: wide.widen}]")
    with pytest.raises(ConfError, match=reason):
        bench.run()
    bench.spark.conf.unset("spark.databricks.delta.formatCheck.enabled")


def test_python_transform_may_bring_a_lookup_of_its_own(bench):
    bench.write(
        "jobs/transforms/named.py",
        "def name(df):\n    names = df.sparkSession.createDataFrame([(1, 'one')], 'id INT, word STRING')\n"
        "    return df.join(names, 'id', 'left')\n",
    )
    bench.define_files("csv", CSV, rest="transforms: [{python: named.name}]")
    bench.write("landing/a.csv", "id,name\n1,a\n2,b\n")
    bench.run()
    assert sorted((row["id"], row["word"]) for row in bench.target()) == [(1, "one"), (2, None)]


@pytest.mark.fault("D2")
def test_row_condition_that_a_replay_would_see_otherwise_is_refused(bench, expect):
    condition = {"row_condition": "id > rand()", "condition_parser": "spark"}
    bench.suite(expect("column_values_to_not_be_null", "name", **condition))
    bench.define_files("csv", CSV)
    with pytest.raises(ConfError, match="result a replay would change"):
        bench.run()


EXTRA = "transforms: [{sql: 'SELECT *, 1 AS extra FROM input'}]"


def test_a_batch_of_which_nothing_is_committed_takes_todays_columns_too(bench, monkeypatch):
    bench.define_files("csv", CSV)
    bench.write("landing/a.csv", "id,name\n1,a\n")
    crash_at(Point.TARGET_STAGED, monkeypatch)
    with pytest.raises(EsclusaError):
        bench.run()
    bench.spark.sql(f"ALTER TABLE delta.`{bench.folder}/lake/p` ADD COLUMN extra INT")
    bench.define_files("csv", CSV, rest=EXTRA)
    bench.run()
    assert bench.target() == [{"id": 1, "name": "a", "extra": 1}]


def test_a_batch_of_which_nothing_is_committed_needs_nothing_that_the_earlier_conf_named(bench, monkeypatch):
    bench.write("jobs/transforms/passing.py", DOUBLED.format(factor=2))
    old = bench.folder / "old/p"
    sink = f"sink: {{type: delta, path: {old}}}"
    bench.define_files("csv", CSV, rest=f"transforms: [{{python: passing.double}}]\n{sink}")
    bench.write("landing/a.csv", "id,name\n1,a\n")
    crash_at(Point.TARGET_STAGED, monkeypatch)
    with pytest.raises(EsclusaError):
        bench.run()
    (bench.folder / "jobs/transforms/passing.py").unlink()
    shutil.rmtree(old.parent)
    forget(bench, "passing", monkeypatch)
    bench.define_files("csv", CSV)
    bench.run()
    assert bench.target() == [{"id": 1, "name": "a"}]
    assert not old.parent.exists()


def test_a_transform_that_is_gone_under_a_batch_in_part_is_asked_for(bench, monkeypatch):
    bench.write("jobs/transforms/missed.py", DOUBLED.format(factor=2))
    bench.define_files("csv", CSV, rest="transforms: [{python: missed.double}]")
    bench.write("landing/a.csv", "id,name\n1,a\nbroken\n")
    crash_at(Point.QUARANTINE_AFTER, monkeypatch)
    with pytest.raises(EsclusaError):
        bench.run()
    (bench.folder / "jobs/transforms/missed.py").rename(bench.folder / "missed.kept")
    forget(bench, "missed", monkeypatch)
    bench.define_files("csv", CSV)
    with pytest.raises(TransformChangedError, match="Put the earlier code back"):
        bench.run()
    (bench.folder / "missed.kept").rename(bench.folder / "jobs/transforms/missed.py")
    bench.run()
    assert bench.target() == [{"id": 2, "name": "a"}]


def test_a_batch_that_the_ledger_has_as_done_binds_nobody(bench, monkeypatch):
    """Killed before Spark's own mark; then table, columns and the code of a transform change."""
    bench.write("jobs/transforms/recorded.py", DOUBLED.format(factor=2))
    bench.define_files("csv", CSV, rest="transforms: [{python: recorded.double}]")
    bench.write("landing/a.csv", "id,name\n1,a\n")
    crash_at(Point.LEDGER_AFTER, monkeypatch)
    with pytest.raises(EsclusaError):
        bench.run()
    (bench.folder / "jobs/transforms/recorded.py").unlink()
    forget(bench, "recorded", monkeypatch)
    bench.spark.sql(f"ALTER TABLE delta.`{bench.folder}/lake/p` ADD COLUMN extra INT")
    bench.define_files("csv", CSV, rest=EXTRA)
    bench.write("landing/b.csv", "id,name\n3,b\n")
    bench.run()
    assert sorted((row["id"], row["extra"]) for row in bench.target()) == [(2, None), (3, 1)]


def forget(bench, module, monkeypatch):
    """As in a new process. Each of these modules has a name of its own: folders of other tests stay on the path."""
    monkeypatch.delitem(sys.modules, f"jobs.transforms.{module}")
    importlib.invalidate_caches()
    shutil.rmtree(bench.folder / "jobs/transforms/__pycache__", ignore_errors=True)
