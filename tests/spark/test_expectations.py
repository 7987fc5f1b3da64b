"""Every compiled check: a table of values against plain Python, and random frames against Great Expectations itself."""

import json
import math
import os
import re
from datetime import UTC, date, datetime
from decimal import Decimal

import great_expectations as gx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import Observation

from jobs.pipeline.model import OnFailure, Quality
from jobs.pipeline.quality.gate import annotate, compile_gate
from jobs.pipeline.quality.suite import parse_suite

NAN, INF = math.nan, math.inf


def count_all(spark, rows, ddl, *expectations):
    """Results of all expectations over the rows, from one scan."""
    suite = {"name": "s", "expectations": list(expectations)}
    checks = parse_suite(json.dumps(suite), "s.json", OnFailure.QUARANTINE)
    frame = spark.createDataFrame(rows, ddl).selectExpr("struct(cast(null as binary) raw) AS _record", "*")
    gate = compile_gate(checks, Quality(), frame)
    seen = Observation()
    annotate(frame, gate).observe(seen, *gate.gate_counts).write.format("noop").mode("overwrite").save()
    return gate.judge({"rows": len(rows), "bad": 0}, seen.get).results


def count(spark, rows, ddl, expectation):
    [result] = count_all(spark, rows, ddl, expectation)
    return result


def between(low, high, strict_low=False, strict_high=False):
    def holds(value):
        if isinstance(value, float) and math.isnan(value):  # Spark: NaN is greater than any number
            return high is None
        above = low is None or (value > low if strict_low else value >= low)
        return above and (high is None or (value < high if strict_high else value <= high))

    return holds


def parses(format_):
    def holds(value):
        try:
            datetime.strptime(value, format_)
        except ValueError:
            return False
        return True

    return holds


def is_json(value):
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


INTS = [None, 0, 1, 5, 10, -1, 2**31 - 1, -(2**31)]
DOUBLES = [None, 0.0, -0.0, 1.5, NAN, INF, -INF, 5e-324]
TEXTS = [None, "", "a", "A", "abc", "a\n", " a ", "ünï", "日本語", "\U0001f600", "a.b", "^a$", "NULL"]
DATES = [
    None, "", "2013-01-31", "2013-1-1", "2013-02-29", "2012-02-29", "2013-13-01", "0000-01-01", "9999-12-31",
    "2013-01-32", " 2013-01-01", "2013-01-01 ", "2013-01-01T00:00", "13-01-01", "2013-00-10", "2013-01-00", "2013-04-31",
]  # fmt: skip
JSONS = [
    None, "", " ", "{}", "[]", "1", '"x"', "null", "true", "nul", "{", '{"a":1} x', '{"a":1}{"b":2}', "[1,]", "1,2",
    "NaN", "-Infinity", "-NaN", '{"a":NaN}', "[Infinity, 1]", '"NaN"', '{"a":1,"a":2}', "01", "1.", ".5", "+1", "1e999",
    "'a'", '"\\ud800"', '"a\\x"', '"tab\t"', "[[[[]]]]", " 1 ", "\ufeff1", "{a:1}", "// c\n1", '{"a":1,}', "-", "1 2", "]1[", "1]",
    "-INF", "+INF", "+Infinity", "INF", '{"a": [1, -INF]}', '"-INF"', '{"+INF": "\\"+INF", "a": "\\\\"}', '["\\\\", +INF, ""]',
    '{"a": 1}]}', "1]} anything", '1],"v":[2', '1,{"v":true}',
]  # fmt: skip
STAMPS = [
    None,
    datetime(2013, 1, 1, tzinfo=UTC),
    datetime(2013, 6, 1, 12, tzinfo=UTC),
    datetime(2014, 1, 1, tzinfo=UTC),
]
DAYS = [None, date(2013, 5, 31), date(2013, 6, 1), date(2013, 6, 2)]
LOCAL_STAMPS = [None, datetime(2013, 6, 1, 9), datetime(2013, 6, 1, 10)]  # noqa: DTZ001

