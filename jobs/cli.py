"""The `esclusa` command: one front over the entrypoints. `--help` and `check` import neither Spark nor GX."""

import click

from jobs import (
    __version__,
    check_conf,
    maintain_tables,
    plan_pipeline,
    release_batch,
    replay_quarantine,
    run_pipeline,
    show_checkpoint,
    show_status,
)
from jobs.dev import commands


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="esclusa")
def main() -> None:
    """Checked, exactly-once streams into Delta Lake."""


for command in (
    run_pipeline.main,
    check_conf.main,
    plan_pipeline.main,
    show_status.main,
    show_checkpoint.main,
    release_batch.main,
    replay_quarantine.main,
    maintain_tables.main,
):
    main.add_command(command)
for command in (commands.setup, commands.demo, commands.kafka, commands.airflow):
    main.add_command(command)
