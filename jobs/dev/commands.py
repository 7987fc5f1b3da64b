"""Commands for a developer's machine: set up, show real data, run a broker. Not for production."""

import sys
from pathlib import Path

import click

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.entrypoint import bundle_options, run_guarded


@click.command()
@click.option("--kafka", "with_kafka", is_flag=True, help="Also install a Kafka broker.")
def setup(with_kafka: bool) -> None:  # noqa: FBT001 - click passes it
    """Install the JVM jars into this virtual environment, and record a class archive for faster starts."""
    sys.exit(run_guarded(lambda: _set_up(with_kafka=with_kafka)))


def _set_up(*, with_kafka: bool) -> None:
    from jobs.dev import jars  # noqa: PLC0415 - imports pyspark: not for --help
    from jobs.pipeline.session import find_java  # noqa: PLC0415

    find_java()
    steps = {"JVM jars": jars.install_spark_jars, "class archive": jars.install_class_archive}
    if with_kafka:
        steps["Kafka broker"] = jars.install_kafka_jars
    for name, step in steps.items():
        click.echo(f"{name} … ", nl=False)
        click.echo("installed" if step() else "up to date")


@click.command()
@click.option("--kafka", "over_kafka", is_flag=True, help="Stream the flights through a real Kafka broker.")
@bundle_options
def demo(bundle: Bundle, over_kafka: bool) -> int:  # noqa: FBT001 - click passes it
    """Run the flight pipeline on 336,776 real departures and show what happened."""
    from jobs.dev.demo import run_demo  # noqa: PLC0415 - imports pyspark: not for --help

    return run_demo(bundle, over_kafka=over_kafka)


@click.group()
def kafka() -> None:
    """A real single-node Kafka broker on loopback, for development."""


_folder = click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("data/kafka"), show_default=True, help="Data and logs."
)


@kafka.command()
@_folder
@click.option("--port", type=int, help="By default a free port.")
def start(folder: Path, port: int | None) -> None:
    """Start the broker (or find the one that runs) and print its address."""
    from jobs.dev.broker import start_broker  # noqa: PLC0415

    def action() -> None:
        broker = start_broker(folder, port)
        click.echo(f"Kafka broker at {broker.servers}, process {broker.pid}; stop it with: make kafka-stop")

    sys.exit(run_guarded(action))


@kafka.command()
@_folder
def stop(folder: Path) -> None:
    """Stop the folder's broker by its process id."""
    from jobs.dev.broker import stop_broker  # noqa: PLC0415

    click.echo("stopped" if stop_broker(folder) else "no broker runs here")


@click.group()
def airflow() -> None:
    """A real local Airflow over the bundle's DAGs, for development."""


@airflow.command(name="start")
@click.option("--port", type=int, help="By default a free port.")
@bundle_options
def start_airflow(bundle: Bundle, port: int | None) -> None:
    """Land the demo's flights, start Airflow, let their pipeline run; Ctrl-C stops all of it."""
    from jobs.dev.airflow_demo import run_demo  # noqa: PLC0415

    run_demo(bundle, port)


@airflow.command(name="stop")
@bundle_options
def stop_airflow(bundle: Bundle) -> None:
    """Stop it from another terminal, or what is left of it."""
    from jobs.dev import airflow as services  # noqa: PLC0415
    from jobs.dev.airflow_demo import demo_place  # noqa: PLC0415

    click.echo("stopped" if services.stop_airflow(demo_place(bundle).home) else "no Airflow runs here")