TABLE = [
    ("values_to_be_between", {"min_value": 0, "max_value": 10}, "INT", INTS, between(0, 10)),
    ("values_to_be_between", {"min_value": 0, "max_value": 10, "strict_min": True}, "INT", INTS, between(0, 10, True)),
    ("values_to_be_between", {"min_value": 0, "max_value": 10, "strict_max": True}, "INT", INTS, between(0, 10, False, True)),
    ("values_to_be_between", {"max_value": 1.5}, "DOUBLE", DOUBLES, between(None, 1.5)),
    ("values_to_be_between", {"min_value": 0}, "DOUBLE", DOUBLES, between(0, None)),
    ("values_to_be_between", {"min_value": "b", "max_value": "c"}, "STRING", TEXTS, between("b", "c")),
    ("values_to_be_between", {"min_value": 1}, "DECIMAL(38,10)", [None, Decimal("0.9999999999"), Decimal(1)], between(1, None)),
    ("values_to_be_between", {"min_value": "2013-06-01"}, "DATE", [None, date(2013, 5, 31), date(2013, 6, 1)],
     lambda v: v >= date(2013, 6, 1)),
    ("values_to_be_between", {"min_value": "2013-06-01T12:00:00+00:00"}, "TIMESTAMP", STAMPS,
     lambda v: v >= datetime(2013, 6, 1, 12, tzinfo=UTC)),
    ("values_to_be_between", {"min_value": "2013-05-31T12:00:00", "max_value": "2013-06-01T00:00:00"}, "DATE", DAYS,
     lambda v: v == date(2013, 6, 1)),
    ("values_to_be_between", {"min_value": "2013-06-01T12:00:00+02:00", "max_value": "2013-06-01T12:00:00.5+02:00"},
     "TIMESTAMP_NTZ", LOCAL_STAMPS, lambda v: v == LOCAL_STAMPS[2]),
    ("values_to_be_between", {"min_value": "2013-06-01T00:00:00"}, "STRING", ["2013-06-01", "2013-06-01T01"], lambda v: "T" in v),
    ("values_to_be_in_set", {"value_set": [1, 5]}, "INT", INTS, lambda v: v in {1, 5}),
    ("values_to_be_in_set", {"value_set": ["a", None]}, "STRING", TEXTS, lambda v: v == "a"),
    ("values_to_be_in_set", {"value_set": []}, "INT", INTS, lambda v: False),
    ("values_to_not_be_in_set", {"value_set": ["a", None]}, "STRING", TEXTS, lambda v: v != "a"),
    ("values_to_not_be_in_set", {"value_set": []}, "STRING", TEXTS, lambda v: True),
    ("value_lengths_to_be_between", {"min_value": 1, "max_value": 3}, "STRING", TEXTS, lambda v: 1 <= len(v) <= 3),
    ("value_lengths_to_equal", {"value": 3}, "STRING", TEXTS, lambda v: len(v) == 3),
    ("values_to_match_regex", {"regex": "^a"}, "STRING", TEXTS, lambda v: bool(re.search("^a", v))),
    ("values_to_match_regex", {"regex": "b"}, "STRING", TEXTS, lambda v: "b" in v),
    ("values_to_not_match_regex", {"regex": "[A-Z]"}, "STRING", TEXTS, lambda v: not re.search("[A-Z]", v)),
    ("values_to_match_regex_list", {"regex_list": ["^a", "b"]}, "STRING", TEXTS, lambda v: bool(re.search("^a|b", v))),
    ("values_to_match_regex_list", {"regex_list": ["^a", "b"], "match_on": "all"}, "STRING", TEXTS,
     lambda v: bool(re.search("^a", v) and re.search("b", v))),
    ("values_to_not_match_regex_list", {"regex_list": ["^a", "[A-Z]"]}, "STRING", TEXTS, lambda v: not re.search("^a|[A-Z]", v)),
    ("values_to_match_regex_list", {"regex_list": [f"^{n}$" for n in range(500)]}, "STRING", ["0", "499", "500"], lambda v: v != "500"),
    ("values_to_match_strftime_format", {"strftime_format": "%Y-%m-%d"}, "STRING", DATES, parses("%Y-%m-%d")),
    ("values_to_match_strftime_format", {"strftime_format": "%d/%m"}, "STRING", ["29/02", "28/02", "31/04", "1/1"], parses("%d/%m")),
    ("values_to_match_strftime_format", {"strftime_format": "%b %Y, %I:%M:%S.%f %p"}, "STRING",
     ["Jan 2013, 1:02:03.5 am", "jan 2013,  01:02:60.5 PM", "Jan 2013, 13:02:03.5 am"], parses("%b %Y, %I:%M:%S.%f %p")),
    ("values_to_match_strftime_format", {"strftime_format": "%S%f"}, "STRING", ["60", "609", "619", "599", "6", "62"], parses("%S%f")),
    ("values_to_match_strftime_format", {"strftime_format": "%I:%M %p"}, "STRING",
     ["1:02\u202fPM", "1:02\xa0PM", "1:02\u3000\x1cPM", "1:02\u200bPM", "1:02PM"], parses("%I:%M %p")),
    ("values_to_be_json_parseable", {}, "STRING", JSONS, is_json),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "kwargs", "type_", "values", "holds"), TABLE)
