"""What the gate costs: plain `foreachBatch` append, Esclusa's gate, its parts, and Great Expectations, side by side.

Every figure is CPU seconds (this process and its JVM) and wall seconds of one micro-batch from Kafka, measured
inside foreachBatch, the variants in turn in one process after a warm-up: batches of `--rows` with shares of bad rows,
then batches of a thousand rows. The first batch of a process is measured apart, a fresh process a batch. Ratios are
medians of the rounds' own ratios.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from jobs.dev import flights
from jobs.dev.broker import running_broker
from jobs.dev.produce import create_topic, produce
from jobs.pipeline.batch import PreparedPipeline, SparkBatch, build_frames, transform_well_formed
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.checkpoint import read_query_id, read_source_range
from jobs.pipeline.commit import commit_batch
from jobs.pipeline.conf import load_pipeline
from jobs.pipeline.lease import Lease, hold_lease
from jobs.pipeline.model import Pipeline
from jobs.pipeline.prepare import open_tables
from jobs.pipeline.quality.gate import passed
from jobs.pipeline.quality.gathering import USUAL, Gathering, gathering_after
from jobs.pipeline.session import start_session
from jobs.pipeline.sinks import ensure_target
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.sources.source import open_stream
from jobs.pipeline.spark_properties import read_properties
from jobs.pipeline.stages import compile_stages, fingerprint

ROOT = Path(__file__).parent.parent
TICKS_PER_SECOND = 100
TINY_ROWS = 1_000
VARIANTS = ["plain", "plain_txn", "parsed", "checked", "gate", "gx"]


@dataclass(frozen=True)
class Cost:
    cpu: float
    wall: float


@dataclass(frozen=True)
class Load:
    """What a batch holds."""

    rows: int
    bad_share: float

    @property
    def topic(self) -> str:
        """The Kafka topic that holds it."""
        return f"bench_{self.rows}_{int(self.bad_share * 1000)}"

    @property
    def title(self) -> str:
        """What stands in front of its figures."""
        return f"{self.rows:,} rows, {self.bad_share:.0%} bad"


def cpu_seconds(spark: SparkSession) -> float:
    """CPU of this process and of the driver's JVM."""
    pid = spark._jvm.java.lang.ProcessHandle.current().pid()  # noqa: SLF001 - the JVM's own process id
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def records(rows: int, bad_share: float) -> Iterator[bytes]:
    """Flights without the package's own gaps; a share of them made implausible."""
    complete = [record for record in flights.read_records() if b"null" not in record]
    chance = random.Random(7)  # noqa: S311 - the same rows in every run
    for record in islice(cycle(complete), rows):
        if chance.random() < bad_share:
            yield json.dumps(json.loads(record) | {"dep_delay": 99_999}).encode()
        else:
            yield record


def write_bundle(folder: Path, servers: str, topic: str) -> Pipeline:
    """A bundle of its own: the flights over Kafka, ten row checks, nothing that could hold a batch."""
    for name in ("pipelines", "suites", "schemas", "targets"):
        (folder / "conf" / name).mkdir(parents=True, exist_ok=True)
    source = (ROOT / "conf" / "pipelines" / "flights_kafka.yml").read_text()
    (folder / "conf" / "pipelines" / "bench.yml").write_text(
        source.replace("subscribe: flights", f"subscribe: {topic}").replace("suite: flights", "suite: bench")
    )
    suite = json.loads((ROOT / "conf" / "suites" / "flights.json").read_text())
    suite["expectations"] = [check for check in suite["expectations"] if "_table_" not in check["type"]][:10]
    (folder / "conf" / "suites" / "bench.json").write_text(json.dumps(suite))
    (folder / "conf" / "schemas" / "flights.ddl").write_text((ROOT / "conf" / "schemas" / "flights.ddl").read_text())
    (folder / "conf" / "targets" / "local.yml").write_text(
        f"variables: {{lake: {folder}/lake, kafka_servers: '{servers}'}}\nstate: {folder}/state\n"
    )
    return load_pipeline(Bundle(folder / "conf"), "bench")


