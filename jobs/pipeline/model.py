"""The conf language: frozen types that say which keys a pipeline may have. No Spark, no I/O."""

import re
from datetime import timedelta
from enum import StrEnum
from posixpath import normpath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    Tag,
    field_validator,
    model_validator,
)

from jobs.pipeline.cron import check_cron
from jobs.pipeline.dated_path import check_dated_path
from jobs.pipeline.durations import as_timedelta, check_duration, check_wait

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
ARCHIVED = "@"
"""In the name of a pipeline over a folder of an archive: behind the live pipeline's name, before the folder's time."""
_ANY_NAME_PATTERN = rf"^[a-z][a-z0-9_]{{0,62}}({ARCHIVED}[0-9T-]{{4,15}})?$"


def live_name(name: str) -> str:
    """Of a pipeline over a folder of an archive, the name of the pipeline whose archive it is; else the name itself."""
    return name.partition(ARCHIVED)[0]


def as_option(value: Any) -> Any:
    """Spark reads options as text: YAML's true, 8 and 0.5 are written the way Spark spells them; all else stays."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Option = Annotated[str, BeforeValidator(as_option)]
Duration = Annotated[str, AfterValidator(check_duration)]
Wait = Annotated[str, AfterValidator(check_wait)]
"""A duration that somebody can wait for: not nothing, at most a year."""
ColumnName = Annotated[str, Field(min_length=1, max_length=255)]


class Strict(BaseModel):
    """Base of every conf type: unknown keys are errors, instances never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileFormat(StrEnum):
    """File formats that a directory source can hold."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    ORC = "orc"
    AVRO = "avro"
    XML = "xml"
    TEXT = "text"


_FILE_STREAM_OPTIONS = frozenset(
    "maxFilesPerTrigger maxBytesPerTrigger latestFirst cleanSource sourceArchiveDir "
    "retentionDuration recursiveFileLookup pathGlobFilter".split()
)
_TEXT_OPTIONS = _FILE_STREAM_OPTIONS | frozenset(
    "timestampFormat timestampNTZFormat dateFormat timeFormat locale timeZone lineSep".split()
)
FILE_OPTIONS: dict[FileFormat, frozenset[str]] = {
    FileFormat.CSV: _TEXT_OPTIONS
    | frozenset(
        "header sep delimiter quote escape comment nullValue emptyValue nanValue positiveInf negativeInf "
        "ignoreLeadingWhiteSpace ignoreTrailingWhiteSpace multiLine maxColumns "
        "charToEscapeQuoteEscaping unescapedQuoteHandling".split()
    ),
    FileFormat.JSON: _TEXT_OPTIONS
    | frozenset("multiLine primitivesAsString prefersDecimal allowComments allowSingleQuotes".split()),
    FileFormat.XML: _TEXT_OPTIONS
    | frozenset(
        "rowTag excludeAttribute nullValue ignoreSurroundingSpaces attributePrefix valueTag ignoreNamespace".split()
    ),
    FileFormat.PARQUET: _FILE_STREAM_OPTIONS | frozenset({"datetimeRebaseMode", "int96RebaseMode"}),
    FileFormat.ORC: _FILE_STREAM_OPTIONS,
    FileFormat.AVRO: _FILE_STREAM_OPTIONS | frozenset({"avroSchema", "datetimeRebaseMode"}),
    FileFormat.TEXT: _FILE_STREAM_OPTIONS | frozenset({"lineSep"}),
}
FORMATS_WITH_OWN_SCHEMA = frozenset({FileFormat.PARQUET, FileFormat.ORC, FileFormat.AVRO, FileFormat.TEXT})

KAFKA_OPTIONS = frozenset(
    "kafka.bootstrap.servers subscribe subscribePattern assign startingOffsets startingOffsetsByTimestamp "
    "startingTimestamp startingOffsetsByTimestampStrategy maxOffsetsPerTrigger minOffsetsPerTrigger maxTriggerDelay "
    "minPartitions maxRecordsPerPartition groupIdPrefix includeHeaders fetchOffset.numRetries "
    "fetchOffset.retryIntervalMs kafkaConsumer.pollTimeoutMs failOnDataLoss "
    "kafka.security.protocol kafka.sasl.mechanism kafka.sasl.jaas.config kafka.ssl.truststore.location "
    "kafka.ssl.truststore.password kafka.ssl.truststore.type kafka.ssl.keystore.location kafka.ssl.keystore.password "
    "kafka.ssl.keystore.type kafka.ssl.key.password kafka.isolation.level kafka.request.timeout.ms "
    "kafka.default.api.timeout.ms kafka.session.timeout.ms kafka.max.partition.fetch.bytes kafka.fetch.max.bytes "
    "kafka.fetch.max.wait.ms kafka.client.id".split()
)
LOSS_SWITCHES = {
    "ignoreCorruptFiles": "it skips files that cannot be read, and their rows with them",
    "ignoreMissingFiles": "it skips files that vanished, and their rows with them",
    "maxFileAge": "it skips files that land late, and their rows with them",
    "fileNameOnly": "it skips a file if one of the same name was read from another directory",
    "failOnDataLoss": "set to false it skips records that the topic no longer holds",
    "mode": "Esclusa sets it: malformed records go to the quarantine",
    "columnNameOfCorruptRecord": "Esclusa sets it: malformed records go to the quarantine",
}


TRANSACTION_MEMORY = "remove it; Delta would forget which batches are written, and a replay would double them"


class FilesSource(Strict):
    """A directory (or glob) in which an upstream places whole files."""

    type: Literal["files"]
    format: FileFormat = Field(strict=False)
    path: str
    schema_name: str | None = Field(default=None, alias="schema")
    """Name of `conf/schemas/<name>.ddl`; may be left out for formats that carry their own schema."""
    options: dict[str, Option] = {}

    @property
    def is_line_based(self) -> bool:
        """Whether one line of text is one record, so that its raw text is known for every row."""
        if self.format in {FileFormat.CSV, FileFormat.JSON}:
            return self.options.get("multiLine", "false").lower() != "true"
        return self.format is FileFormat.TEXT

    @property
    def allowed_options(self) -> frozenset[str]:
        """Options of Spark that this source takes."""
        return FILE_OPTIONS[self.format]

    @model_validator(mode="after")
    def _needs_schema(self) -> "FilesSource":
        if self.schema_name is None and self.format not in FORMATS_WITH_OWN_SCHEMA:
            message = f"schema: missing; {self.format} files need one (the name of a file in conf/schemas/)"
            raise ValueError(message)
        if self.schema_name is not None and self.format is FileFormat.TEXT:
            message = "schema: text files have one column, 'value'; remove the schema"
            raise ValueError(message)
        if self.format is FileFormat.XML and "rowTag" not in self.options:
            message = "options.rowTag: missing; name the XML element that is one row"
            raise ValueError(message)
        return self


class ValueFormat(StrEnum):
    """How the bytes of a Kafka record's value are read."""

    JSON = "json"
    TEXT = "text"
    BINARY = "binary"


