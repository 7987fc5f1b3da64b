"""The manifest pins what decides about a batch before its first commit, so that a replay decides the same.

One file in the checkpoint's own directory, written anew for each batch: Spark replays none but the last. It holds
the batch's clock, the fingerprint of the rules, and the whole resolved pipeline, secrets as references.
"""

import json
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from pyspark.sql import SparkSession

from jobs.pipeline.errors import StateMismatchError
from jobs.pipeline.model import Pipeline
from jobs.pipeline.storage import exists, read_text, write_text
from jobs.pipeline.strict import Strict


class Manifest(Strict):
    """What a batch is judged and written by."""

    batch_id: int
    batch_time: datetime
    fingerprint: str
    pipeline: Pipeline
    is_released: bool | None = None
    """Whether by a person's decision on it: one that comes later is too late for an attempt that goes on. None if an
    earlier release wrote this, which did not say."""


def write_manifest(spark: SparkSession, checkpoint: str, manifest: Manifest) -> None:
    """Pin a batch, in place of the one before; to be called before the batch's first commit."""
    write_text(spark, _file(checkpoint), manifest.model_dump_json(by_alias=True))


def read_manifest(spark: SparkSession | None, checkpoint: str, batch_id: int) -> Manifest | None:
    """The manifest of this batch; None if it has none, or one that a crash left half written.

    Nothing is committed before the manifest is whole, so half a manifest says that nothing is. Raises
    StateMismatchError for one that this release cannot read.
    """
    path = _file(checkpoint)
    try:
        content = json.loads(read_text(spark, path)) if exists(spark, path) else {}
    except ValueError:
        return None
    return _validate(content, path) if content.get("batch_id") == batch_id else None


def _validate(content: dict[str, Any], path: str) -> Manifest:
    try:
        return Manifest.model_validate_json(json.dumps(content))
    except ValidationError as error:
        message = (
            f"{path} was written by another release ({error.errors()[0]['msg']}); finish the batch with that release"
        )
        raise StateMismatchError(message) from error


def _file(checkpoint: str) -> str:
    return f"{checkpoint}/esclusa/manifest.json"
