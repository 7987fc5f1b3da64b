"""The conf language of sources: which there are, and which of Spark's options each takes."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from jobs.pipeline.strict import Location, Option, Strict


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


class FilesSource(Strict):
    """A directory (or glob) in which an upstream places whole files."""

    type: Literal["files"]
    format: FileFormat = Field(strict=False)
    path: Location
    schema_name: str | None = Field(default=None, alias="schema")
    """Name of `conf/schemas/<name>.ddl`; may be left out for formats that carry their own schema."""
    options: dict[str, Option] = {}

    @property
    def is_text(self) -> bool:
        """Whether files are read as text, one record a line or an element of JSON: each row's raw text is known."""
        if self.format is FileFormat.CSV:
            return not self.is_multi_line
        return self.format in {FileFormat.JSON, FileFormat.TEXT}

    @property
    def is_multi_line(self) -> bool:
        """Whether a record may go over several lines."""
        return self.options.get("multiLine", "false").lower() == "true"

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
