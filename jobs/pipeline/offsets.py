"""Ranges of Kafka offsets: what a batch covers, and what the topic no longer holds of it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

Offsets = dict[str, dict[str, int]]
"""By topic and partition, as checkpoints and Spark's options have them."""


@dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """Offsets of one partition, `until` left out."""

    topic: str
    partition: int
    start: int
    until: int

    @property
    def count(self) -> int:
        """Offsets in the range; not each of them need have held a record."""
        return self.until - self.start

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition} from {self.start} until {self.until} ({self.count:,})"


def ranges_between(start: Offsets, until: Offsets) -> list[OffsetRange]:
    """What lies between two positions, in order; a partition that came meanwhile is read from its beginning."""
    return sorted(
        OffsetRange(topic, int(partition), start.get(topic, {}).get(partition, 0), end)
        for topic, partitions in until.items()
        for partition, end in partitions.items()
    )


def find_lost(position: Offsets, earliest: Offsets) -> list[OffsetRange]:
    """What a reader at this position wants and the topic no longer holds; `earliest` covers no other partition."""
    return [lost for lost in ranges_between(position, earliest) if lost.count > 0]


def skip_lost(wanted: OffsetRange, lost: Iterable[OffsetRange]) -> OffsetRange:
    """What is left to read of a range: retention deletes from a partition's beginning on."""
    for gap in sorted(lost):
        if (gap.topic, gap.partition) == (wanted.topic, wanted.partition) and gap.start <= wanted.start < gap.until:
            wanted = replace(wanted, start=min(gap.until, wanted.until))
    return wanted


def as_offsets(ranges: Iterable[OffsetRange], end: str) -> Offsets:
    """The `start` or `until` of each range, as Spark's options have them."""
    offsets: Offsets = {}
    for one in ranges:
        offsets.setdefault(one.topic, {})[str(one.partition)] = getattr(one, end)
    return offsets


def as_rows(ranges: Iterable[OffsetRange]) -> list[dict[str, Any]]:
    """Ranges as JSON has them."""
    return [{"topic": one.topic, "partition": one.partition, "from": one.start, "until": one.until} for one in ranges]


def from_rows(rows: Iterable[dict[str, Any]]) -> list[OffsetRange]:
    """The inverse of `as_rows`."""
    return [OffsetRange(row["topic"], row["partition"], row["from"], row["until"]) for row in rows]
