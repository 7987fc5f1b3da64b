import base64
import json
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.model import Check, HaltWhen, OnFailure, Quality, Scope
from jobs.pipeline.quality.verdict import (
    MALFORMED_CHECK,
    SHOWN_CHARACTERS,
    SetApart,
    Verdict,
    describe_outcome,
    describe_rule,
    judge,
    pick_examples,
)

COUNTS = st.integers(0, 1_000)


def check(on_failure=OnFailure.QUARANTINE, mostly=1.0, name="not_null"):
    return Check(
        name=name,
        type="expect_column_values_to_not_be_null",
        scope=Scope.ROW,
        columns=("a",),
        kwargs={},
        mostly=mostly,
        on_failure=on_failure,
        file="s.json",
        line=1,
    )


def table_check(type_, /, on_failure=OnFailure.EXPECT, **kwargs):
    scope = Scope.BATCH if type_ == "expect_table_row_count_to_be_between" else Scope.SCHEMA
    columns = ("a",) if "column_" in type_ else ()
    return check(on_failure, name=type_).model_copy(
        update={"type": type_, "scope": scope, "columns": columns, "kwargs": kwargs}
    )


def verdict_of(checks, source_numbers, gated_numbers, above=None):
    halt_when = None if above is None else HaltWhen(quarantined_share_above=above)
    return judge(tuple(checks), Quality(halt_when=halt_when), source_numbers, gated_numbers, lambda _: None)


def source(rows, bad=0, gathered=None):
    return {"rows": rows, "bad": bad, "gathered": gathered}


def gated(rows, *counts, bad=0, dropped=0, gathered=None):
    """Numbers as observed on annotated rows; `counts` are (considered, unexpected) of each row check."""
    numbers = {"rows": rows, "dropped": dropped, "bad": bad, "gathered": gathered}
    for index, (considered, unexpected) in enumerate(counts):
        numbers |= {f"considered_{index}": considered, f"unexpected_{index}": unexpected}
    return numbers


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_every_row_read_is_passed_set_apart_dropped_or_filtered(malformed, unfit, dropped, passed, filtered):
    shaped = unfit + dropped + passed
    read = malformed + shaped + filtered
    verdict = verdict_of([], source(read, malformed), gated(shaped, bad=unfit, dropped=dropped))
    assert verdict.rows_passed == passed
    assert verdict.rows_filtered == filtered
    assert verdict.rows_quarantined == malformed + unfit
    assert verdict.rows_read == (
        verdict.rows_passed + verdict.rows_quarantined + verdict.rows_dropped + verdict.rows_filtered
    )


def test_transforms_that_make_rows_filter_a_negative_number():
    assert verdict_of([], source(10), gated(30)).rows_filtered == -20


def test_judge_is_pure():
    some = [check(), table_check("expect_table_row_count_to_be_between", **ROW_COUNT)]
    numbers = source(10, 1, "[]"), gated(9, (9, 2), bad=2)
    before = deepcopy(numbers)
    assert verdict_of(some, *numbers) == verdict_of(some, *numbers)
    assert numbers == before


@pytest.mark.parametrize(
    ("considered", "unexpected", "mostly", "success"),
    [
        (0, 0, 1.0, True),
        (0, 0, 0.0, True),
        (10, 0, 1.0, True),
        (10, 1, 1.0, False),
        (20, 1, 0.95, True),
        (20, 2, 0.95, False),
        (3, 1, 0.6667, False),
        (3, 1, 0.6666, True),
        (100, 10, 0.9, True),
        (1_000_000, 100_001, 0.9, False),
        (10, 10, 0.0, True),
    ],
)
def test_a_check_succeeds_from_mostly_on(considered, unexpected, mostly, success):
    verdict = verdict_of([check(mostly=mostly)], source(considered), gated(considered, (considered, unexpected)))
    (result,) = verdict.results
    assert (result.element_count, result.unexpected_count, result.success) == (considered, unexpected, success)


@given(st.integers(1, 200), st.data())
def test_mostly_is_met_by_exactly_its_own_share(considered, data):
    unexpected = data.draw(st.integers(0, considered))
    share = (considered - unexpected) / considered
    numbers = source(considered), gated(considered, (considered, unexpected))
    assert verdict_of([check(mostly=share)], *numbers).results[0].success


ROW_COUNT = {"min_value": 1, "max_value": 10, "strict_min": False, "strict_max": True}


