from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.dated_path import Interval, check_dated_path, find_times, name_folder, read_stamp, stamp_time

PATHS = ["a/%Y", "a/%Y-%m", "a/%Y/%m/%d", "a/%Y%m%d/%H", "a/%H%M-%d.%m.%Y"]


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def stamps(path, start, end):
    return [stamp_time(path, time) for time in find_times(path, Interval(at(start), at(end)))]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_with_a_whole_date_is_taken_as_it_is(path):
    assert check_dated_path(path) == path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("archive/orders", "has no date in it"),
        ("archive/%m-%d", "lacks %Y: several times would share a folder"),
        ("archive/%Y/%d", "lacks %m"),
        ("archive/%Y-%m-%d/%M", "lacks %H"),
        ("archive/%y-%m-%d", "%y is not known; allowed: %Y, %m, %d, %H, %M"),
        ("archive/%Y-%j", "%j is not known"),
        ("archive/%Y/100%", "% is not known"),
        ("archive/*/%Y", "* has no place in it"),
        ("archive/{a,b}/%Y", "{ has no place in it"),
    ],
)
def test_other_paths_are_refused_with_what_is_wrong(path, expected):
    with pytest.raises(ValueError, match=r".") as caught:
        check_dated_path(path)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("path", "start", "end", "expected"),
    [
        ("%Y-%m-%d", "2024-02-28", "2024-03-02", ["2024-02-28", "2024-02-29", "2024-03-01"]),
        ("%Y-%m-%d", "2026-01-01T00:00:01", "2026-01-02", []),
        ("%Y-%m-%d", "2026-01-01T23:00", "2026-01-02T00:01", ["2026-01-02"]),
        ("%Y-%m", "2025-11-15", "2026-03-01", ["2025-12", "2026-01", "2026-02"]),
        ("%Y", "2023-01-01", "2026-01-01", ["2023", "2024", "2025"]),
        ("%Y%m%d%H", "2026-01-01T22:00", "2026-01-02T00:30", ["2026-01-01T22", "2026-01-01T23", "2026-01-02T00"]),
        ("%Y%m%d%H%M", "2026-01-01T23:59", "2026-01-02T00:01", ["2026-01-01T2359", "2026-01-02T0000"]),
    ],
)
def test_a_folder_belongs_to_the_interval_in_which_its_time_begins(path, start, end, expected):
    assert stamps(path, start, end) == expected


def test_times_are_those_of_utc_whatever_the_zone_of_the_interval():
    zone = timezone(timedelta(hours=2))
    interval = Interval(datetime(2026, 1, 1, 1, tzinfo=zone), datetime(2026, 1, 2, 1, tzinfo=zone))
    assert [name_folder("a/%Y-%m-%d", time) for time in find_times("a/%Y-%m-%d", interval)] == ["a/2026-01-01"]


@given(
    path=st.sampled_from(PATHS[:4]),
    times=st.lists(
        st.datetimes(at("2019-12-31").replace(tzinfo=None), at("2020-03-01").replace(tzinfo=None)),
        min_size=2,
        max_size=5,
        unique=True,
    ),
)
def test_intervals_that_follow_each_other_share_the_folders_out(path, times):
    """Whatever the schedule, no folder is in two of its intervals, and none is left out."""
    bounds = sorted(time.replace(tzinfo=UTC) for time in times)
    parts = [list(find_times(path, Interval(start, end))) for start, end in pairwise(bounds)]
    together = [time for part in parts for time in part]
    assert together == list(find_times(path, Interval(bounds[0], bounds[-1])))
    assert len({name_folder(path, time) for time in together}) == len(together)


@pytest.mark.parametrize("path", PATHS)
def test_a_stamp_names_its_time_and_can_be_a_files_name(path):
    interval = Interval(at("2026-01-01"), at("2027-01-01T00:00"))
    time = list(find_times(path, interval))[-1]
    stamp = stamp_time(path, time)
    assert read_stamp(path, stamp) == time
    assert set(stamp) <= set("0123456789-T")


@pytest.mark.parametrize("stamp", ["", "2026", "2026-01-01T05", "2026-13-01", "../x", "2026-01-01 "])
def test_a_stamp_of_another_precision_is_refused_with_an_example(stamp):
    with pytest.raises(ValueError, match="write it as 2026-01-31"):
        read_stamp("a/%Y-%m-%d", stamp)
