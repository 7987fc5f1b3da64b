"""Pipeline -> Stages: parser, transforms and gate, compiled once for the columns that the source gives."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from jobs.pipeline.columns import quote
from jobs.pipeline.errors import ConfError
from jobs.pipeline.model import Pipeline, PythonTransform
from jobs.pipeline.quality.binding import find_problems
from jobs.pipeline.quality.gate import Gate, compile_gate, data_columns
from jobs.pipeline.record import MALFORMED
from jobs.pipeline.sources.source import compile_parser
from jobs.pipeline.sources.text_values import Parser
from jobs.pipeline.transforms import apply_transforms, hash_functions, load_function, vet_repeatable, vet_sql

_NO_BATCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Stages:
    """A pipeline's stages, compiled once a run for the columns that its source gives."""

    pipeline: Pipeline
    parser: Parser
    gate: Gate
    target: StructType
    """Columns of the target, in the pipeline's order."""
    batch_time: datetime = _NO_BATCH
    """The batch's clock, `:batch_time` in SQL transforms: the same in every replay of the batch."""


def compile_stages(spark: SparkSession, unparsed: DataFrame, pipeline: Pipeline) -> Stages:
    """Compile parser, transforms and gate for rows like those of `unparsed`; starts no Spark job.

    Raises ConfError for transforms and checks that cannot be evaluated over this source, or not twice with the same
    result.
    """
    vet_sql(spark, pipeline)
    parser = compile_parser(unparsed, pipeline)
    parsed = parser(spark.createDataFrame([], unparsed.schema)).drop(MALFORMED)
    vet_repeatable(parsed, pipeline, _NO_BATCH)
    shaped = apply_transforms(parsed, pipeline, _NO_BATCH)
    target = shaped.select(*map(quote, data_columns(shaped))).schema
    problems = find_problems(pipeline.checks, target, spark)
    if problems:
        raise ConfError(problems)
    return Stages(pipeline, parser, compile_gate(pipeline.checks, pipeline.spec.quality, shaped), target)


def missing_code(pipeline: Pipeline) -> str | None:
    """Why a Python transform is not to be found; None if all are there."""
    try:
        for transform in pipeline.spec.transforms:
            if isinstance(transform, PythonTransform):
                load_function(transform.python, pipeline.root)
    except (ImportError, AttributeError) as error:
        return str(error)
    return None


def fingerprint(pipeline: Pipeline) -> str:
    """Short hash of all that decides about a row: checks, transforms and their code, schema, quality settings."""
    content = [
        [check.model_dump(mode="json", exclude={"file", "line"}) for check in pipeline.checks],
        pipeline.spec.model_dump(mode="json", include={"transforms", "quality"}),
        pipeline.schema_ddl,
        hash_functions(pipeline),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