@pytest.mark.parametrize(("rows", "success"), [(0, False), (1, True), (9, True), (10, False)])
def test_a_row_count_is_that_of_the_rows_shaped(rows, success):
    some = [table_check("expect_table_row_count_to_be_between", **ROW_COUNT)]
    (result,) = verdict_of(some, source(1_000), gated(rows)).results
    assert (result.element_count, result.unexpected_count, result.success) == (rows, 0, success)


@pytest.mark.parametrize("fault", [None, "no a"])
def test_a_schema_check_is_asked_of_the_schema_alone(fault):
    some = table_check("expect_column_to_exist", column_index=None)
    verdict = judge(
        (some,), Quality(), source(5), gated(5), lambda asked: fault if asked is some else "asked of another"
    )
    (result,) = verdict.results
    assert (result.element_count, result.unexpected_count, result.success) == (5, 0, fault is None)
    assert result.found == fault


@pytest.mark.parametrize("on_failure", OnFailure)
def test_only_expect_or_fail_holds_the_batch(on_failure):
    verdict = verdict_of([check(on_failure)], source(10), gated(10, (10, 1)))
    assert bool(verdict.held_because) is (on_failure is OnFailure.FAIL)


def test_expect_or_fail_within_mostly_does_not_hold_the_batch():
    verdict = verdict_of([check(OnFailure.FAIL, mostly=0.9)], source(10), gated(10, (10, 1), bad=1))
    assert verdict.held_because == ()


@pytest.mark.parametrize(
    ("rows", "malformed", "unfit", "above", "is_held"),
    [
        (100, 0, 5, 0.05, False),
        (100, 0, 6, 0.05, True),
        (100, 3, 3, 0.05, True),
        (100, 6, 0, 0.05, True),
        (100, 0, 0, 0.0, False),
        (100, 0, 1, 0.0, True),
        (100, 0, 100, None, False),
        (0, 0, 0, 0.0, False),
    ],
)
def test_a_batch_is_held_above_the_limit_for_rows_set_apart(rows, malformed, unfit, above, is_held):
    numbers = source(rows, malformed), gated(rows - malformed, (rows, unfit), bad=unfit)
    verdict = verdict_of([check()], *numbers, above)
    assert bool(verdict.held_because) is is_held


def test_every_reason_to_hold_is_given():
    some = [
        check(OnFailure.FAIL, name="first"),
        check(name="second"),
        table_check("expect_table_row_count_to_be_between", OnFailure.FAIL, **ROW_COUNT),
    ]
    verdict = verdict_of(some, source(20), gated(20, (20, 4), (20, 1), bad=5), 0.1)
    assert len(verdict.held_because) == 3
    assert "first" in verdict.held_because[0]
    assert "4 of 20" in verdict.held_because[0]
    assert verdict.held_because[1].endswith(", found 20 rows")


def test_a_row_check_that_looks_at_every_row_is_counted_over_all():
    (result,) = verdict_of([check(mostly=0.5)], source(8), gated(8) | {"unexpected_0": 4}).results
    assert (result.element_count, result.unexpected_count, result.success) == (8, 4, True)


@pytest.mark.parametrize(("bad", "gathered", "is_complete"), [(0, 0, True), (2, 2, True), (3, 1, False), (3, 0, False)])
def test_rows_set_apart_are_complete_when_all_were_gathered(bad, gathered, is_complete):
    text = json.dumps([{"raw": "eA==", "source": {"offset": 1}, "reason": "no JSON"}] * gathered)
    set_apart = verdict_of([], source(10, bad, text if gathered else None), gated(10 - bad)).malformed
    assert (set_apart.count, len(set_apart.rows), set_apart.is_complete) == (bad, gathered, is_complete)


def test_a_malformed_row_says_why():
    text = json.dumps([{"raw": "eA==", "source": {"offset": 1}, "reason": "no JSON"}])
    error = {"check": MALFORMED_CHECK, "column": None, "message": "no JSON"}
    assert verdict_of([], source(1, 1, text), gated(0)).malformed.rows == (
        {"raw": "eA==", "source": {"offset": 1}, "_errors": [error]},
    )


def unfit_row(failed, **values):
    text = json.dumps(
        [{"source": {}, "failed": {f"_esclusa_broken_{i}": is_so for i, is_so in failed}, "values": values}]
    )
    (row,) = verdict_of(CHECKS, source(1), gated(1, *[(1, 1)] * 3, bad=1, gathered=text)).unfit.rows
    return row


