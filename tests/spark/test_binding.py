"""What only the first batch would show is found before it, over the columns that the checks look at."""

import json

import pytest
from pyspark.sql.types import StructType

from jobs.pipeline.model import OnFailure
from jobs.pipeline.quality.binding import find_problems
from jobs.pipeline.quality.suite import parse_suite

DDL = "i INT, d DOUBLE, t STRING, day DATE, s STRUCT<x: INT>, a ARRAY<INT>, m MAP<STRING, INT>"


def problems_of(spark, *expectations):
    suite = {"expectations": [{"type": f"expect_{kind}", "kwargs": kwargs} for kind, kwargs in expectations]}
    checks = parse_suite(json.dumps(suite), "s.json", OnFailure.QUARANTINE)
    return [problem.message for problem in find_problems(checks, StructType.fromDDL(DDL), spark)]


@pytest.mark.parametrize(
    ("kind", "kwargs", "says"),
    [
        ("column_values_to_be_of_type", {"column": "i", "type_": "decimal"}, "did you mean 'DecimalType'"),
        ("column_values_to_be_of_type", {"column": "i", "type_": "Row"}, "no Spark type Row"),
        ("column_values_to_be_in_type_list", {"column": "i", "type_list": ["datetime", "INTEGER"]}, "datetime or INTEGER"),
        ("column_values_to_be_of_type", {"column": "s.y", "type_": "IntegerType"}, "no column 's.y'"),
    ],
)  # fmt: skip
def test_a_check_that_no_batch_could_pass_is_a_problem(spark, kind, kwargs, says):
    [message] = problems_of(spark, (kind, kwargs))
    assert says in message


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("column_values_to_be_in_type_list", {"column": "i", "type_list": ["INTEGER", "DECIMAL", "DecimalType"]}),
        ("column_values_to_be_of_type", {"column": "s.x", "type_": "IntegerType"}),
    ],
)
def test_a_check_that_a_batch_could_pass_is_none(spark, kind, kwargs):
    assert problems_of(spark, (kind, kwargs)) == []