def plain_batch(pipeline: Pipeline, path: str) -> Callable[[DataFrame, int], None]:
    """What one writes without Esclusa: parse, transform, append."""

    def run(unparsed: DataFrame, _: int) -> None:
        _shape_plainly(unparsed, pipeline).write.format("delta").mode("append").save(path)

    return run


def idempotent_batch(pipeline: Pipeline, path: str, checkpoint: str) -> Callable[[DataFrame, int], None]:
    """The same with Delta's own recipe for exactly-once appends in foreachBatch: txnAppId and txnVersion."""

    def run(unparsed: DataFrame, batch_id: int) -> None:
        writer = _shape_plainly(unparsed, pipeline).write.format("delta").mode("append")
        writer.option("txnAppId", checkpoint).option("txnVersion", batch_id).save(path)

    return run


def parsed_batch(spark: SparkSession, pipeline: Pipeline, path: str) -> Callable[[DataFrame, int], None]:
    """Of Esclusa its parser only: malformed rows are told from the others, counted and gathered, then left out."""
    stages = compile_stages(spark, open_stream(spark, pipeline), pipeline)

    def run(unparsed: DataFrame, _: int) -> None:
        counts = (*stages.gate.source_counts, *stages.gate.source_gathered)
        parsed = stages.parser(unparsed).observe(Observation(), *counts)
        transform_well_formed(parsed, stages).select(stages.target.names).write.format("delta").mode("append").save(
            path
        )

    return run


def checked_batch(spark: SparkSession, pipeline: Pipeline, path: str) -> Callable[[DataFrame, int], None]:
    """Parser and checks, as the gate has them, without the protocol: a plain append, no quarantine, no ledger."""
    stages = compile_stages(spark, open_stream(spark, pipeline), pipeline)

    def run(unparsed: DataFrame, _: int) -> None:
        frames = build_frames(stages.parser(unparsed), stages)
        passed(frames.annotated, stages.target.names).write.format("delta").mode("append").save(path)

    return run


def gx_batch(pipeline: Pipeline, path: str) -> Callable[[DataFrame, int], None]:
    """Great Expectations validates the cached batch; then it is appended as it is."""
    import great_expectations as gx  # noqa: PLC0415 - slow to import, and only one variant needs it

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_spark(name="bench").add_dataframe_asset(name="bench")
    definition = asset.add_batch_definition_whole_dataframe("batch")
    content = json.loads((Path(pipeline.root) / "conf" / "suites" / "bench.json").read_text())
    suite = gx.ExpectationSuite(name="bench", expectations=content["expectations"])

    def run(unparsed: DataFrame, _: int) -> None:
        frame = _shape_plainly(unparsed, pipeline).persist()
        definition.get_batch({"dataframe": frame}).validate(suite, result_format="BASIC")
        frame.write.format("delta").mode("append").save(path)
        frame.unpersist()

    return run


def _shape_plainly(unparsed: DataFrame, pipeline: Pipeline) -> DataFrame:
    value = F.from_json(F.col("value").cast("string"), pipeline.schema_ddl or "")
    rows = unparsed.select(value.alias("v"), "partition", "offset").select("v.*", "partition", "offset")
    scheduled_at = F.make_timestamp("year", "month", "day", "hour", "minute", F.lit(0))
    delay = F.col("dep_delay")
    band = F.when(delay < 0, "early").when(delay < 15, "on time").when(delay < 120, "late").otherwise("very late")  # noqa: PLR2004
    rows = rows.withColumn("scheduled_at", scheduled_at).withColumn("delay_band", F.when(delay.isNotNull(), band))
    return rows.withColumnsRenamed({"partition": "kafka_partition", "offset": "kafka_offset"})


