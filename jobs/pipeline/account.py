"""A batch's rows against the source's own figures: Kafka's offsets, or the row counts in parquet and ORC files.

What is compared with is never our own observation. Where a source has no figure that costs less than a second scan,
nothing is compared.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa
from pyarrow import orc, parquet
from pyspark.sql import SparkSession

from jobs.pipeline.checkpoint import read_batch_files, read_position
from jobs.pipeline.errors import ReconciliationError
from jobs.pipeline.model import Pipeline
from jobs.pipeline.offsets import OffsetRange, ranges_between, skip_lost
from jobs.pipeline.source_model import FileFormat, FilesSource, KafkaSource
from jobs.pipeline.sources.kafka_client import count_records
from jobs.pipeline.storage import local_path

_FOOTERS: dict[FileFormat, Callable[[str], int]] = {
    FileFormat.PARQUET: lambda path: int(parquet.read_metadata(path).num_rows),
    FileFormat.ORC: lambda path: int(orc.ORCFile(path).nrows),
}


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """What the source says of a batch; rows read = count - gaps - lost. None where it says nothing."""

    count: int | None = None
    """Offsets of the batch's range, or rows by the footers of its files."""
    gaps: int | None = None
    """Offsets without a record: aborted, a transaction's marker, or removed by compaction."""
    lost: int | None = None
    """Offsets that retention deleted, and that a person has accepted as lost."""


@dataclass(frozen=True, slots=True)
class SourceAccount:
    """The source's side of a batch's account."""

    spark: SparkSession
    source: FilesSource | KafkaSource
    batch_id: int
    ranges: tuple[OffsetRange, ...] = ()
    """Of a Kafka source, whole."""
    accepted: tuple[OffsetRange, ...] = ()
    """What a person has accepted as lost, in this batch or elsewhere."""
    files: tuple[str, ...] = ()
    corrupt: frozenset[str] = field(default_factory=frozenset)
    """Files that are set apart, each as one row."""

    @property
    def readable(self) -> list[OffsetRange]:
        """The ranges without what is lost."""
        return [skip_lost(one, self.accepted) for one in self.ranges]

    @property
    def has_lost(self) -> bool:
        """Whether a part of the batch is accepted as lost."""
        return self.readable != list(self.ranges)

    def settle(self, rows_read: int) -> SourceFigures:
        """The source's figures; ReconciliationError if they do not come to the rows that were read.

        Where a topic's offsets outnumber the rows, its records are counted by another consumer: reads the range again.
        """
        if isinstance(self.source, KafkaSource):
            return self._settle_offsets(self.source, rows_read)
        rows = self._rows_by_footers(self.source)
        if rows is not None and rows != rows_read:
            raise self._differs(f"the footers of its files say {rows:,} rows", rows_read)
        return SourceFigures(rows)

    def _settle_offsets(self, source: KafkaSource, rows_read: int) -> SourceFigures:
        whole, readable = (sum(one.count for one in ranges) for ranges in (self.ranges, self.readable))
        if rows_read > readable:
            raise self._differs(f"its offsets have room for {readable:,} records", rows_read)
        if rows_read < readable:
            records = count_records(self.spark, source, self.readable)
            if records != rows_read:
                raise self._differs(
                    f"another consumer finds {records:,} records in its {readable:,} offsets", rows_read
                )
        return SourceFigures(whole, readable - rows_read, whole - readable)

    def _rows_by_footers(self, source: FilesSource) -> int | None:
        """None for formats without a footer, stores other than the local, and files that Arrow does not take."""
        count = _FOOTERS.get(source.format)
        paths = [local_path(path) for path in self.files if path not in self.corrupt]
        if count is None:
            return None
        try:
            return sum(count(path) for path in paths if path is not None) + len(self.corrupt) if all(paths) else None
        except (OSError, pa.ArrowException):
            return None

    def _differs(self, figures: str, rows_read: int) -> ReconciliationError:
        return ReconciliationError(f"batch {self.batch_id} does not add up: {figures}, {rows_read:,} rows were read")


def open_account(spark: SparkSession, pipeline: Pipeline, batch_id: int, source_range: str) -> SourceAccount:
    """From what the checkpoint says that a batch covers (see `read_source_range`)."""
    source, checkpoint = pipeline.spec.source, pipeline.checkpoint
    if isinstance(source, KafkaSource):
        covered = json.loads(source_range)
        start = covered["from"] or read_position(spark, checkpoint, -1)
        return SourceAccount(spark, source, batch_id, tuple(ranges_between(start, covered["until"])))
    files = read_batch_files(spark, checkpoint, batch_id) if source.format in _FOOTERS else []
    return SourceAccount(spark, source, batch_id, files=tuple(file.plain_path for file in files))