def test_check_counts_what_plain_python_counts(spark, kind, kwargs, type_, values, holds):
    result = count(
        spark,
        [(value,) for value in values],
        f"c {type_}",
        {"type": f"expect_column_{kind}", "kwargs": {"column": "c", **kwargs}},
    )
    present = [value for value in values if value is not None]
    assert result.element_count == len(present)
    assert result.unexpected_count == sum(not holds(value) for value in present)


def test_null_checks_look_at_every_row(spark):
    rows = [(None,), (1,), (None,)]
    not_null = count(spark, rows, "c INT", {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "c"}})
    null = count(spark, rows, "c INT", {"type": "expect_column_values_to_be_null", "kwargs": {"column": "c"}})
    assert (not_null.element_count, not_null.unexpected_count) == (3, 2)
    assert (null.element_count, null.unexpected_count) == (3, 1)


@pytest.mark.parametrize(
    ("ignore", "greater", "equal"),
    [
        ("both_values_are_missing", (4, 3), (4, 3)),
        ("either_value_is_missing", (2, 1), (2, 1)),
        ("neither", (5, 4), (5, 3)),
    ],
)
def test_null_on_one_side_of_a_pair_breaks_it_unless_ignored(spark, ignore, greater, equal):
    """GX's Spark engine lets a one-sided NULL pass 'greater than'; its pandas engine, and we, do not."""
    rows = [(2, 1), (1, 1), (None, 1), (1, None), (None, None)]
    kwargs = {"column_A": "a", "column_B": "b", "ignore_row_if": ignore}
    result = count(
        spark, rows, "a INT, b INT", {"type": "expect_column_pair_values_a_to_be_greater_than_b", "kwargs": kwargs}
    )
    assert (result.element_count, result.unexpected_count) == greater
    result = count(spark, rows, "a INT, b INT", {"type": "expect_column_pair_values_to_be_equal", "kwargs": kwargs})
    assert (result.element_count, result.unexpected_count) == equal


@pytest.mark.parametrize(("mostly", "success"), [(0.5, True), (0.75, True), (0.76, False), (1, False)])
def test_mostly_is_met_at_its_bound(spark, mostly, success):
    expectation = {
        "type": "expect_column_values_to_be_in_set",
        "kwargs": {"column": "c", "value_set": [1], "mostly": mostly},
    }
    assert count(spark, [(1,), (1,), (1,), (2,), (None,)], "c INT", expectation).success is success


