"""The conf language of Delta tables: the sink, and the upkeep of all tables of a pipeline."""

from datetime import timedelta
from posixpath import normpath
from typing import Literal

from pydantic import field_validator, model_validator

from jobs.pipeline.durations import as_timedelta
from jobs.pipeline.strict import ColumnName, Duration, Location, Option, Strict

TRANSACTION_MEMORY = "remove it; Delta would forget which batches are written, and a replay would double them"


class DeltaSink(Strict):
    """A Delta table that each batch is appended to."""

    type: Literal["delta"]
    path: Location
    mode: Literal["append"] = "append"
    partition_by: list[ColumnName] = []
    cluster_by: list[ColumnName] = []
    merge_schema: bool = False
    """Whether columns that the transforms newly give join the table, and those they no longer give become NULL."""
    table_properties: dict[str, Option] = {}
    quarantine_path: Location | None = None
    """Where rows set apart go, if not beside the target."""

    @property
    def quarantine(self) -> str:
        """Where rows set apart go: by default the target's path with `_quarantine` behind it."""
        return self.quarantine_path or f"{self.path.rstrip('/')}_quarantine"

    @field_validator("table_properties")
    @classmethod
    def _refuse_short_transaction_memory(cls, properties: dict[str, str]) -> dict[str, str]:
        for key in properties:
            if key.lower() == "delta.settransactionretentionduration":
                raise ValueError(f"{key}: {TRANSACTION_MEMORY}")
        return properties

    @model_validator(mode="after")
    def _parts_agree(self) -> "DeltaSink":
        if self.partition_by and self.cluster_by:
            raise ValueError("partition_by and cluster_by exclude each other; keep one")
        if self.quarantine_path is not None and normpath(self.quarantine_path) == normpath(self.path):
            message = "quarantine_path: is the target's own path; rows set apart need a table of their own"
            raise ValueError(message)
        return self


SHORTEST_RETENTION = timedelta(days=7)
"""Delta's own: a reader, or a batch between its files and its commit, that takes longer would find files gone."""


class QuarantineRetention(Strict):
    """How long rows stay in the quarantine, from the day they were set apart. Each deletion stands in the ledger."""

    resolved: Duration | None = None
    """Rows that a replay has written or dropped. None: for ever."""
    any: Duration | None = None
    """All rows, also those that a replay might still need. None: for ever."""


class Maintenance(Strict):
    """What `esclusa maintain` does to the tables of a pipeline: target, quarantine, its replays, ledger."""

    optimize: bool = True
    """Whether small files are joined; a table with cluster_by is clustered by it."""
    vacuum: Duration = "7 days"
    """How long files stay that the newest version does not need: as long as the slowest reader reads."""
    log: Duration = "30 days"
    """How long versions stay: as far back as time travel and RESTORE reach."""
    checkpoints: Duration | None = None
    """How long checkpoints stay that --reset-checkpoint has set aside. None: for ever."""
    quarantine: QuarantineRetention = QuarantineRetention()

    @model_validator(mode="after")
    def _keeps_what_others_need(self) -> "Maintenance":
        for key, duration in (("vacuum", self.vacuum), ("log", self.log)):
            if as_timedelta(duration) < SHORTEST_RETENTION:
                message = f"{key}: {duration} is under 7 days; readers, and batches in flight, would find files gone"
                raise ValueError(message)
        if as_timedelta(self.log) < as_timedelta(self.vacuum):
            message = (
                f"log: {self.log} is under vacuum ({self.vacuum}); files would outlive the versions they belong to"
            )
            raise ValueError(message)
        return self
