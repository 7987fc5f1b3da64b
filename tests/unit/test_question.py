import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.orchestration.accounts import held_reason
from jobs.orchestration.question import as_code, ask_about
from jobs.pipeline.status import print_batches


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


HELD = {
    "pipeline": "p",
    "batch_id": 7,
    "status": "held",
    "message": "check enough failed: wanted …, found 9 rows",
    "rows_read": 9,
    "rows_written": 0,
    "rows_quarantined": 2,
    "rows_malformed": 0,
    "rows_dropped": 0,
    "checks": [
        {"name": "enough", "unexpected_count": 0, "element_count": 9, "success": False},
        {"name": "named", "unexpected_count": 2, "element_count": 9, "success": False},
    ],
}


def test_a_check_of_the_batch_is_named_without_rows():
    lines = ask_about("p", HELD).body.splitlines()
    assert [line for line in lines if line.startswith("- `")] == ["- ` enough `", "- ` named `: 2 of 9 rows"]
    assert held_reason([HELD]).endswith("; failing checks: enough, named (2 rows)")


def test_the_status_names_a_check_of_the_batch_without_rows(capsys):
    times = {"finished_at": datetime(2026, 1, 1, tzinfo=UTC), "lag": None, "duration_ms": {"total": 5}}
    print_batches("p", [HELD | times | {"status": "done", "message": None}])
    assert "enough, named (2)" in capsys.readouterr().out
