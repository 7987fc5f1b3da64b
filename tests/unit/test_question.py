import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.orchestration.question import as_code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "` a `"),
        ("", "`   `"),
        ("`", "`` ` ``"),
        ("a``b`c", "``` a``b`c ```"),
        ("a\n\n# b\r\n| c", "` a # b | c `"),
        ("\x1b[2J\u202eabc\x00", "` \ufffd[2J\ufffdabc\ufffd `"),
        ("x" * 301, f"` {'x' * 300}… `"),
    ],
)
def test_text_becomes_one_code_span(text, expected):
    assert as_code(text) == expected


@given(st.text(alphabet="`ab <>\n[](){}!|*_\\&", max_size=400))
def test_nothing_in_a_text_ends_its_code_span(text):
    span = as_code(text)
    fence = re.match("`+", span)[0]
    assert span.endswith(f" {fence}")
    inside = span[len(fence) : -len(fence)]
    assert "\n" not in span
    assert [run for run in re.findall("`+", inside) if len(run) >= len(fence)] == []
