import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.quality.strftime import DIRECTIVES, UnsupportedFormatError, compile_format

FORMATS = [
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M:%S",
    "%d/%m/%Y %I:%M %p",
    "%Y%m%d",
    "%H:%M:%S.%f",
    "%S%f",
    "%a %Y",
    "%A, %B",
    "%b of %Y",
    "100%% on %d",
    "(%H) [%M] {%S} ^$*+?|\\.#&~",
    "%m  %d",
    "%Y",
    "%m",
    "%d",
    "%f",
]
FIRST_FOUR_DIGIT_YEAR = datetime(1000, 1, 1)  # noqa: DTZ001 - formats here have no time zone


def is_accepted(text: str, format_: str) -> bool:
    """Whether the compiled regex takes the text; `\\z` is Java's spelling of the end."""
    regex = compile_format(format_).regex
    assert regex.startswith(r"(?i)\A")
    assert regex.endswith(r"\z")
    return re.fullmatch(regex.removeprefix(r"(?i)\A").removesuffix(r"\z"), text, re.IGNORECASE | re.ASCII) is not None


def is_read(text: str, format_: str) -> bool:
    """Whether strptime reads the text, or refuses it only for a day its month does not have or a second above 59.

    These are Spark's part.
    """
    try:
        datetime.strptime(text, format_)
    except ValueError as error:
        return "out of range" in str(error) or "second must be in 0..59" in str(error)
    return True


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("format_", FORMATS)
@given(
    moment=st.datetimes(min_value=FIRST_FOUR_DIGIT_YEAR),
    edit=st.tuples(st.integers(0, 30), st.sampled_from("0137 T:-x")),
)
def test_a_written_date_is_accepted_and_an_edited_one_as_strptime_does(format_, moment, edit):
    text = moment.strftime(format_)
    position, character = edit
    edited = text[:position] + character + text[position + 1 :]
    assert is_accepted(text, format_)
    assert is_accepted(edited, format_) == is_read(edited, format_)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("format_", FORMATS)
@given(text=st.text("0123456789 -:/.TapmJuneMon", max_size=20))
def test_any_text_is_accepted_exactly_when_strptime_reads_it(format_, text):
    assert is_accepted(text, format_) == is_read(text, format_)


@pytest.mark.parametrize(
    ("format_", "text", "accepted"),
    [
        ("%Y-%m-%d", "2013-1-1", True),
        ("%Y-%m-%d", "2013-01-01\n", False),
        ("%Y-%m-%d", " 2013-01-01", False),
        ("%Y-%m-%d", "13-01-01", False),
        ("%Y-%m-%d", "2013-13-01", False),
        ("%Y-%m-%d", "2013-01-32", False),
        ("%Y-%m-%d", "2013x01x01", False),
        ("%H:%M:%S", "23:59:60", True),
        ("%H:%M:%S", "23:59:62", False),
        ("%H", "24", False),
        ("%I %p", "12 PM", True),
        ("%I %p", "13 PM", False),
        ("%B", "MAY", True),
        ("%B", "mai", False),
        ("%A", "sunday", True),
        ("%f", "1234567", False),
        ("%Y %m", "2013 \t 1", True),
        ("%I %p", "1\u202fPM", True),
        ("%I %p", "1\xa0\u3000\x1fPM", True),
        ("%I %p", "1\u200bPM", False),
        ("%I\u202f%p", "1 PM", True),
        ("at %Y", "AT 2013", True),
        ("", "", True),
        ("%Y.%m", "2013-01", False),
    ],
)
def test_the_rules_of_strptime_by_example(format_, text, accepted):
    assert is_accepted(text, format_) is accepted
    assert is_read(text, format_) is accepted


@pytest.mark.parametrize(
    ("format_", "groups"),
    [
        ("%Y-%m-%d", {"year": 1, "month": 2, "day": 3}),
        ("%d.%m.%Y %H:%M", {"day": 1, "month": 2, "year": 3}),
        ("%H:%M", {}),
        ("%S of %Y", {"second": 1, "year": 2}),
        ("%b %Y", {"year": 1}),
    ],
)
def test_the_groups_say_where_year_month_and_day_stand(format_, groups):
    assert compile_format(format_).groups == groups


@pytest.mark.parametrize("format_", ["%", "%Y-%", "%Q", "%j", "%y", "%z", "%Z", "%c", "%-d", "%:z"])
def test_a_directive_that_is_not_compiled_is_refused(format_):
    with pytest.raises(UnsupportedFormatError, match="supported: %Y"):
        compile_format(format_)


@pytest.mark.parametrize("letter", sorted(DIRECTIVES.keys() - {"%"}))
def test_a_directive_that_stands_twice_is_refused_as_by_strptime(letter):
    with pytest.raises(UnsupportedFormatError, match=f"%{letter}"):
        compile_format(f"%{letter} %{letter}")


@pytest.mark.parametrize("format_", ["%b %d", "%d %B %Y"])
def test_a_month_name_with_a_day_is_refused(format_):
    with pytest.raises(UnsupportedFormatError, match="use %m"):
        compile_format(format_)


def test_a_percent_sign_may_stand_twice():
    assert is_accepted("%12%", "%%%m%%")


def test_a_percent_sign_before_a_b_is_no_month_name():
    assert is_accepted("%b 31", "%%b %d")
