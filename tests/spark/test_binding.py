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
        ("column_value_lengths_to_equal", {"column": "a", "value": 1}, "ARRAY<INT>"),
        ("column_value_lengths_to_be_between", {"column": "s", "min_value": 1}, "STRUCT<x: INT>"),
        ("column_pair_values_to_be_equal", {"column_A": "m", "column_B": "m"}, "MAP<STRING, INT>"),
        ("column_pair_values_to_be_equal", {"column_A": "a", "column_B": "s"}, "ARRAY<INT>"),
        *[
            ("column_values_to_be_between", {"column": "day", "min_value": f"2013-06-01{rest}"}, "cannot be compared")
            for rest in ("T1230", "x12:00", "T12:30Z", "T12:30:15,5", "T12:30:15+18:30")
        ],
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
        ("column_values_to_not_be_null", {"column": "m"}),
        ("column_pair_values_to_be_equal", {"column_A": "a", "column_B": "a"}),
        *[
            ("column_values_to_be_between", {"column": "day", "max_value": f"2013-06-01{rest}"})
            for rest in ("", "T12:30", " 12:30:15.5", "T12:30:15Z", "T12:30:15.123456-05:30")
        ],
    ],
)
def test_a_check_that_a_batch_could_pass_is_none(spark, kind, kwargs):
    assert problems_of(spark, (kind, kwargs)) == []
