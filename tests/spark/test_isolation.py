"""Rows that make a transform or a check fail at run time (P18)."""

import json

import pytest

from jobs.pipeline import isolation
from jobs.pipeline.errors import EsclusaError, TransformError

DDL = "id INT, name STRING, tags ARRAY<INT>"
GOOD = [{"id": number, "name": str(number), "tags": [1, 2]} for number in range(1, 9)]
TRANSFORMS = """
transforms:
  - sql: SELECT *, 100 / id AS share FROM input
  - sql: SELECT *, CAST(name AS INT) AS number, tags[1] AS second FROM input
  - python: fragile.refuse_13
"""
UDF = """
from pyspark.sql import functions as F

def refuse_13(df):
    def refuse(number):
        if number == 1313:
            raise ValueError("not thirteen")
        return number
    return df.withColumn("checked", F.udf(refuse, "int")("id"))
"""


def land(bench, *bad):
    records = [*GOOD[:4], *bad, *GOOD[4:]]
    bench.write("landing/a.json", "".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.fault("P18")
def test_rows_that_make_a_transform_or_check_fail_are_set_apart_with_the_reason(bench, expect):
    condition = {"row_condition": "1000 / (id - 500) > 1", "condition_parser": "spark"}
    bench.suite(expect("column_values_to_not_be_null", "name", **condition))
    bench.write("jobs/transforms/fragile.py", UDF)
    bench.define_files("json", ddl=DDL, rest=TRANSFORMS)
    bad = {
        "transforms[0] failed: [DIVIDE_BY_ZERO]": {"id": 0, "name": "1", "tags": [1, 2]},
        "transforms[1] failed: [CAST_INVALID_INPUT]": {"id": 1, "name": "x", "tags": [1, 2]},
        "transforms[1] failed: [INVALID_ARRAY_INDEX]": {"id": 1, "name": "1", "tags": []},
        "transforms[2] failed: ValueError: not thirteen": {"id": 1313, "name": "1", "tags": [1, 2]},
        "a check failed: [DIVIDE_BY_ZERO]": {"id": 500, "name": "1", "tags": [1, 2]},
    }
    land(bench, *bad.values())
    bench.write("landing/b.json", b'{"id": 1\n')
    [batch] = bench.run()
    assert len(bench.target()) == len(GOOD)
    assert (batch.verdict.rows_read, batch.verdict.rows_quarantined) == (len(GOOD) + 6, 6)
    found = {row["raw"].decode(): row["_errors"][0]["message"] for row in bench.quarantine()}
    for reason, record in bad.items():
        assert found[json.dumps(record)].startswith(reason)


@pytest.mark.fault("P18")
def test_a_row_that_overflows_where_spark_wraps_no_exception_is_set_apart(bench):
    transform = "transforms:\n  - sql: SELECT *, timestamp_millis(at) AS sent FROM input"
    bench.define_files("json", ddl="at BIGINT", rest=transform)
    bench.write("landing/a.json", '{"at": 1764000000000}\n{"at": 1764000000000000000}\n')
    bench.run()
    assert [row["at"] for row in bench.target()] == [1764000000000]
    [row] = bench.quarantine()
    assert row["_errors"][0]["message"] == "transforms[0] failed: long overflow"


def test_more_failing_rows_than_can_be_looked_for_stop_the_run_with_an_example(bench, monkeypatch):
    monkeypatch.setattr(isolation, "MAX_FAILING_ROWS", 2)
    bench.define_files("json", ddl=DDL, rest="transforms:\n  - sql: SELECT *, 100 / id AS share FROM input")
    land(bench, *({"id": 0, "name": str(number), "tags": []} for number in range(4)))
    with pytest.raises(
        TransformError, match=r"more than 2 rows of batch 0 .* transforms\[0\] failed: \[DIVIDE_BY_ZERO"
    ):
        bench.run()
    assert bench.target() == []
    bench.define_files("json", ddl=DDL, rest="transforms:\n  - sql: SELECT *, try_divide(100, id) AS share FROM input")
    bench.run()
    assert len(bench.target()) == len(GOOD) + 4


def test_failing_row_and_corrupt_file_in_one_batch(bench):
    bench.define_files("json", ddl=DDL, rest="transforms:\n  - sql: SELECT *, 100 / id AS share FROM input")
    land(bench, {"id": 0, "name": "0", "tags": []})
    bench.write("landing/b.json.gz", b"no gzip\n")
    bench.run()
    assert (len(bench.target()), len(bench.quarantine())) == (len(GOOD), 2)


def test_a_function_of_a_bundles_module_runs_in_workers_that_do_not_know_the_module(bench):
    bench.write(
        "jobs/transforms/own_module.py",
        """
from pyspark.sql import functions as F

def double(number):
    return 2 * number

@F.udf("int")
def doubled(number):
    return double(number)

def add(df):
    return df.withColumn("twice", doubled("id")).withColumn("again", F.udf(double, "int")("id"))
""",
    )
    bench.define_files("json", ddl="id INT", rest="transforms: [{python: own_module.add}]")
    bench.write("landing/a.json", '{"id": 1}\n')
    bench.run()
    assert bench.target() == [{"id": 1, "twice": 2, "again": 2}]


def test_what_workers_lack_is_no_fault_of_a_row(bench):
    bench.write(
        "jobs/transforms/lacking.py",
        """
from pyspark.sql import functions as F

def add(df):
    def look(number):
        import no_such_module
    return df.withColumn("x", F.udf(look, "int")("id"))
""",
    )
    bench.define_files("json", ddl="id INT", rest="transforms: [{python: lacking.add}]")
    bench.write("landing/a.json", '{"id": 1}\n')
    with pytest.raises(EsclusaError, match="no_such_module"):
        bench.run()
    assert bench.quarantine() == []
