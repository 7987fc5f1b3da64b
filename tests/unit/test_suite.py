import json

import pytest

from jobs.pipeline.errors import Problem
from jobs.pipeline.model import OnFailure, Scope
from jobs.pipeline.quality.expectations import ROW_EXPECTATIONS
from jobs.pipeline.quality.parameters import COMPILED
from jobs.pipeline.quality.suite import SuiteError, parse_suite

NOT_NULL = "expect_column_values_to_not_be_null"
BETWEEN = "expect_column_values_to_be_between"
LENGTHS = "expect_column_value_lengths_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"
REGEX = "expect_column_values_to_match_regex"
ROW_COUNT = "expect_table_row_count_to_be_between"

# Parameters for one expectation of every type, as a user of Great Expectations passes them.
EVERY_TYPE = {
    NOT_NULL: {"column": "a", "mostly": 0.9},
    "expect_column_values_to_be_null": {"column": "a"},
    IN_SET: {"column": "a", "value_set": ["x", "y"]},
    "expect_column_values_to_not_be_in_set": {"column": "a", "value_set": [1, 2.5]},
    BETWEEN: {"column": "a", "min_value": 1, "max_value": 2, "strict_max": True},
    LENGTHS: {"column": "a", "min_value": 1, "max_value": 2},
    "expect_column_value_lengths_to_equal": {"column": "a", "value": 3},
    REGEX: {"column": "a", "regex": "^N[0-9]+$"},
    "expect_column_values_to_not_match_regex": {"column": "a", "regex": "^$"},
    "expect_column_values_to_match_regex_list": {"column": "a", "regex_list": ["a", "b"], "match_on": "all"},
    "expect_column_values_to_not_match_regex_list": {"column": "a", "regex_list": ["a", "b"]},
    "expect_column_values_to_match_strftime_format": {"column": "a", "strftime_format": "%Y-%m-%d"},
    "expect_column_values_to_be_json_parseable": {"column": "a"},
    "expect_column_pair_values_to_be_equal": {"column_A": "a", "column_B": "b", "ignore_row_if": "neither"},
    "expect_column_pair_values_a_to_be_greater_than_b": {"column_A": "a", "column_B": "b", "or_equal": True},
    "expect_column_values_to_be_of_type": {"column": "a", "type_": "StringType"},
    "expect_column_values_to_be_in_type_list": {"column": "a", "type_list": ["StringType", "LongType"]},
    "expect_column_to_exist": {"column": "a", "column_index": 0},
    "expect_table_columns_to_match_set": {"column_set": ["a", "b"], "exact_match": False},
    ROW_COUNT: {"min_value": 1, "max_value": 10},
}


NULLITY = {"type": "nullity", "column": {"name": "b"}, "is_null": False}
COMPARISON = {"type": "comparison", "column": {"name": "b"}, "operator": ">", "parameter": 1}
IN = COMPARISON | {"operator": "IN", "parameter": ["x", "y"]}
PASS_THROUGH = {"type": "pass_through", "pass_through_filter": "b > 1"}


def entry(expectation=NOT_NULL, /, esclusa=None, **kwargs):
    return {"type": expectation, "kwargs": kwargs} | ({"meta": {"esclusa": esclusa}} if esclusa is not None else {})


def parse(*entries, default=OnFailure.QUARANTINE):
    return parse_suite(json.dumps({"name": "s", "expectations": entries}, indent=2), "s.json", default)


def refusals(*entries, text=None) -> list[Problem]:
    with pytest.raises(SuiteError) as caught:
        parse_suite(text or json.dumps({"expectations": entries}), "s.json", OnFailure.QUARANTINE)
    return caught.value.problems


def test_row_expectations_are_exactly_those_that_compile_to_columns():
    assert {name for name, kind in COMPILED.items() if kind.scope is Scope.ROW} == set(ROW_EXPECTATIONS)