SCHEMA_CHECKS = [
    ("column_to_exist", {"column": "a"}, True),
    ("column_to_exist", {"column": "z"}, False),
    ("column_to_exist", {"column": "b", "column_index": 1}, True),
    ("column_to_exist", {"column": "b", "column_index": 0}, True),
    ("column_to_exist", {"column": "b", "column_index": -1}, True),
    ("column_to_exist", {"column": "a", "column_index": -3}, False),
    ("table_columns_to_match_set", {"column_set": []}, False),
    ("table_columns_to_match_set", {"column_set": [], "exact_match": False}, True),
    ("table_columns_to_match_set", {"column_set": ["b", "a"]}, True),
    ("table_columns_to_match_set", {"column_set": ["a"]}, False),
    ("table_columns_to_match_set", {"column_set": ["a"], "exact_match": False}, True),
    ("column_values_to_be_of_type", {"column": "a", "type_": "IntegerType"}, True),
    ("column_values_to_be_of_type", {"column": "a", "type_": "StringType"}, False),
    ("column_values_to_be_of_type", {"column": "a", "type_": "IntegralType"}, True),
    ("column_values_to_be_in_type_list", {"column": "b", "type_list": ["NumericType", "DateType"]}, False),
    ("column_values_to_be_in_type_list", {"column": "b", "type_list": ["StringType", "LongType"]}, True),
    ("table_row_count_to_be_between", {"min_value": 2, "max_value": 2}, True),
    ("table_row_count_to_be_between", {"min_value": 2, "strict_min": True}, False),
    ("table_row_count_to_be_between", {"max_value": 1}, False),
]


@pytest.mark.parametrize(("kind", "kwargs", "success"), SCHEMA_CHECKS)
def test_checks_of_schema_and_batch(spark, kind, kwargs, success):
    expectation = {"type": f"expect_{kind}", "kwargs": kwargs}
    assert count(spark, [(1, "x"), (2, "y")], "a INT, b STRING", expectation).success is success
    assert gx_results(spark, [(1, "x"), (2, "y")], "a INT, b STRING", [expectation])[0][0] is success


NESTED = "a INT, s STRUCT<b: STRING, t: STRUCT<c: INT>>, m MAP<STRING, INT>, l ARRAY<STRUCT<d: INT>>, `p.q` INT"
NESTED_CHECKS = [
    ("column_to_exist", {"column": "s.t.c"}, True),
    ("column_to_exist", {"column": "l.d"}, False),
    ("column_to_exist", {"column": "`p.q`"}, True),
    ("column_to_exist", {"column": "p.q"}, False),
    ("column_to_exist", {"column": "m", "column_index": 5}, True),
    ("table_columns_to_match_set", {"column_set": ["a", "s", "s.b", "s.t", "s.t.c", "m", "l", "`p.q`"]}, True),
    ("table_columns_to_match_set", {"column_set": ["a", "s", "m", "l", "`p.q`"]}, False),
    ("column_values_to_be_of_type", {"column": "s.t.c", "type_": "IntegerType"}, True),
    ("column_values_to_be_in_type_list", {"column": "s.b", "type_list": ["INTEGER", "IntegerType"]}, False),
    ("column_values_to_be_in_type_list", {"column": "s.b", "type_list": ["TEXT", "StringType"]}, True),
]


def test_checks_of_the_columns_see_fields_of_structs_as_great_expectations_does(spark):
    rows = [(1, ("x", (1,)), {"k": 1}, [(1,)], 2)]
    expectations = [{"type": f"expect_{kind}", "kwargs": kwargs} for kind, kwargs, _ in NESTED_CHECKS]
    expected = [success for *_, success in NESTED_CHECKS]
    assert [result.success for result in count_all(spark, rows, NESTED, *expectations)] == expected
    assert [success for success, _ in gx_results(spark, rows, NESTED, expectations)] == expected