@dataclass
class GateRun:
    """What a run of Esclusa keeps from batch to batch: its tables, its lease, and what it has learnt."""

    spark: SparkSession
    pipeline: Pipeline
    tables: tuple[SmallTable, SmallTable]
    lease: Lease
    is_first: bool = True
    gathering: Gathering = USUAL
    """What the batch before has shown to suit the next."""

    def batch(self, checkpoint: str) -> Callable[[DataFrame, int], None]:
        """Esclusa's own batch, with the identity of a fresh checkpoint."""
        own = self.pipeline.model_copy(update={"checkpoint": checkpoint})
        stages = compile_stages(self.spark, open_stream(self.spark, own), own)

        def run(batch: DataFrame, batch_id: int) -> None:
            source_range = read_source_range(self.spark, checkpoint, batch_id)
            query_id = str(read_query_id(self.spark, checkpoint))
            prepared = PreparedPipeline(stages, query_id, fingerprint(own), *self.tables, self.lease)
            own_batch = SparkBatch(
                prepared, batch, batch_id, source_range, None, is_first=self.is_first, gathering=self.gathering
            )
            verdict = commit_batch(own_batch, frozenset())
            own_batch.forget_parsed()
            self.is_first = False
            if verdict is not None:
                self.gathering = gathering_after(self.gathering, verdict)

        return run


@contextmanager
def gate_run(spark: SparkSession, pipeline: Pipeline) -> Iterator[GateRun]:
    """A run as it stands between two batches."""
    ensure_target(spark, pipeline, compile_stages(spark, open_stream(spark, pipeline), pipeline).target)
    with hold_lease(spark, pipeline.name, pipeline.lease_path) as lease:
        yield GateRun(spark, pipeline, open_tables(spark, pipeline), lease)


def measure(spark: SparkSession, pipeline: Pipeline, checkpoint: str, run: Callable[[DataFrame, int], None]) -> Cost:
    """Cost of the one batch that a new query over the whole topic runs."""
    costs: list[Cost] = []

    def timed(batch: DataFrame, batch_id: int) -> None:
        cpu, wall = cpu_seconds(spark), time.monotonic()
        run(batch, batch_id)
        costs.append(Cost(cpu_seconds(spark) - cpu, time.monotonic() - wall))

    source = pipeline.spec.source.model_copy(
        update={"options": {k: v for k, v in pipeline.spec.source.options.items() if k != "maxOffsetsPerTrigger"}}
    )
    whole = pipeline.model_copy(update={"spec": pipeline.spec.model_copy(update={"source": source})})
    stream = open_stream(spark, whole).writeStream.option("checkpointLocation", checkpoint)
    stream.trigger(availableNow=True).foreachBatch(timed).start().awaitTermination()
    assert len(costs) == 1, f"{len(costs)} batches"  # noqa: S101 - the figures rest on it
    return costs[0]


def run_load(spark: SparkSession, folder: Path, servers: str, arguments: argparse.Namespace, load: Load) -> None:
    """Measure all variants for one kind of batch and print a line each."""
    create_topic(servers, load.topic)
    produce(servers, load.topic, records(load.rows, load.bad_share))
    pipeline = write_bundle(folder / load.topic, servers, load.topic)
    costs: dict[str, list[Cost]] = {}
    with _open_gate(spark, pipeline, arguments.variants) as gate:
        for number in range(arguments.warm_up + arguments.rounds):
            for variant in arguments.variants:
                checkpoint = str(folder / load.topic / f"checkpoint-{variant}-{number}")
                run = _variant(spark, pipeline, gate, variant, checkpoint)
                cost = measure(spark, pipeline, checkpoint, run)
                if number >= arguments.warm_up:
                    costs.setdefault(variant, []).append(cost)
    print_costs(load.title, costs)


def _open_gate(spark: SparkSession, pipeline: Pipeline, variants: list[str]) -> AbstractContextManager[GateRun | None]:
    """None where the gate is not measured: opening it would warm the process up."""
    return gate_run(spark, pipeline) if "gate" in variants else nullcontext()


