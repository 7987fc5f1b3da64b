"""The demo behind `make run`: real flights in, a checked table out, and one question answered from it."""

from pathlib import Path

from pyspark.sql import DataFrame
from rich.console import Console
from rich.table import Table

from jobs.dev import flights
from jobs.dev.broker import start_broker
from jobs.dev.produce import produce_once
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_pipelines
from jobs.pipeline.progress import open_summary
from jobs.pipeline.session import start_session
from jobs.pipeline.terminal import open_console
from jobs.run_pipeline import bundle_spark, run_all

_QUESTION = "Which airport sends its flights off latest?"
_QUERY = """\
SELECT origin, count(*) AS flights, round(avg(dep_delay), 1) AS mean_delay_minutes,
       round(100 * avg(CAST(delay_band IN ('late', 'very late') AS INT)), 1) AS late_percent
FROM delta.`{path}` GROUP BY origin ORDER BY late_percent DESC"""


def run_demo(bundle: Bundle, *, over_kafka: bool) -> int:
    """Land or produce the flights, run the pipeline over them, show the result. Returns the run's exit code."""
    console = open_console()
    name = "flights_kafka" if over_kafka else "flights"
    if over_kafka:
        bundle = _with_broker(bundle, console)
    pipeline = load_pipelines(bundle, [name])[0]
    if not over_kafka:
        folder = Path(pipeline.spec.source.path)  # type: ignore[union-attr] # the demo's own conf: files
        placed = flights.land_files(folder)
        console.print(
            f"landed {placed} files of flights in {folder}" if placed else f"all flights have landed in {folder}"
        )
    with open_summary(console) as progress:
        progress.note("starting Spark")
        spark = start_session("esclusa demo", bundle_spark(bundle, [pipeline]))
        exit_code = run_all(spark, [pipeline], progress, None)
    if exit_code == 0:
        query = _QUERY.format(path=pipeline.spec.sink.path)
        console.print(f"\n[bold]{_QUESTION}[/]\n{query}\n", soft_wrap=True)
        _print_rows(console, spark.sql(query))
        _print_next_steps(console, name)
    spark.stop()
    return exit_code


def _with_broker(bundle: Bundle, console: Console) -> Bundle:
    broker = start_broker(bundle.root / "data" / "kafka")
    console.print(f"Kafka broker at {broker.servers}, process {broker.pid}")
    sent = produce_once(broker.servers, "flights", flights.read_records(), flights.ROWS)
    console.print(f"sent {sent:,} flights to topic flights" if sent else "all flights are in topic flights")
    return Bundle(bundle.conf, bundle.target, {"kafka_servers": broker.servers, **bundle.variables})


def _print_rows(console: Console, rows: DataFrame) -> None:
    table = Table(box=None, header_style="dim")
    for name in rows.columns:
        table.add_column(name, justify="right")
    for row in rows.collect():
        table.add_row(*map(str, row))
    console.print(table)


def _print_next_steps(console: Console, name: str) -> None:
    steps = {
        f".venv/bin/esclusa status {name}": "what each batch did, from the ledger",
        f".venv/bin/esclusa plan {name} --sample 1000": "what the checks say, writing nothing",
        "make run": "again: nothing new",
        "make run-kafka": "the same flights through a real Kafka broker",
    }
    console.print("\n[bold]Try next[/]")
    for command, effect in steps.items():
        console.print(f"  {command:<48}{effect}", soft_wrap=True)
