import base64

import pytest

from jobs.pipeline.quality.gathering import EXAMPLES, LARGE, USUAL, gathering_after
from jobs.pipeline.quality.verdict import SetApart, Verdict


def verdict(malformed, unfit, size=2_000):
    """Of as many rows set apart, and as many of them gathered, of this many bytes."""
    row = {"raw": base64.b64encode(b"x" * size).decode()}
    parts = [SetApart(count, (row,) * gathered) for count, gathered in (malformed, unfit)]
    return Verdict(9_999, parts[0], 9_999 - parts[0].count, parts[1], 0, (), ())


@pytest.mark.parametrize(
    ("now", "malformed", "unfit", "next_"),
    [
        (USUAL, (0, 0), (0, 0), USUAL),
        (USUAL, (2_000, 2_000), (4_000, 4_000), USUAL),
        (USUAL, (0, 0), (4_001, 4_000), EXAMPLES),
        (USUAL, (0, 0), (250, 249), LARGE),
        (USUAL, (1, 0), (3, 3), LARGE),
        (USUAL, (0, 0), (251, 250), EXAMPLES),
        (LARGE, (0, 0), (0, 0), LARGE),
        (LARGE, (100, 100), (150, 150), LARGE),
        (LARGE, (0, 0), (251, 250), USUAL),
        (LARGE, (150, 150), (150, 150), USUAL),
        (LARGE, (0, 0), (4_001, 250), EXAMPLES),
        (LARGE, (0, 0), (2, 1), EXAMPLES),
        (EXAMPLES, (0, 0), (5_000, 100), EXAMPLES),
        (EXAMPLES, (50, 50), (3_000, 100), USUAL),
        (EXAMPLES, (0, 0), (3_000, 40), EXAMPLES),
        (EXAMPLES, (0, 0), (200, 40), EXAMPLES),
        (EXAMPLES, (0, 0), (200, 100), LARGE),
        (EXAMPLES, (0, 0), (0, 0), LARGE),
    ],
)
def test_the_next_batch_is_taken_for_one_of_the_same_kind(now, malformed, unfit, next_):
    assert gathering_after(now, verdict(malformed, unfit)) == next_


@pytest.mark.parametrize(("now", "gathered"), [(LARGE, 250), (EXAMPLES, 100)])
def test_many_rows_that_are_large_are_left_to_the_second_scan(now, gathered):
    assert gathering_after(now, verdict((0, 0), (300, gathered), size=2_049)) == EXAMPLES


@pytest.mark.parametrize("gathering", [USUAL, LARGE])
def test_what_comes_to_the_driver_is_bounded(gathering):
    assert gathering.rows * gathering.row_bytes <= 8 * 1024 * 1024
