"""By what a batch is judged and written: today's conf, pinned; that of an earlier attempt; or a person's decision."""

from dataclasses import replace
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession

from jobs.pipeline.batch import PreparedPipeline
from jobs.pipeline.commit import Step, transaction
from jobs.pipeline.delta import last_transaction
from jobs.pipeline.errors import TransformChangedError
from jobs.pipeline.ledger import read_ledger_anywhere
from jobs.pipeline.manifest import Manifest, read_manifest, write_manifest
from jobs.pipeline.model import Pipeline
from jobs.pipeline.prepare import prepare
from jobs.pipeline.quality.gate import drop_all
from jobs.pipeline.release import Decision, apply_release, find_release, release_transaction
from jobs.pipeline.stages import compile_stages


def pin_or_resume(
    prepared: PreparedPipeline, unparsed: DataFrame, batch_id: int, *, may_be_replay: bool
) -> tuple[PreparedPipeline, frozenset[Step]]:
    """What the batch is judged and written by, and which of its commits are there.

    A batch may be a replay after a crash, of one batch, or of several where an older checkpoint was restored.
    """
    if not may_be_replay:
        return _pin(prepared, unparsed.sparkSession, batch_id), frozenset()
    replayed, done = _resume(prepared, unparsed, batch_id)
    if done:
        return _with_release(replayed, unparsed, batch_id), done
    return _with_release(_pin(prepared, unparsed.sparkSession, batch_id), unparsed, batch_id), frozenset()


def _pin(prepared: PreparedPipeline, spark: SparkSession, batch_id: int) -> PreparedPipeline:
    """Write the manifest of a batch of which nothing is committed, by today's conf and today's clock."""
    pipeline = prepared.stages.pipeline
    manifest = Manifest(
        batch_id=batch_id, batch_time=datetime.now(UTC), fingerprint=prepared.fingerprint, pipeline=pipeline
    )
    write_manifest(spark, pipeline.checkpoint, manifest)
    return _at(prepared, manifest.batch_time)


def _resume(prepared: PreparedPipeline, unparsed: DataFrame, batch_id: int) -> tuple[PreparedPipeline, frozenset[Step]]:
    """Stages and tables by which an earlier attempt at this batch committed something, and what it committed.

    An attempt that committed nothing binds nobody: conf may have been mended since. Raises StateMismatchError if the
    code of a transform that decided about committed rows is not there any more.
    """
    spark = unparsed.sparkSession
    manifest = read_manifest(spark, prepared.stages.pipeline.checkpoint, batch_id)
    if manifest is None:
        return prepared, steps_done(spark, prepared, batch_id)
    pinned = prepared
    if manifest.pipeline != prepared.stages.pipeline:
        pipeline = _over_todays_table(manifest.pipeline, prepared.stages.pipeline)
        own = prepare(spark, unparsed, pipeline, prepared.lease)
        pinned = replace(own, query_id=prepared.query_id)
    done = steps_done(spark, pinned, batch_id)
    if done and pinned.fingerprint != manifest.fingerprint:
        message = (
            f"batch {batch_id} is committed in part ({', '.join(sorted(done))}), and the code of its Python transforms "
            "has changed since. Put the earlier code back for one run; the change then starts with the next batch"
        )
        raise TransformChangedError(message)
    return _at(pinned, manifest.batch_time), done


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
    wanted = release_transaction(prepared.query_id, batch_id)
    if prepared.ledger.last_version_of(wanted.app_id) != batch_id:
        return prepared
    spark, pipeline = unparsed.sparkSession, prepared.stages.pipeline
    release = find_release(read_ledger_anywhere(spark, pipeline.ledger_path), prepared.query_id, batch_id)
    stages = compile_stages(spark, unparsed, apply_release(pipeline, release))
    if release.decision is Decision.DROP:
        stages = replace(stages, gate=drop_all(stages.gate))
    stages = replace(stages, batch_time=prepared.stages.batch_time)
    return replace(prepared, stages=stages, release=release)


def steps_done(spark: SparkSession, prepared: PreparedPipeline, batch_id: int) -> frozenset[Step]:
    """Which writes of this batch an earlier attempt made; asked for batches that can be replays only."""
    versions = {
        Step.TARGET: last_transaction(spark, prepared.stages.pipeline.spec.sink.path, _app_id(prepared, Step.TARGET)),
        Step.QUARANTINE: prepared.quarantine.last_version_of(_app_id(prepared, Step.QUARANTINE)),
        Step.LEDGER: prepared.ledger.last_version_of(_app_id(prepared, Step.LEDGER)),
    }
    return frozenset(step for step, version in versions.items() if version is not None and version >= batch_id)


def _app_id(prepared: PreparedPipeline, step: Step) -> str:
    return transaction(prepared.query_id, step, 0).app_id