class KafkaSource(Strict):
    """Records of one or more Kafka topics."""

    type: Literal["kafka"]
    value_format: ValueFormat = Field(default=ValueFormat.JSON, strict=False)
    schema_name: str | None = Field(default=None, alias="schema")
    """Name of `conf/schemas/<name>.ddl`: the fields of a JSON value."""
    options: dict[str, Option]

    allowed_options: ClassVar[frozenset[str]] = KAFKA_OPTIONS

    @model_validator(mode="after")
    def _needs_servers_topic_and_schema(self) -> "KafkaSource":
        if "kafka.bootstrap.servers" not in self.options:
            message = "options: missing kafka.bootstrap.servers (host:port, comma-separated)"
            raise ValueError(message)
        topics = [key for key in ("subscribe", "subscribePattern", "assign") if key in self.options]
        if len(topics) != 1:
            message = f"options: exactly one of subscribe, subscribePattern, assign; found {topics or 'none'}"
            raise ValueError(message)
        if (self.schema_name is None) == (self.value_format is ValueFormat.JSON):
            message = "schema: needed for value_format json, and for no other"
            raise ValueError(message)
        return self


Source = Annotated[FilesSource | KafkaSource, Field(discriminator="type")]


class SqlTransform(Strict):
    """One SELECT over `input`; its result is the next transform's `input`."""

    sql: Annotated[str, Field(min_length=1, max_length=100_000)]


class PythonTransform(Strict):
    """A function `module.function` in jobs/transforms/: DataFrame -> DataFrame."""

    python: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")]


def _transform_kind(value: Any) -> str | None:
    """The one key that a transform has, or None: then pydantic reports one fault instead of one for each kind."""
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    kinds = [kind for kind in ("sql", "python") if kind in keys]
    return kinds[0] if len(kinds) == 1 else None


