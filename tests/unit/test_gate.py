import pytest
from pyspark.sql.types import IntegerType, StringType, StructField, StructType

from jobs.pipeline.model import Check, HaltWhen, OnFailure, Quality, Scope
from jobs.pipeline.quality.gate import Gate

SCHEMA = StructType([StructField("a", IntegerType()), StructField("b", StringType())])
EMPTY = {"rows": 0, "bad": 0, "dropped": 0}


def check(type_="expect_column_values_to_not_be_null", scope=Scope.ROW, /, on_failure=OnFailure.EXPECT, **kwargs):
    columns = () if type_.startswith("expect_table_") else ("a",)
    return Check(
        name="c",
        type=type_,
        scope=scope,
        columns=columns,
        kwargs=kwargs,
        on_failure=on_failure,
        file="s.json",
        line=1,
    )


def gate(*checks, above=None):
    """A gate without Columns, for they need a JVM."""
    halt_when = None if above is None else HaltWhen(quarantined_share_above=above)
    columns = dict.fromkeys(
        ("flags", "directions", "source_counts", "source_gathered", "gate_counts", "gate_gathered"), ()
    )
    return Gate(checks=checks, quality=Quality(halt_when=halt_when), schema=SCHEMA, record=set(), **columns)


@pytest.mark.parametrize(
    ("type_", "kwargs", "success"),
    [
        ("expect_column_to_exist", {"column_index": None}, True),
        ("expect_column_to_exist", {"column_index": 0}, True),
        ("expect_column_to_exist", {"column_index": 1}, False),
        ("expect_column_values_to_be_of_type", {"type_": "IntegerType"}, True),
        ("expect_column_values_to_be_of_type", {"type_": "StringType"}, False),
        ("expect_column_values_to_be_in_type_list", {"type_list": ["LongType", "IntegerType"]}, True),
        ("expect_column_values_to_be_in_type_list", {"type_list": ["LongType"]}, False),
        ("expect_column_values_to_be_in_type_list", {"type_list": ["INTEGER", "decimal", "IntegerType"]}, True),
        ("expect_table_columns_to_match_set", {"column_set": ["b", "a"], "exact_match": True}, True),
        ("expect_table_columns_to_match_set", {"column_set": ["a"], "exact_match": True}, False),
        ("expect_table_columns_to_match_set", {"column_set": ["a"], "exact_match": False}, True),
        ("expect_table_columns_to_match_set", {"column_set": ["c"], "exact_match": False}, False),
    ],
)
def test_a_schema_check_looks_at_names_and_types_alone(type_, kwargs, success):
    (result,) = gate(check(type_, Scope.SCHEMA, **kwargs)).judge(EMPTY, EMPTY).results
    assert result.success is success


@pytest.mark.parametrize(
    ("type_", "kwargs", "found"),
    [
        ("expect_column_to_exist", {"column_index": 1}, "a in place 0"),
        ("expect_column_values_to_be_of_type", {"type_": "StringType"}, "a as IntegerType"),
        ("expect_table_columns_to_match_set", {"column_set": ["z", "a"], "exact_match": True}, "no z, b besides"),
        ("expect_table_columns_to_match_set", {"column_set": ["z", "a"], "exact_match": False}, "no z"),
        ("expect_table_columns_to_match_set", {"column_set": ["a", "b"], "exact_match": True}, None),
    ],
)
def test_a_schema_check_that_fails_says_what_it_found(type_, kwargs, found):
    (result,) = gate(check(type_, Scope.SCHEMA, **kwargs)).judge(EMPTY, EMPTY).results
    assert result.found == found


def test_a_schema_check_names_the_column_that_is_missing():
    missing = check("expect_column_to_exist", Scope.SCHEMA, column_index=None).model_copy(update={"columns": ("z",)})
    assert gate(missing).judge(EMPTY, EMPTY).results[0].found == "no z"