@pytest.mark.filterwarnings("ignore")
def test_a_suite_that_great_expectations_wrote_is_read():
    import great_expectations as gx  # noqa: PLC0415 - two seconds, for this test alone
    import great_expectations.expectations as gxe  # noqa: PLC0415

    assert EVERY_TYPE.keys() == COMPILED.keys()
    classes = {type_: getattr(gxe, "".join(map(str.capitalize, type_.split("_")))) for type_ in EVERY_TYPE}
    suite = gx.ExpectationSuite(
        "every_type",
        expectations=[
            classes[type_](**kwargs, meta={"esclusa": {"name": type_}}) for type_, kwargs in EVERY_TYPE.items()
        ],
    )
    checks = parse_suite(json.dumps(suite.to_json_dict(), indent=2), "every_type.json", OnFailure.DROP)
    for check, (type_, kwargs) in zip(checks, EVERY_TYPE.items(), strict=True):
        assert (check.name, check.type, check.scope) == (type_, type_, COMPILED[type_].scope)
        assert {**check.kwargs, "mostly": check.mostly}.items() >= {
            (key, value) for key, value in kwargs.items() if not (key.startswith("column") or isinstance(value, list))
        }
        assert check.columns == tuple(kwargs[key] for key in ("column", "column_A", "column_B") if key in kwargs)


@pytest.mark.filterwarnings("ignore")
def test_a_condition_that_great_expectations_wrote_is_kept():
    import great_expectations.expectations as gxe  # noqa: PLC0415
    from great_expectations.expectations.row_conditions import Column  # noqa: PLC0415

    expectation = gxe.ExpectColumnValuesToNotBeNull(column="a", row_condition=(Column("b") > 1) & Column("c").is_null())
    (check,) = parse(expectation.configuration.to_json_dict())
    assert isinstance(check.row_condition, dict)
    assert [part["type"] for part in check.row_condition["conditions"]] == ["comparison", "nullity"]


def test_a_check_has_great_expectations_own_defaults():
    between, pair, regexes, columns = parse(
        entry(BETWEEN, column="a", min_value=1),
        entry("expect_column_pair_values_to_be_equal", column_A="a", column_B="b"),
        entry("expect_column_values_to_match_regex_list", column="a", regex_list=["x"]),
        entry("expect_table_columns_to_match_set", column_set=["a"]),
    )
    assert between.kwargs == {"min_value": 1, "max_value": None, "strict_min": False, "strict_max": False}
    assert (between.mostly, between.row_condition) == (1.0, None)
    assert pair.kwargs == {"ignore_row_if": "both_values_are_missing"}
    assert regexes.kwargs == {"regex_list": ["x"], "match_on": "any"}
    assert columns.kwargs == {"column_set": ["a"], "exact_match": True}


def test_checks_keep_their_order_and_know_their_lines():
    checks = parse(entry(column="b"), entry(column="a"), entry(ROW_COUNT, min_value=1))
    assert [(check.columns, check.line) for check in checks] == [(("b",), 4), (("a",), 10), ((), 16)]


def test_a_suite_indented_with_tabs_has_lines_too():
    text = json.dumps({"expectations": [entry("nope")]}, indent="\t")
    assert refusals(text=text)[0].line == 3


@pytest.mark.parametrize(
    ("names", "unique"),
    [
        ([None, None], ["column_values_to_not_be_null:a", "column_values_to_not_be_null:a#2"]),
        (["x", "y"], ["x", "y"]),
        (["x", "x", "x"], ["x", "x#2", "x#3"]),
    ],
)
def test_a_check_is_named_by_its_meta_or_by_type_and_column(names, unique):
    checks = parse(*(entry(column="a", esclusa=name and {"name": name}) for name in names))
    assert [check.name for check in checks] == unique


@pytest.mark.parametrize("names", [["x", "x", "x#2"], ["x#2", "x", "x"]])
def test_names_are_unique_even_where_they_look_numbered(names):
    checks = parse(*(entry(column="a", esclusa={"name": name}) for name in names))
    assert len({check.name for check in checks}) == len(names)


@pytest.mark.parametrize(
    ("default", "given", "row", "batch"),
    [
        (OnFailure.QUARANTINE, None, OnFailure.QUARANTINE, OnFailure.EXPECT),
        (OnFailure.DROP, None, OnFailure.DROP, OnFailure.EXPECT),
        (OnFailure.EXPECT, None, OnFailure.EXPECT, OnFailure.EXPECT),
        (OnFailure.FAIL, None, OnFailure.FAIL, OnFailure.FAIL),
        (OnFailure.DROP, "expect_or_fail", OnFailure.FAIL, OnFailure.FAIL),
        (OnFailure.FAIL, "expect", OnFailure.EXPECT, OnFailure.EXPECT),
    ],
)
def test_meta_overrides_the_pipelines_on_failure(default, given, row, batch):
    meta = {"on_failure": given} if given else None
    checks = parse(entry(column="a", esclusa=meta), entry(ROW_COUNT, esclusa=meta, min_value=1), default=default)
    assert [check.on_failure for check in checks] == [row, batch]


