"""What a run would do, in words: nothing is written. Secrets stay references."""

import re

import yaml
from pyspark.sql import DataFrame, SparkSession

from jobs.pipeline.batch import build_frames, inspect_frames
from jobs.pipeline.errors import EsclusaError
from jobs.pipeline.isolation import isolate_failing_rows
from jobs.pipeline.model import Check, Pipeline, Scope, SqlTransform
from jobs.pipeline.prepare import as_batch
from jobs.pipeline.quality.gate import Gate
from jobs.pipeline.quality.verdict import Verdict, describe_outcome, shown_parameters
from jobs.pipeline.sources.file_faults import corruption
from jobs.pipeline.sources.source import open_sample, open_stream
from jobs.pipeline.stages import Stages, compile_stages, fingerprint
from jobs.pipeline.summary import EXAMPLES_SHOWN, shown_raw

_FILE = re.compile(r"while reading file (.+?)\.\s+SQLSTATE")
"""Of Spark; the cause behind it names no file."""
_HOW = {
    Scope.ROW: "each row, as a Spark Column in the batch's one scan",
    Scope.SCHEMA: "the columns' names and types, without reading data",
    Scope.BATCH: "the batch's row count, from the same scan",
}


def describe(spark: SparkSession, pipeline: Pipeline) -> str:
    """Resolved conf, then source, transforms, checks and sink; analyses the transforms, runs no Spark job."""
    stages = compile_stages(spark, open_stream(spark, pipeline), pipeline)
    conf = pipeline.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=False)
    sections = {
        f"pipeline {pipeline.name} ({pipeline.file})": yaml.safe_dump(conf, sort_keys=False, allow_unicode=True),
        "transforms": "\n".join(_transforms(pipeline)) or "none",
        "checks": "\n".join(_checks(stages.gate)) or "none",
        "target columns": ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in stages.target.fields),
        "writes": "\n".join(_writes(pipeline)),
    }
    return "\n".join(f"== {title}\n{text.rstrip()}\n" for title, text in sections.items())


def judge_sample(spark: SparkSession, pipeline: Pipeline, rows: int) -> str:
    """What the checks say of the source's first rows; runs Spark jobs, writes nothing.

    Rows that cannot be computed are malformed, as in a run. EsclusaError for a file that cannot be read.
    """
    sample = open_sample(spark, pipeline, rows).persist()
    stages = compile_stages(spark, sample, pipeline)
    try:
        verdict = _judge(sample, stages)
    except Exception as error:
        if reason := corruption(error):
            file = _FILE.search(str(error))
            message = f"{file[1]}: {reason}" if file else reason
            raise EsclusaError(f"{message}. A run sets such a file apart, as one malformed row") from error
        mended = isolate_failing_rows(as_batch(sample, stages, _NoLease()), error)
        if mended is None:
            raise
        verdict = _judge(sample, mended.prepared.stages)
    return "\n".join(_verdict_lines(verdict))


class _NoLease:
    """Of who commits nothing."""

    def check(self) -> None:
        """Nobody else is kept out."""


def _judge(sample: DataFrame, stages: Stages) -> Verdict:
    return inspect_frames(build_frames(stages.parser(sample), stages), stages.gate)


def _transforms(pipeline: Pipeline) -> list[str]:
    return [
        f"{number}. {transform.sql if isinstance(transform, SqlTransform) else transform.python}"
        for number, transform in enumerate(pipeline.spec.transforms, 1)
    ]


def _checks(gate: Gate) -> list[str]:
    return [
        f"{check.name}: {check.type}({_arguments(check)})\n    {_HOW[check.scope]}; then {check.on_failure}"
        for check in gate.checks
    ]


def _arguments(check: Check) -> str:
    shown = shown_parameters(check)
    if check.mostly < 1:
        shown["mostly"] = check.mostly
    if check.row_condition:
        shown["row_condition"] = check.row_condition
    return ", ".join([*check.columns, *(f"{key}={value!r}" for key, value in shown.items())])


def _writes(pipeline: Pipeline) -> list[str]:
    return [
        f"target      {pipeline.spec.sink.path}",
        f"quarantine  {pipeline.quarantine_path}",
        f"ledger      {pipeline.ledger_path}",
        f"checkpoint  {pipeline.checkpoint}",
        "per batch   one scan stages the good rows and judges; then quarantine, target, ledger are committed",
        f"rules       {fingerprint(pipeline)}",
    ]


def _verdict_lines(verdict: Verdict) -> list[str]:
    title = f"== sample of {verdict.rows_read:,} rows: {verdict.rows_passed:,} pass, "
    title += f"{verdict.rows_quarantined:,} would be quarantined, {verdict.rows_dropped:,} dropped, "
    lines = [title + f"{verdict.rows_filtered:,} filtered by transforms"]
    if verdict.malformed.count:
        lines.append(f"malformed: {verdict.malformed.count:,} rows")
    lines += [
        f"{'ok  ' if result.success else 'FAIL'} {result.check.name}: {describe_outcome(result)}"
        for result in verdict.results
    ]
    for row in (*verdict.malformed.rows[:EXAMPLES_SHOWN], *verdict.unfit.rows[:EXAMPLES_SHOWN]):
        lines.append(f"e.g. {shown_raw(row)}\n     {'; '.join(error['message'] for error in row['_errors'])}")
    lines += [f"a run would hold the batch: {reason}" for reason in verdict.held_because]
    return lines
