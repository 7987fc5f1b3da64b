"""What a checkpoint belongs to: which source it counts through, which topics and tables it has met.

Kept beside Spark's own files, as `esclusa/identity.<n>.json`, a file for each start that met something new. A file that
a crash left half written is passed over: that start's query had not begun.
"""

import json
import re

from pydantic import Field, ValidationError
from pyspark.sql import SparkSession

from jobs.pipeline.source_model import FilesSource, Source
from jobs.pipeline.storage import create_text, list_names, read_text
from jobs.pipeline.strict import Strict

_NAME = re.compile(r"identity\.(\d+)\.json")


class Identity(Strict):
    """Facts that must stay as they are while a checkpoint is in use."""

    source: dict[str, str] = Field(default_factory=dict)
    """What names the source in conf: see `describe_source`."""
    topics: dict[str, str] = Field(default_factory=dict)
    """Id of each topic, which a topic of the same name made later does not have."""
    tables: dict[str, str] = Field(default_factory=dict)
    """Id of target and quarantine, by step."""


def describe_source(source: Source) -> dict[str, str]:
    """The parts of conf by which a source is the same; brokers may move, limits may change."""
    if isinstance(source, FilesSource):
        return {"type": source.type, "format": str(source.format), "path": source.path}
    return {"type": source.type} | {
        key: value for key, value in source.options.items() if key in {"subscribe", "subscribePattern", "assign"}
    }


def read_identity(spark: SparkSession | None, checkpoint: str) -> Identity:
    """All that earlier starts have met; empty before the first."""
    known = Identity()
    for number in _numbers(spark, checkpoint):
        known = merge(known, _read(spark, _file(checkpoint, number)))
    return known


def remember(spark: SparkSession, checkpoint: str, known: Identity, met: Identity) -> None:
    """Write a file, if `met` holds what `known` does not; to be called before the query starts."""
    if merge(known, met) != known:
        number = max(_numbers(spark, checkpoint), default=-1) + 1
        create_text(spark, _file(checkpoint, number), met.model_dump_json())


def merge(known: Identity, met: Identity) -> Identity:
    """Both, of which `met` is the newer."""
    return Identity(
        source=met.source or known.source, topics=known.topics | met.topics, tables=known.tables | met.tables
    )


def _numbers(spark: SparkSession | None, checkpoint: str) -> list[int]:
    found = [_NAME.fullmatch(name) for name in list_names(spark, f"{checkpoint}/esclusa")]
    return sorted(int(match.group(1)) for match in found if match)


def _file(checkpoint: str, number: int) -> str:
    return f"{checkpoint}/esclusa/identity.{number}.json"


def _read(spark: SparkSession | None, path: str) -> Identity:
    try:
        return Identity.model_validate(json.loads(read_text(spark, path)))
    except (ValueError, ValidationError):
        return Identity()