@pytest.mark.parametrize("choice", ["expect_or_drop", "expect_or_quarantine"])
@pytest.mark.parametrize("type_", [type_ for type_, kind in COMPILED.items() if kind.scope is not Scope.ROW])
def test_a_check_without_rows_cannot_set_rows_apart(type_, choice):
    (problem,) = refusals(entry(type_, esclusa={"on_failure": choice}, **EVERY_TYPE[type_]))
    assert "expect or expect_or_fail" in problem.message


@pytest.mark.parametrize("type_", [type_ for type_, kind in COMPILED.items() if kind.scope is not Scope.ROW])
def test_a_check_without_rows_takes_no_row_condition(type_):
    condition = {"type": "nullity", "column": {"name": "b"}, "is_null": False}
    (problem,) = refusals(entry(type_, **EVERY_TYPE[type_], row_condition=condition))
    assert "row_condition" in problem.message


@pytest.mark.parametrize("type_", [type_ for type_, kind in COMPILED.items() if kind.scope is not Scope.ROW])
def test_a_check_without_rows_takes_no_share_of_them(type_):
    (problem,) = refusals(entry(type_, **EVERY_TYPE[type_], mostly=0.9))
    assert "mostly" in problem.message
    assert parse(entry(type_, **EVERY_TYPE[type_], mostly=1))[0].mostly == 1


@pytest.mark.parametrize(
    "condition",
    [
        NULLITY,
        COMPARISON,
        *[COMPARISON | {"operator": operator} for operator in ("==", "!=", "<", "<=", ">=")],
        *[COMPARISON | {"parameter": parameter} for parameter in ("x", 1.5, True)],
        IN,
        IN | {"operator": "NOT_IN", "parameter": [1, 2.5]},
        IN | {"parameter": []},
        {"type": "and", "conditions": [NULLITY, {"type": "or", "conditions": [COMPARISON, IN]}]},
        PASS_THROUGH,
    ],
)
def test_a_condition_is_kept_as_it_is_written(condition):
    assert parse(entry(column="a", row_condition=condition))[0].row_condition == condition


@pytest.mark.parametrize(
    "parser", ["spark", "great_expectations", "great_expectations__experimental__", "pandas", None]
)
def test_condition_objects_stand_beside_any_of_great_expectations_parsers(parser):
    assert parse(entry(column="a", row_condition=NULLITY, condition_parser=parser))[0].row_condition == NULLITY


def test_a_condition_nested_too_deeply_is_refused():
    condition = NULLITY
    for _ in range(400):
        condition = {"type": "and", "conditions": [condition]}
    assert "row_condition" in refusals(entry(column="a", row_condition=condition))[0].message


@pytest.mark.parametrize(
    ("beside", "says"),
    [
        ({"mostly": 0.9}, "mostly: is not read beside kwargs; put it into kwargs"),
        ({"row_condition": "a > 1"}, "row_condition: is not read beside kwargs; put it into kwargs"),
        ({"column": "b"}, "column: is not read beside kwargs; put it into kwargs"),
        ({"on_failure": "expect"}, "on_failure: is not read here; put it into meta.esclusa"),
        ({"meta": {"on_failure": "expect"}}, "meta.on_failure: is not read here; put it into meta.esclusa"),
        (
            {"meta": {"on_failure": "expect", "esclusa": {}}},
            "meta.on_failure: is not read here; put it into meta.esclusa",
        ),
    ],
)
def test_what_stands_on_the_wrong_level_is_refused(beside, says):
    assert [problem.message for problem in refusals(entry(column="a") | beside)] == [says]


@pytest.mark.parametrize("meta", [None, {}, {"esclusa": None}, {"esclusa": {}}])
def test_a_meta_that_is_empty_says_nothing(meta):
    (check,) = parse(entry(column="a") | {"meta": meta})
    assert check.on_failure is OnFailure.QUARANTINE


