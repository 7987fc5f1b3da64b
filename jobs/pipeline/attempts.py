"""By what a batch is judged and written: today's conf, pinned; that of an earlier attempt; or a person's decision."""

from dataclasses import replace
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession

from jobs.pipeline.batch import PreparedPipeline
from jobs.pipeline.commit import Step
from jobs.pipeline.errors import TransformChangedError
from jobs.pipeline.ledger import read_ledger_anywhere
from jobs.pipeline.manifest import Manifest, read_manifest, write_manifest
from jobs.pipeline.model import Pipeline
from jobs.pipeline.prepare import prepare
from jobs.pipeline.quality.gate import drop_all
from jobs.pipeline.release import Decision, apply_release, find_release, is_decided
from jobs.pipeline.stages import compile_stages, missing_code
from jobs.pipeline.tables import newest_in, read_tables


def pin_or_resume(
    prepared: PreparedPipeline, unparsed: DataFrame, batch_id: int, *, may_be_replay: bool
) -> tuple[PreparedPipeline, frozenset[Step]]:
    """What the batch is judged and written by, and which of its commits are there.

    A batch may be a replay after a crash, of one batch, or of several where an older checkpoint was restored. Attempts
    that committed nothing bind nobody: conf may have been mended since, and what it named may be gone.
    """
    spark, pipeline = unparsed.sparkSession, prepared.stages.pipeline
    if not may_be_replay:
        return _at(prepared, _pin(prepared, spark, batch_id, is_released=False)), frozenset()
    manifest = read_manifest(spark, pipeline.checkpoint, batch_id)
    done = steps_done(spark, manifest.pipeline if manifest else pipeline, prepared.query_id, batch_id)
    if Step.LEDGER in done:  # nothing is left to do by any conf
        return prepared, done
    if manifest and done:
        resumed = _resume(prepared, unparsed, manifest, done)
        return (resumed if manifest.is_released is False else _with_release(resumed, unparsed, batch_id)), done
    released = _with_release(prepared, unparsed, batch_id)
    if done:
        return released, done
    began = _pin(prepared, spark, batch_id, is_released=released.release is not None)
    return _at(released, began), frozenset()


def _pin(prepared: PreparedPipeline, spark: SparkSession, batch_id: int, *, is_released: bool) -> datetime:
    """Write the manifest of a batch of which nothing is committed, by today's conf and today's clock; the clock."""
    manifest = Manifest(
        batch_id=batch_id,
        batch_time=datetime.now(UTC),
        fingerprint=prepared.fingerprint,
        pipeline=prepared.stages.pipeline,
        is_released=is_released,
    )
    prepared.lease.check()
    write_manifest(spark, manifest.pipeline.checkpoint, manifest)
    return manifest.batch_time


def _resume(
    prepared: PreparedPipeline, unparsed: DataFrame, manifest: Manifest, done: frozenset[Step]
) -> PreparedPipeline:
    """Stages and tables by which an earlier attempt at this batch committed something.

    Raises TransformChangedError if the code of a transform that decided about committed rows is not there any more.
    """
    pinned, why = prepared, missing_code(manifest.pipeline)
    if why is None and manifest.pipeline != prepared.stages.pipeline:
        pipeline = _over_todays_table(manifest.pipeline, prepared.stages.pipeline)
        own = prepare(unparsed.sparkSession, unparsed, pipeline, prepared.lease)
        pinned = replace(own, query_id=prepared.query_id)
    if why or pinned.fingerprint != manifest.fingerprint:
        message = (
            f"batch {manifest.batch_id} is committed in part ({', '.join(sorted(done))}), and the code of its Python "
            f"transforms has changed since{f' ({why})' if why else ''}. Put the earlier code back for one run; the "
            "change then starts with the next batch"
        )
        raise TransformChangedError(message)
    return _at(pinned, manifest.batch_time)


def _over_todays_table(pinned: Pipeline, today: Pipeline) -> Pipeline:
    """The pinned pipeline; where today's merges schemas, the table may have columns by now that it does not give."""
    if not today.spec.sink.merge_schema:
        return pinned
    sink = pinned.spec.sink.model_copy(update={"merge_schema": True})
    return pinned.model_copy(update={"spec": pinned.spec.model_copy(update={"sink": sink})})


def _at(prepared: PreparedPipeline, batch_time: datetime) -> PreparedPipeline:
    return replace(prepared, stages=replace(prepared.stages, batch_time=batch_time))


def _with_release(prepared: PreparedPipeline, unparsed: DataFrame, batch_id: int) -> PreparedPipeline:
    """For a batch that was held, with stages as a person decided; a run's first batch is the only one that can be."""
    if not is_decided(prepared.ledger, prepared.query_id, batch_id):
        return prepared
    spark, pipeline = unparsed.sparkSession, prepared.stages.pipeline
    release = find_release(read_ledger_anywhere(spark, pipeline.ledger_path), prepared.query_id, batch_id)
    stages = compile_stages(spark, unparsed, apply_release(pipeline, release))
    if release.decision is Decision.DROP:
        stages = replace(stages, gate=drop_all(stages.gate))
    stages = replace(stages, batch_time=prepared.stages.batch_time)
    return replace(prepared, stages=stages, release=release)


def steps_done(spark: SparkSession, pipeline: Pipeline, query_id: str, batch_id: int) -> frozenset[Step]:
    """Which writes of this batch an earlier attempt made; asked for batches that can be replays only."""
    newest = newest_in(read_tables(spark, pipeline, query_id))
    return frozenset(step for step in Step if newest[step] >= batch_id)