def _variant(
    spark: SparkSession, pipeline: Pipeline, gate: GateRun | None, variant: str, checkpoint: str
) -> Callable[[DataFrame, int], None]:
    path = f"{pipeline.spec.sink.path}_{variant}"
    match variant:
        case "plain":
            return plain_batch(pipeline, path)
        case "plain_txn":
            return idempotent_batch(pipeline, path, checkpoint)
        case "parsed":
            return parsed_batch(spark, pipeline, path)
        case "checked":
            return checked_batch(spark, pipeline, path)
        case "gate":
            assert gate is not None  # noqa: S101 - _open_gate has opened it
            return gate.batch(checkpoint)
        case _:
            return gx_batch(pipeline, path)


def print_costs(title: str, costs: dict[str, list[Cost]]) -> None:
    base = costs["plain"]
    for variant, own in costs.items():
        ratios = [one.cpu / other.cpu for one, other in zip(own, base, strict=True)]
        walls = [one.wall / other.wall for one, other in zip(own, base, strict=True)]
        cpu, wall = statistics.median(c.cpu for c in own), statistics.median(c.wall for c in own)
        print(
            f"{title:<21} {variant:<9} cpu {cpu:6.2f} s  wall {wall:6.2f} s  "
            f"cpu/plain {statistics.median(ratios):5.2f} ({min(ratios):.2f}-{max(ratios):.2f})  "
            f"wall/plain {statistics.median(walls):5.2f}",
            flush=True,
        )


def run_first(folder: Path, servers: str, arguments: argparse.Namespace) -> None:
    """First batch of a process: a fresh process a batch, the variants in turn."""
    create_topic(servers, "first")
    produce(servers, "first", records(arguments.rows, 0.01))
    costs: dict[str, list[Cost]] = {}
    for number in range(arguments.rounds):
        for variant in arguments.variants:
            command = [sys.executable, __file__, "--one", variant, servers, str(folder / f"first-{variant}-{number}")]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            costs.setdefault(variant, []).append(Cost(**json.loads(done.stdout.splitlines()[-1])))
    print_costs("first", costs)


def run_one(variant: str, servers: str, folder: Path) -> None:
    pipeline = write_bundle(folder, servers, "first")
    spark = open_spark()
    checkpoint = str(folder / "checkpoint")
    with _open_gate(spark, pipeline, [variant]) as gate:
        run = _variant(spark, pipeline, gate, variant, checkpoint)
        print(json.dumps(vars(measure(spark, pipeline, checkpoint, run))))


def open_spark() -> SparkSession:
    options = {"spark.master": "local[*]", "spark.driver.memory": "3g", "spark.sql.shuffle.partitions": "2"}
    options |= {"spark.databricks.delta.snapshotPartitions": "1"}
    return start_session("bench", read_properties(ROOT / "conf" / "spark-defaults.conf") | options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=4)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.01, 0.2])
    parser.add_argument("--variants", nargs="+", default=VARIANTS)
    parser.add_argument("--first", action="store_true", help="only the first batch of a process")
    parser.add_argument("--steady", action="store_true", help="only batches after the first")
    parser.add_argument("--one", nargs=3, metavar=("VARIANT", "SERVERS", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run_one(arguments.one[0], arguments.one[1], Path(arguments.one[2]))
        return
    with tempfile.TemporaryDirectory() as name, running_broker(Path(name) / "kafka") as broker:
        print(
            f"{arguments.rows:,} rows a batch, {arguments.rounds} rounds after {arguments.warm_up} to warm up",
            flush=True,
        )
        if not arguments.steady:
            run_first(Path(name), broker.servers, arguments)
        if not arguments.first:
            spark = open_spark()
            for load in [*(Load(arguments.rows, share) for share in arguments.shares), Load(TINY_ROWS, 0.01)]:
                run_load(spark, Path(name), broker.servers, arguments, load)
            spark.stop()


if __name__ == "__main__":
    main()
