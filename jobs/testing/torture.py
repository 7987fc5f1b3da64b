"""`make torture`: the whole matrix of kills over a real pipeline, its baseline, and what was lost or doubled.

`python -m jobs.testing.torture --help` shows the options. The exit code is 1 for any violation, for a scripted kill
that did not happen, and for a baseline that passed.
"""

import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from jobs.dev.broker import running_broker
from jobs.pipeline.terminal import open_console
from jobs.testing.checker import Conservation
from jobs.testing.nemesis import Victims
from jobs.testing.tally import LaneResult, describe_cost, load_results, make_result, make_table, save_result
from jobs.testing.workshop import Plan, Workshop, has_faults, plan, run_baseline

_SECONDS_A_MINUTE = 60
_FOLDER = click.Path(path_type=Path)
_EVIDENCE = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Of the order, the times, the victims, the data.")
@click.option("--kills", type=int, default=360, show_default=True, help="How many runs to kill.")
@click.option("--rows", type=int, default=3000, show_default=True, help="Events that one batch takes.")
@click.option("--lanes", type=int, default=2, show_default=True, help="Pipelines that are killed at the same time.")
@click.option("--minutes", type=float, default=inf, help="Begin no further kill after so long; by default all.")
@click.option("--folder", type=_FOLDER, help="Where the evidence stays; by default a new one.")
@click.option(
    "--sum", "summed", type=_EVIDENCE, multiple=True, help="Run nothing; add up the evidence of earlier runs."
)
def main(summed: tuple[Path, ...], **options: Any) -> None:
    """Kill pipelines at every point of a batch; check that nothing is lost, doubled or misplaced."""
    console = open_console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = _load_each(summed) if summed else Torture(console=console, **options).run()
    console.print(make_table(results), soft_wrap=False)
    console.print(describe_cost(results))
    sys.exit(any(result.violations for result in results))


def _load_each(folders: tuple[Path, ...]) -> list[LaneResult]:
    loaded = {folder: load_results(folder) for folder in folders}
    for folder, results in loaded.items():
        if not results:
            raise click.BadParameter(f"{folder} holds no lane that was audited", param_hint="--sum")
    return [result for results in loaded.values() for result in results]


@dataclass(frozen=True, slots=True)
class Torture:
    """One session of kills; the fields are the command's options."""

    console: Console
    seed: int
    kills: int
    rows: int
    lanes: int
    minutes: float
    folder: Path | None

    def run(self) -> list[LaneResult]:
        """Run baseline and lanes; what they found is printed lane by lane, and kept in the folder."""
        deadline = time.monotonic() + self.minutes * _SECONDS_A_MINUTE
        folder = (self.folder or Path(tempfile.mkdtemp(prefix="torture-"))).resolve()
        self.console.print(f"seed {self.seed}, {self.kills} kills, {self.rows:,} events a batch; evidence in {folder}")
        workshop = Workshop(folder, self.seed, self.rows)
        self._require_faults(run_baseline(workshop, list(Victims)))
        with running_broker(folder / "kafka") as broker, ThreadPoolExecutor(self.lanes) as pool:
            planned = plan(workshop, broker.servers, self.kills)
            try:
                running = [pool.submit(self._run_lane, folder, one, deadline) for one in planned]
                return [result for one in as_completed(running) if (result := one.result()).kills or result.violations]
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                self.console.print("interrupted: the lanes in flight go on to their audit, no other begins")
                raise

    def _require_faults(self, baseline: Conservation) -> None:
        self.console.print(f"baseline, plain foreachBatch: {len(baseline.lost)} lost, {len(baseline.doubled)} doubled")
        if not has_faults(baseline):
            self.console.print("the baseline passed: the harness is broken")
            sys.exit(1)

    def _run_lane(self, folder: Path, planned: Plan, deadline: float) -> LaneResult:
        if time.monotonic() > deadline:
            return LaneResult(planned.name, 0, 0, "", ())
        result = make_result(planned.run(deadline))
        save_result(folder / planned.name, result)
        self.console.print(str(result))
        return result


if __name__ == "__main__":
    main()
