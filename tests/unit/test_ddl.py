import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.ddl import TYPES, check_ddl, join_lines, strip_comments


@pytest.mark.parametrize(
    "text",
    [
        "a INT",
        "a int, b STRING",
        "a: INT, b : STRING",
        "a DECIMAL(10, 2), b STRING",
        "a STRUCT<x: INT, y: ARRAY<STRING>>, b MAP<STRING, DECIMAL(3, 1)>",
        "`a b` INT, `x,y` INT, `q``r` INT",
        "a INT NOT NULL, b STRING COMMENT 'text'",
        "a INT COMMENT 'minutes, not hours', b INT",
        "a INT COMMENT 'open (', b INT",
        "a INT COMMENT 'it''s', b INT",
        r"a INT COMMENT 'it\'s, (so)', b INT",
        'a INT COMMENT "it\'s, (so)", b INT',
        "a TIMESTAMP_NTZ,\n\n  b\n  VARIANT",
        "a INTERVAL DAY TO SECOND",
    ],
)
def test_columns_that_spark_reads_are_accepted(text):
    assert check_ddl(text) == []


@given(st.lists(st.sampled_from(sorted(TYPES)), min_size=1), st.sampled_from([", ", ",\n", " ,"]))
def test_columns_of_every_type_are_accepted(types, comma):
    assert check_ddl(comma.join(f"c{index} {type_}" for index, type_ in enumerate(types))) == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "no columns"),
        (" \n ", 1, "no columns"),
        ("a ITN", 1, "did you mean INT"),
        ("a INT,\nb VARCHAR(5)", 2, "write STRING"),
        ("a INT,\nb STRNG", 2, "did you mean STRING"),
        ("a INT,\n\n\nb NOTHINGLIKEIT", 4, "NOTHINGLIKEIT is not known"),
        ("a INT,", 1, "is not a column"),
        ("a INT,, b INT", 1, "is not a column"),
        ("a INT b STRING, c", 1, "'c' is not a column"),
        ("a", 1, "'a' is not a column"),
        ("a-b INT", 1, "'a-b INT' is not a column"),
        ("a INT,\nb INT,\nA STRING", 3, "column a stands twice"),
        ("a INT,\n`a` INT", 2, "column a stands twice"),
        ("a STRUCT<x: INT, y: INT>,\na INT", 2, "column a stands twice"),
        ("a INT COMMENT 'open (',\nb ITN", 2, "did you mean INT"),
        ("a ARRAY<INT, b STRING", 1, ""),
        ("a DECIMAL(10, 2, b STRING", 1, ""),
        ("a INT>, b STRING", 1, ""),
        ("`a INT, b STRING", 1, ""),
        ("a INT,\nb INT COMMENT 'open", 2, "' is not closed"),
        ('a INT COMMENT "open, b STRING', 1, "is not closed"),
        ("a ARRAY<INT), b STRING", 1, "')' closes no '('"),
        ("a INT,\n`A``b` INT,\n`a``B` INT", 3, "column a`b stands twice"),
    ],
)
def test_a_fault_is_named_with_its_line(text, line, says):
    ((found, message),) = check_ddl(text)
    assert found == line
    assert says in message


def test_every_fault_is_named():
    assert [line for line, _ in check_ddl("a ITN,\nb,\nc INT,\nc STRNG")] == [1, 2, 4, 4]


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("a INT -- one\n, b INT", "a INT \n, b INT"),
        ("-- all", ""),
        ("a INT COMMENT 'x -- y' -- z", "a INT COMMENT 'x -- y' "),
        ("`a--b` INT", "`a--b` INT"),
        ('a INT COMMENT "--" --', 'a INT COMMENT "--" '),
        ("a INT -- it's\n, b INT -- it's", "a INT \n, b INT "),
        (r"a INT COMMENT '\'--'", r"a INT COMMENT '\'--'"),
    ],
)
def test_comments_end_with_their_line_and_begin_outside_quotes(text, stripped):
    assert strip_comments(text) == stripped


def test_lines_are_joined_outside_quotes():
    assert join_lines("\n`a  b`\tINT,\n  b INT COMMENT 'x\n y'\n") == "`a  b` INT, b INT COMMENT 'x\n y'"
