from datetime import UTC, datetime

import pytest

from jobs.pipeline.quarantine import gathered_rows


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-02T03:04:05.123456Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("+10000-01-01T00:00:00.000000Z", None),
        ("0001-01-01T00:00:00.000000+14:00", None),
        (None, None),
    ],
)
def test_a_record_is_kept_whatever_time_its_producer_gave_it(text, instant):
    row = {"raw": "YQ==", "source": {"topic": "t", "offset": 7, "timestamp": text}, "_errors": []}
    [kept] = gathered_rows((row,), {"pipeline": "p"})
    assert (kept["raw"], kept["source"]["offset"], kept["source"]["timestamp"]) == (b"a", 7, instant)