Transform = Annotated[
    Annotated[SqlTransform, Tag("sql")] | Annotated[PythonTransform, Tag("python")],
    Discriminator(
        _transform_kind,
        custom_error_type="transform_kind",
        custom_error_message="a transform has one key: sql (a SELECT over input) or python (module.function)",
    ),
]


class OnFailure(StrEnum):
    """What happens to a row that breaks a check, or to its batch."""

    EXPECT = "expect"
    DROP = "expect_or_drop"
    QUARANTINE = "expect_or_quarantine"
    FAIL = "expect_or_fail"


class Backfill(Strict):
    """An archive of the source's past, with a folder for each stretch of time, which the live pipeline never reads."""

    path: Annotated[str, AfterValidator(check_dated_path)]
    """The folders, with their time in strftime's directives, in UTC; format, schema and options are the source's."""


class HaltWhen(Strict):
    """Limits that hold a whole batch."""

    quarantined_share_above: float = Field(ge=0, lt=1, strict=False)
    """Share of the batch's rows, 0 to 1; above it nothing of the batch is written."""


class Quality(Strict):
    """Which checks guard the pipeline, and what breaking one means."""

    suite: str | None = None
    """Name of `conf/suites/<name>.json`; by default the pipeline's own name, if that file exists."""
    on_failure: OnFailure = Field(default=OnFailure.QUARANTINE, strict=False)
    halt_when: HaltWhen | None = None


class DeltaSink(Strict):
    """A Delta table that each batch is appended to."""

    type: Literal["delta"]
    path: str
    mode: Literal["append"] = "append"
    partition_by: list[ColumnName] = []
    cluster_by: list[ColumnName] = []
    table_properties: dict[str, Option] = {}
    quarantine_path: str | None = None
    """Where rows set apart go; by default the target's path with `_quarantine` behind it."""

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


class Trigger(Strict):
    """When batches start: once through what is there, or at an interval until stopped."""

    available_now: Literal[True] | None = None
    processing_time: Duration | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Trigger":
        if (self.available_now is None) == (self.processing_time is None):
            message = "exactly one of available_now: true, processing_time: <duration>"
            raise ValueError(message)
        return self


class Cron(RootModel[Annotated[str, AfterValidator(check_cron)]]):
    """Runs at times: five fields of cron, in UTC, or a preset such as @hourly."""

    model_config = ConfigDict(frozen=True, strict=True)


class After(Strict):
    """Runs when other pipelines have committed rows."""

    after: Annotated[list[str], Field(min_length=1)]
    """Names of pipelines; a run starts once each of them has committed rows since the last one."""


def _schedule_kind(value: Any) -> str | None:
    if isinstance(value, str | Cron):
        return "cron"
    return "after" if isinstance(value, dict | After) else None


Schedule = Annotated[
    Annotated[Cron, Tag("cron")] | Annotated[After, Tag("after")],
    Discriminator(
        _schedule_kind,
        custom_error_type="schedule_kind",
        custom_error_message="a schedule is a cron expression, a preset such as '@hourly', or {after: [pipelines]}",
    ),
]


SHORTEST_RETENTION = timedelta(days=7)
"""Delta's own: a reader, or a batch between its files and its commit, that takes longer would find files gone."""
_PROPERTY_DURATION = re.compile(r"\s*(?:interval\s+)?(\d+)\s+(hour|day|week)s?\s*", re.IGNORECASE)


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


class Scope(StrEnum):
    """What a check looks at: each row, the batch as a whole, or the columns' names and types."""

    ROW = "row"
    BATCH = "batch"
    SCHEMA = "schema"


class Check(Strict):
    """One expectation of a suite, bound: what to test, on which rows, and what breaking it means."""

    name: str
    """Unique in its suite; stands in the ledger and in `_errors`."""
    type: str
    """Great Expectations' own name, such as expect_column_values_to_be_between."""
    scope: Scope
    columns: tuple[str, ...]
    kwargs: dict[str, Any]
    """The expectation's own parameters, validated; without column, mostly and row_condition."""
    mostly: float = 1.0
    row_condition: str | dict[str, Any] | None = None
    on_failure: OnFailure
    file: str
    line: int


class WhenHeld(StrEnum):
    """What the orchestrator does about a batch that the gate holds."""

    ASK = "ask"
    """It asks a person."""
    FAIL = "fail"
    """The run fails."""