def gx_results(spark, rows, ddl, expectations):
    """(success, unexpected count) of each expectation by GX's own Spark engine; it says None for a count of no rows."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_or_update_spark(name="s").add_dataframe_asset(name="a")
    batch = asset.add_batch_definition_whole_dataframe("b").get_batch({"dataframe": spark.createDataFrame(rows, ddl)})
    numbered = [one | {"meta": {"number": number}} for number, one in enumerate(expectations)]  # GX regroups them
    suite = gx.ExpectationSuite(name="s", expectations=numbered)
    results = batch.validate(suite, result_format="SUMMARY").results
    raised = [result.exception_info for result in results if "exception_traceback" in result.exception_info]
    assert all(not info["raised_exception"] for info in raised), raised
    found = {r.expectation_config.meta["number"]: (r.success, r.result.get("unexpected_count") or 0) for r in results}
    return [found[number] for number in range(len(expectations))]


DDL = "i INT, j INT, d DOUBLE, t STRING"
ROW = st.tuples(
    st.none() | st.integers(-3, 12) | st.sampled_from([2**31 - 1, -(2**31)]),
    st.none() | st.integers(-3, 12),
    st.none() | st.sampled_from([0.0, -0.0, 1.5, NAN, INF, -INF]) | st.floats(-20, 20),
    st.none()
    | st.sampled_from(["", "a", "abc", "2013-02-29", "2013-02-28", "1", "{}", "NaN", "a\n", "ünï"])
    | st.text(max_size=5),
)
MOSTLY = st.sampled_from([1.0, 0.9, 0.5, 0.1])
CONDITION = st.sampled_from(
    [
        {},
        {"row_condition": "j > 3", "condition_parser": "spark"},
        {"row_condition": {"type": "nullity", "column": {"name": "j"}, "is_null": False}},
        {"row_condition": {"type": "comparison", "column": {"name": "i"}, "operator": ">=", "parameter": 2}},
        {"row_condition": {"type": "comparison", "column": {"name": "i"}, "operator": "NOT_IN", "parameter": [1, 2]}},
        {
            "row_condition": {
                "type": "or",
                "conditions": [
                    {"type": "nullity", "column": {"name": "i"}, "is_null": True},
                    {"type": "comparison", "column": {"name": "j"}, "operator": "<", "parameter": 5},
                ],
            }
        },
    ]
)
RULES = [
    ("column_values_to_not_be_null", {"column": "i"}),
    ("column_values_to_be_null", {"column": "t"}),
    ("column_values_to_be_in_set", {"column": "i", "value_set": [1, 2, 3]}),
    ("column_values_to_be_in_set", {"column": "t", "value_set": ["a", ""]}),
    ("column_values_to_not_be_in_set", {"column": "t", "value_set": ["a"]}),
    ("column_values_to_be_between", {"column": "i", "min_value": 0, "max_value": 10}),
    ("column_values_to_be_between", {"column": "d", "min_value": -1, "max_value": 10, "strict_min": True}),
    ("column_values_to_be_between", {"column": "d", "min_value": 0}),
    ("column_value_lengths_to_be_between", {"column": "t", "min_value": 1, "max_value": 3}),
    ("column_value_lengths_to_equal", {"column": "t", "value": 1}),
    ("column_values_to_match_regex", {"column": "t", "regex": "^[a-z]+$"}),
    ("column_values_to_not_match_regex", {"column": "t", "regex": "[0-9]"}),
    ("column_values_to_match_regex_list", {"column": "t", "regex_list": ["^a", "1"]}),
    ("column_values_to_match_regex_list", {"column": "t", "regex_list": ["^a", "c"], "match_on": "all"}),
    ("column_values_to_not_match_regex_list", {"column": "t", "regex_list": ["^a", "1"]}),
    ("column_values_to_match_strftime_format", {"column": "t", "strftime_format": "%Y-%m-%d"}),
    ("column_values_to_be_json_parseable", {"column": "t"}),
    ("column_pair_values_to_be_equal", {"column_A": "i", "column_B": "j"}),
    ("column_pair_values_a_to_be_greater_than_b",
     {"column_A": "i", "column_B": "j", "or_equal": True, "ignore_row_if": "either_value_is_missing"}),
]  # fmt: skip


@settings(
    max_examples=int(os.environ.get("ESCLUSA_EXAMPLES", "5")),
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # a smaller example is not worth minutes of Spark jobs
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=st.lists(ROW, min_size=1, max_size=25), mostly=MOSTLY, condition=CONDITION)
def test_success_and_counts_are_great_expectations_own(spark, rows, mostly, condition):
    expectations = [
        {"type": f"expect_{kind}", "kwargs": kwargs | {"mostly": mostly} | condition} for kind, kwargs in RULES
    ]
    ours = [(result.success, result.unexpected_count) for result in count_all(spark, rows, DDL, *expectations)]
    named = [(rule, *found) for rule, found in zip(RULES, ours, strict=True)]
    theirs = [(rule, *found) for rule, found in zip(RULES, gx_results(spark, rows, DDL, expectations), strict=True)]
    assert named == theirs
