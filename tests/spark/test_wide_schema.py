"""Schemas of many columns: planning a batch must not take more and more memory with each of them."""

import json

import pytest
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StructField, StructType

from jobs.pipeline.sources.text_values import compile_csv, compile_json

COLUMNS = [(f"c{index}", "DOUBLE" if index % 2 else "TIMESTAMP") for index in range(60)]
"""Types whose values the parser tests."""
GOOD = {name: 1.5 if type_ == "DOUBLE" else "2026-01-01T00:00:00Z" for name, type_ in COLUMNS}
UNFIT, MALFORMED = GOOD | {"c59": -1.5}, GOOD | {"c59": "x"}


def as_line(format_, row):
    return json.dumps(row) if format_ == "json" else ",".join(map(str, row.values()))


@pytest.mark.parametrize("format_", ["json", "csv"])
def test_sixty_columns_whose_values_are_tested_pass_the_gate(bench, expect, format_):
    not_null = [expect("column_values_to_not_be_null", name) for name, _ in COLUMNS]
    between = [
        expect("column_values_to_be_between", name, min_value=0, name=f"{name} below zero")
        for name, type_ in COLUMNS
        if type_ == "DOUBLE"
    ]
    bench.suite(*not_null, *between)
    bench.define_files(format_, ddl=", ".join(map(" ".join, COLUMNS)))
    bench.write(f"landing/a.{format_}", "\n".join(as_line(format_, row) for row in (GOOD, UNFIT, MALFORMED, GOOD)))
    bench.run()
    assert [row["c59"] for row in bench.target()] == [1.5, 1.5]
    assert sorted(row["_errors"][0]["check"] for row in bench.quarantine()) == ["c59 below zero", "malformed"]


@pytest.mark.parametrize("compile_parser", [compile_json, compile_csv])
def test_spark_analyses_a_thousand_columns_whose_values_are_tested(spark, compile_parser):
    schema = StructType([StructField(f"c{index}", DoubleType()) for index in range(1_000)])
    lines = spark.range(0).select(F.lit("").alias("line"))
    parser = compile_parser(F.struct(F.col("line").alias("raw")).alias("_record"), F.col("line"), schema, {})
    assert parser(lines).columns == ["_record", "_malformed", *schema.fieldNames()]
