from io import StringIO

import pytest
from rich.console import Console

from jobs.pipeline.summary import RunSummary, print_summary


@pytest.mark.parametrize("name", ["speed [km/h]", "ratio [/day]", "[bold]x[/bold]"])
def test_names_of_checks_and_tables_are_shown_as_they_are(bundle, name):
    bundle.edit("conf/targets/local.yml", "lake: ${data}/lake", f"lake: 's3a://lake/{name}'")
    bundle.edit("conf/targets/local.yml", "state: ${data}/state", f"state: 's3a://state/{name}'")
    summary = RunSummary(bundle.load("orders"), started=0, batches=1)
    summary.unexpected[name] = 7
    summary.dispositions[name] = "drop"
    shown = StringIO()
    print_summary(Console(file=shown, width=160), summary)
    _, _, check, *paths = shown.getvalue().splitlines()
    assert [word.strip() for word in check.split("  ") if word.strip()] == [name, "7", "drop"]
    pipeline = summary.pipeline
    assert [path.split("  ")[-1].strip() for path in paths] == [
        pipeline.spec.sink.path,
        pipeline.quarantine_path,
        pipeline.ledger_path,
    ]