class PipelineSpec(Strict):
    """One file of conf/pipelines, as its author writes it."""

    description: str = ""
    source: Source
    transforms: list[Transform] = []
    quality: Quality = Quality()
    sink: DeltaSink
    trigger: Trigger = Trigger(available_now=True)
    schedule: Schedule | None = None
    """When the orchestrator starts a run; None: never by itself. A run started by hand does not look at it."""
    backfill: Backfill | None = None
    """What a run of a past interval reads in place of the source; None: the past cannot be read."""
    fleet: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    """Pipelines that share this name run in one Spark application, on one schedule."""
    maintenance: Maintenance | None = None
    """None: the target's, if it has one; else nobody maintains the tables."""
    when_held: WhenHeld = Field(default=WhenHeld.ASK, strict=False)
    """What the orchestrator does about a held batch; the batch is held either way."""
    decision_timeout: Wait = "1 day"
    """How long the orchestrator waits for an answer; without one the batch stays held and the run fails."""

    @model_validator(mode="after")
    def _only_a_question_has_a_timeout(self) -> "PipelineSpec":
        if self.when_held is WhenHeld.FAIL and "decision_timeout" in self.model_fields_set:
            raise ValueError("decision_timeout: with when_held: fail nobody is asked; remove one of the two")
        return self

    @model_validator(mode="after")
    def _only_runs_that_end_are_scheduled(self) -> "PipelineSpec":
        for key, value in (("schedule", self.schedule), ("fleet", self.fleet)):
            if value is not None and not self.trigger.available_now:
                message = f"{key}: a pipeline with processing_time runs until stopped; remove it, or set available_now"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _maintenance_keeps_what_the_table_promises(self) -> "PipelineSpec":
        policy = self.maintenance
        promised = {key.lower(): value for key, value in self.sink.table_properties.items()}
        for key, duration in (("deletedFile", policy.vacuum), ("log", policy.log)) if policy else ():
            name = f"delta.{key}RetentionDuration"
            match = _PROPERTY_DURATION.fullmatch(promised.get(name.lower(), ""))
            if match and timedelta(**{f"{match[2].lower()}s": int(match[1])}) > as_timedelta(duration):
                message = f"maintenance: {duration} is less than the table promises its readers: {name} = {match[0]}"
                raise ValueError(message)
        return self

    @property
    def upstream(self) -> list[str]:
        """Names of the pipelines that this one runs after."""
        return self.schedule.after if isinstance(self.schedule, After) else []


class TargetSpec(Strict):
    """One file of conf/targets: an environment."""

    variables: dict[str, Option] = {}
    state: str
    """Directory for checkpoints, ledgers and leases; every driver that may run a pipeline must reach it."""
    spark: dict[str, Option] = {}
    """Spark options for `esclusa run`; under spark-submit its own --conf and --properties-file decide."""
    maintenance: Maintenance | None = None
    """For pipelines that have none of their own."""
    maintenance_schedule: Cron = Cron("@weekly")
    """When the orchestrator maintains the tables of all pipelines that have a policy."""


class Pipeline(Strict):
    """Everything that a run needs to know, validated and resolved; what every stage receives a piece of."""

    name: str = Field(pattern=_ANY_NAME_PATTERN)
    spec: PipelineSpec
    file: str
    """The pipeline's own file, as messages name it; `transform_lines` are the lines of its transforms."""
    transform_lines: tuple[int, ...]
    schema_ddl: str | None
    """Text of the schema file; None where the format carries its own schema."""
    checks: tuple[Check, ...]
    """The suite's expectations, in file order; empty if the pipeline has no suite."""
    root: str
    """Directory that holds conf/ and, if there is one, jobs/transforms/."""
    checkpoint: str
    ledger_path: str
    quarantine_path: str
    lease_path: str
    spark: dict[str, str]
    maintenance: Maintenance | None = None
    """The pipeline's own, or the target's."""

    @property
    def live_name(self) -> str:
        """The pipeline's own name; of one over a folder of an archive, that of the pipeline whose archive it is."""
        return live_name(self.name)

    @property
    def can_be_held(self) -> bool:
        """Whether any check or limit can hold a batch."""
        fails = any(check.on_failure is OnFailure.FAIL for check in self.checks)
        return fails or self.spec.quality.halt_when is not None

    @property
    def asks_when_held(self) -> bool:
        """Whether the orchestrator may have to ask a person about a held batch."""
        return self.can_be_held and self.spec.when_held is WhenHeld.ASK