CHECKS = (
    check(name="a_there"),
    table_check(
        "expect_table_row_count_to_be_between", min_value=0, max_value=None, strict_min=False, strict_max=False
    ),
    check(name="a_over_b").model_copy(
        update={"columns": ("a", "b"), "kwargs": {"or_equal": True, "ignore_row_if": None}}
    ),
)


def test_an_unfit_row_names_each_check_that_it_breaks():
    errors = unfit_row([(0, True), (2, True)], a=1, b=2)["_errors"]
    assert [(error["check"], error["column"]) for error in errors] == [("a_there", "a"), ("a_over_b", "a, b")]
    assert errors[1]["message"] == "1, 2: expect_column_values_to_not_be_null (or_equal=True)"


def test_an_unfit_row_does_not_name_checks_that_it_meets():
    # Whether Spark writes NULL fields is an option of the session: spark.sql.jsonGenerator.ignoreNullFields.
    assert [error["check"] for error in unfit_row([(0, None), (2, True)], a=1, b=2)["_errors"]] == ["a_over_b"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "text"),
        ("", ""),
        (None, "NULL"),
        (0, "0"),
        (True, "true"),
        (0.1, "0.1"),
        (2**63 - 1, "9223372036854775807"),
        (10**37, "1" + "0" * 37),
        ("x" * 1_000, "x" * SHOWN_CHARACTERS),
        ([1, {"è": None}], '[1,{"è":null}]'),
    ],
)
def test_a_message_shows_the_value_unrounded_and_short(value, shown):
    (error,) = unfit_row([(0, True)], a=value)["_errors"]
    assert error["message"] == f"{shown}: expect_column_values_to_not_be_null"


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        (5, "as wanted"),
        (
            1_000,
            "wanted expect_table_row_count_to_be_between (min_value=1, max_value=10, strict_max=True), found 1,000 rows",
        ),
    ],
)
def test_a_check_of_the_batch_comes_out_as_what_it_found(rows, outcome):
    some = [table_check("expect_table_row_count_to_be_between", **ROW_COUNT)]
    assert describe_outcome(verdict_of(some, source(rows), gated(rows)).results[0]) == outcome


def test_a_check_of_rows_comes_out_as_rows():
    (result,) = verdict_of([check()], source(2_000), gated(2_000, (2_000, 1_500))).results
    assert describe_outcome(result) == "1,500 of 2,000 rows unexpected"


def test_a_bound_of_nothing_is_a_bound():
    kwargs = {"min_value": 0, "max_value": None, "strict_min": False}
    rule = describe_rule(check().model_copy(update={"kwargs": kwargs}))
    assert rule == "expect_column_values_to_not_be_null (min_value=0)"


def test_a_message_shows_a_long_rule_cut_short():
    rule = describe_rule(check().model_copy(update={"kwargs": {"value_set": list(range(10_000))}}))
    assert rule.startswith("expect_column_values_to_not_be_null (value_set=[0, 1, 2, ")
    assert rule.endswith("…)")
    assert len(rule) < 250


def test_a_value_that_is_missing_is_shown_as_null():
    (error,) = unfit_row([(0, True)])["_errors"]
    assert error["message"].startswith("NULL: ")


def test_offsets_stay_numbers():
    text = json.dumps([{"source": {"offset": 10**17, "partition": 3}, "reason": "x"}])
    assert verdict_of([], source(1, 1, text), gated(0)).malformed.rows[0]["source"] == {
        "offset": 10**17,
        "partition": 3,
    }


def set_apart(*rows):
    """Rows as the gate gathers them: (raw bytes or None, names of the checks that the row breaks)."""
    found = tuple(
        {
            "raw": None if raw is None else base64.b64encode(raw).decode(),
            "source": {},
            "_errors": [{"check": name, "column": "a", "message": f"why {name}"} for name in names],
        }
        for raw, names in rows
    )
    return SetApart(len(found), found)


def test_examples_are_the_first_three_of_each_check_cut_short():
    unfit = set_apart(*((str(number).encode(), ["small"]) for number in range(5)), (None, ["small", "named"]))
    malformed = set_apart((b"\xff" + b"x" * 1000, ["malformed"]))
    examples = pick_examples(Verdict(9, malformed, 8, unfit, 0, (), ()))
    assert [(example["check"], example["raw"]) for example in examples] == [
        ("malformed", "\ufffd" + "x" * 199),
        ("small", "0"),
        ("small", "1"),
        ("small", "2"),
        ("named", None),
    ]
    assert examples[-1]["message"] == "why named"
