from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.offsets import OffsetRange, as_offsets, as_rows, find_lost, from_rows, ranges_between, skip_lost

OFFSETS = st.integers(0, 50)
RANGES = st.builds(
    lambda topic, partition, start, count: OffsetRange(topic, partition, start, start + count),
    st.sampled_from("ab"),
    st.integers(0, 1),
    OFFSETS,
    OFFSETS,
)


def test_a_partition_that_came_meanwhile_is_read_from_its_beginning():
    assert ranges_between({"t": {"0": 3}}, {"t": {"0": 5, "1": 2}}) == [
        OffsetRange("t", 0, 3, 5),
        OffsetRange("t", 1, 0, 2),
    ]


def test_what_is_lost_is_what_lies_between_the_position_and_the_earliest_offset():
    assert find_lost({"t": {"0": 3, "1": 9}}, {"t": {"0": 7, "1": 9}}) == [OffsetRange("t", 0, 3, 7)]


@given(RANGES, st.lists(RANGES, max_size=4))
def test_what_is_left_of_a_range_is_its_end_and_begins_behind_what_was_lost_of_its_beginning(wanted, lost):
    left = skip_lost(wanted, lost)
    same = [gap for gap in lost if (gap.topic, gap.partition) == (wanted.topic, wanted.partition)]
    assert (left.topic, left.partition, left.until) == (wanted.topic, wanted.partition, wanted.until)
    skipped = range(wanted.start, left.start)
    assert all(any(gap.start <= offset < gap.until for gap in same) for offset in skipped)
    assert not any(left.count and gap.start <= left.start < gap.until for gap in same)


@given(st.lists(RANGES, unique_by=lambda one: (one.topic, one.partition)))
def test_ranges_survive_the_way_through_json_and_options(ranges):
    assert from_rows(as_rows(ranges)) == ranges
    assert ranges_between(as_offsets(ranges, "start"), as_offsets(ranges, "until")) == sorted(ranges)