@pytest.mark.parametrize(
    ("type_", "says"),
    [
        ("expect_column_values_to_be_betwen", "did you mean expect_column_values_to_be_between"),
        ("expect_column_mean_to_be_between", "'expect_column_mean_to_be_between' cannot be compiled"),
        ("expect_my_own_thing", "allowed: expect_column_pair_values_a_to_be_greater_than_b, "),
    ],
)
def test_an_unknown_expectation_is_refused_by_name(type_, says):
    (problem,) = refusals(entry(column="a"), entry(type_, column="a"))
    assert problem.path == "expectations[1]"
    assert says in problem.message


@pytest.mark.parametrize(
    ("type_", "kwargs", "where"),
    [
        (NOT_NULL, {}, "kwargs.column"),
        (NOT_NULL, {"column": ""}, "kwargs.column"),
        (NOT_NULL, {"column": 1}, "kwargs.column"),
        (NOT_NULL, {"column": "a", "colour": 1}, "kwargs.colour"),
        (NOT_NULL, {"column": "a", "mostly": 1.01}, "kwargs.mostly"),
        (NOT_NULL, {"column": "a", "mostly": -0.1}, "kwargs.mostly"),
        (NOT_NULL, {"column": "a", "row_condition": "b > 1", "condition_parser": "pandas"}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": "b > 1"}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": {"kind": "x"}}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": {"type": "xor", "conditions": []}}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": {"type": "and", "conditions": []}}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": [NULLITY]}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": ""}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": NULLITY | {"column": "b"}}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": NULLITY | {"is_null": 1}}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": NULLITY | {"more": 1}}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": COMPARISON | {"operator": "LIKE"}}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": COMPARISON | {"operator": "IN"}}, "a list"),
        (NOT_NULL, {"column": "a", "row_condition": COMPARISON | {"parameter": [1]}}, "one value"),
        (NOT_NULL, {"column": "a", "row_condition": COMPARISON | {"parameter": None}}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": COMPARISON | {"parameter": {"x": 1}}}, "row_condition"),
        (NOT_NULL, {"column": "a", "row_condition": IN | {"parameter": [1, "x"]}}, "one kind"),
        (NOT_NULL, {"column": "a", "row_condition": {"type": "or", "conditions": [PASS_THROUGH]}}, "on its own"),
        (NOT_NULL, {"column": "a", "row_condition": PASS_THROUGH, "condition_parser": "pandas"}, "'spark'"),
        (BETWEEN, {"column": "a"}, "min_value and max_value"),
        (BETWEEN, {"column": "a", "min_value": True}, "kwargs.min_value"),
        (LENGTHS, {"column": "a", "min_value": 10**400 + 1, "max_value": 10**400}, "greater"),
        (REGEX, {"column": "a", "regex": "a{99999999999999999999}"}, "regular expression"),
        (REGEX, {"column": "a", "regex": "(" * 5_000 + ")" * 5_000}, "regular expression"),
        (BETWEEN, {"column": "a", "min_value": 2, "max_value": 1}, "min_value 2"),
        (BETWEEN, {"column": "a", "min_value": "2", "max_value": 1}, "one kind"),
        (BETWEEN, {"column": "a", "min_value": [1]}, "kwargs.min_value"),
        (LENGTHS, {"column": "a", "min_value": 1.5}, "1.5"),
        (LENGTHS, {"column": "a", "min_value": "1"}, "'1'"),
        ("expect_column_value_lengths_to_equal", {"column": "a", "value": 1.5}, "kwargs.value"),
        (IN_SET, {"column": "a"}, "kwargs.value_set"),
        (IN_SET, {"column": "a", "value_set": "abc"}, "kwargs.value_set"),
        (IN_SET, {"column": "a", "value_set": [{"x": 1}]}, "kwargs.value_set"),
        (REGEX, {"column": "a", "regex": "(open"}, "regular expression"),
        (REGEX, {"column": "a", "regex": "a)"}, "regular expression"),
        (REGEX, {"column": "a", "regex": "*.csv"}, "regular expression"),
        (REGEX, {"column": "a", "regex": "a\\"}, "regular expression"),
        ("expect_column_values_to_match_regex_list", {"column": "a", "regex_list": []}, "kwargs.regex_list"),
        ("expect_column_values_to_match_regex_list", {"column": "a", "regex_list": ["a", "["]}, "regular expression"),
        (
            "expect_column_values_to_match_regex_list",
            {"column": "a", "regex_list": ["a"], "match_on": "one"},
            "kwargs.match_on",
        ),
        ("expect_column_values_to_match_strftime_format", {"column": "a", "strftime_format": "%Q"}, "%Q"),
        ("expect_column_pair_values_to_be_equal", {"column_A": "a"}, "kwargs.column_B"),
        (
            "expect_column_pair_values_to_be_equal",
            {"column_A": "a", "column_B": "b", "ignore_row_if": "never"},
            "kwargs.ignore_row_if",
        ),
        ("expect_column_values_to_be_in_type_list", {"column": "a", "type_list": []}, "kwargs.type_list"),
        (ROW_COUNT, {"min_value": -1}, "kwargs.min_value"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(type_, kwargs, where):
    assert where in " ".join(problem.message for problem in refusals(entry(type_, **kwargs)))


@pytest.mark.parametrize(
    ("esclusa", "says"),
    [
        ({"on_fail": "expect"}, "on_fail; allowed: name, on_failure"),
        ({"on_failure": "quarantine"}, "did you mean expect_or_quarantine"),
        ({"on_failure": 5}, "on_failure"),
        ({"on_failure": ["expect"]}, "on_failure"),
        ({"name": 5}, "name"),
        ({"name": ""}, "name"),
    ],
)
def test_a_bad_meta_is_refused(esclusa, says):
    assert says in refusals(entry(column="a", esclusa=esclusa))[0].message


@pytest.mark.parametrize(
    "broken",
    [
        5,
        {},
        {"type": 5},
        {"expectation_type": NOT_NULL, "kwargs": {"column": "a"}},
        {"type": NOT_NULL},
        {"type": NOT_NULL, "kwargs": ["column"]},
        {"type": NOT_NULL, "kwargs": {"column": "a"}, "meta": "text"},
        {"type": NOT_NULL, "kwargs": {"column": "a"}, "meta": {"esclusa": "text"}},
    ],
)
def test_an_entry_of_another_shape_is_refused(broken):
    assert [problem.path for problem in refusals(broken)] == ["expectations[0]"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("[]", 1),
        ('{"expectations": {}}', 1),
        ('{"expectations": [],}', 1),
        ('{"expectations": [\n{"type": "a"\n"kwargs": {}}]}', 3),
        ('{"expectations": [{"type": "a",\n "kwargs": {"mostly": NaN}}]}', 1),
        ('{"expectations": [{"type": "a",\n "kwargs": {"mostly": Infinity}}]}', 1),
        ('{"expectations": [],\n "expectations": []}', 1),
        ('{"expectations": [{"type": "a",\n "kwargs": {"x": 1, "x": 1}}]}', 1),
        (json.dumps({"expectations": [entry(LENGTHS, column="a", min_value=0)]}).replace("0", "1e999"), 1),
        ('{"expectations": ' + "[" * 100_000 + "]" * 100_000 + "}", 1),
    ],
    ids=range(11),
)
def test_text_that_is_no_suite_is_refused(text, line):
    assert [problem.line for problem in refusals(text=text or " ")] == [line]


@pytest.mark.parametrize(
    "regex",
    [
        r"\p{Lu}\d", "[a-z&&[^x]]", "[[a](]", r"\Qa.b\E", "(?<year>[0-9]{4})", r"^\h+$", "^(?i)abc$", "(?i)abc(?-i)D",
        r"(?<=https?://)\w+", r"(?U)\w+", r"\x{1F600}", r"\cA", r"\e", "a{2}{3}", "^*",
    ],
)  # fmt: skip
def test_a_regex_that_only_java_reads_is_left_to_spark(regex):
    assert parse(entry(REGEX, column="a", regex=regex))[0].kwargs == {"regex": regex}


def test_every_fault_of_a_suite_is_reported_at_once():
    problems = refusals(
        entry("nope"),
        entry(column="a", mostly=2, colour=1),
        entry(column="a"),
        entry(REGEX, column="a", regex="("),
    )
    assert [problem.path for problem in problems] == [f"expectations[{index}]" for index in (0, 1, 1, 3)]


def test_what_only_great_expectations_uses_is_passed_over():
    (check,) = parse(
        {
            "id": "5a1c0d3e",
            "type": NOT_NULL,
            "kwargs": {"column": "a", "batch_id": "b", "result_format": "BASIC", "catch_exceptions": True},
            "meta": {"profiler": {"x": 1}},
            "severity": "critical",
            "notes": "for people",
        }
    )
    assert (check.kwargs, check.columns) == ({}, ("a",))
