"""`make torture`: the whole matrix of kills over a real pipeline, its baseline, and what was lost or doubled.

`python -m jobs.testing.torture --help` shows the options. The exit code is 1 for any violation, for a scripted kill
that did not happen, and for a baseline that passed.
"""

import itertools
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import quantiles

import click
from rich.console import Console
from rich.table import Table

from jobs.dev.broker import running_broker
from jobs.dev.produce import create_topic
from jobs.pipeline.failpoints import Point
from jobs.pipeline.terminal import open_console
from jobs.testing.bed import Bed, Trigger, file_source, kafka_source, make_bed
from jobs.testing.checker import Conservation, check_conservation, summarize
from jobs.testing.ids import IdLedger, read_ids
from jobs.testing.lane import Lane, Strike
from jobs.testing.matrix import Case, creation_cases, random_cases, steady_cases
from jobs.testing.nemesis import AtPoint, Kill, Nemesis, Victims
from jobs.testing.producers import FileProducer, KafkaProducer, Producer


@click.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Of the order, the times, the victims, the data.")
@click.option("--kills", type=int, default=330, show_default=True, help="How many runs to kill.")
@click.option("--rows", type=int, default=3000, show_default=True, help="Events that one batch takes.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the evidence stays; by default a new one.")
def main(seed: int, kills: int, rows: int, folder: Path | None) -> None:
    """Kill a pipeline at every point of a batch; check that nothing is lost, doubled or misplaced."""
    folder = (folder or Path(tempfile.mkdtemp(prefix="torture-"))).resolve()
    console = open_console()
    console.print(f"seed {seed}, {kills} kills, {rows:,} events a batch; evidence in {folder}")
    workshop = Workshop(folder, seed, rows)
    with running_broker(folder / "kafka") as broker:
        lanes = list(_run_lanes(plan(workshop, broker.servers, kills), console))
    baseline = run_baseline(workshop, list(Victims))
    console.print(make_table(lanes), soft_wrap=False)
    console.print(f"baseline, plain foreachBatch: {len(baseline.lost)} lost, {len(baseline.doubled)} doubled")
    is_broken = not has_faults(baseline)
    if is_broken:
        console.print("the baseline passed: the harness is broken")
    sys.exit(is_broken or any(lane.violations for lane in lanes))


@dataclass(frozen=True, slots=True)
class Workshop:
    """Builds lanes, each in a folder of its own."""

    folder: Path
    seed: int
    rows: int

    def random(self, name: str) -> Random:
        """The same numbers for the same seed, whatever else runs."""
        return Random(f"{self.seed} {name}")

    def over_files(self, name: str, trigger: Trigger) -> Lane:
        """A lane whose batches are files."""
        bed = make_bed(self.folder / name, file_source(), trigger)
        producer = FileProducer(bed.landing, IdLedger(_ids(bed)), self.random(name))
        return self._lane(bed, producer, 1, trigger)

    def over_kafka(self, name: str, trigger: Trigger, servers: str) -> Lane:
        """A lane over a topic of its own, of two partitions."""
        create_topic(servers, name)
        bed = make_bed(self.folder / name, kafka_source(servers, name, self.rows), trigger)
        producer = KafkaProducer(servers, name, IdLedger(_ids(bed)), self.random(name))
        return self._lane(bed, producer, self.rows, trigger)

    def _lane(self, bed: Bed, producer: Producer, places: int, trigger: Trigger) -> Lane:
        tables = bed.tables
        watched = [table for table in (tables.target, tables.ledger) if table]
        nemesis = Nemesis(bed.command, _log(bed), watched)
        ends_by_itself = trigger is Trigger.AVAILABLE_NOW
        return Lane(bed.folder.name, tables, producer, _ids(bed), nemesis, self.rows, places, ends_by_itself)


def plan(workshop: Workshop, servers: str, kills: int) -> list[tuple[Lane, list[Case]]]:
    """Lanes and their kills: the matrix, or an even part of it, and kills at random times beyond it."""
    steady = [
        *((workshop.over_files(f"files-{trigger}", trigger), True) for trigger in Trigger),
        *((workshop.over_kafka(f"kafka-{trigger}", trigger, servers), False) for trigger in Trigger),
    ]
    decks = [
        (lane, steady_cases(lane.tables, over_files=over_files, random=workshop.random(f"deck {lane.name}")))
        for lane, over_files in steady
    ]
    decks += _creation_decks(workshop)
    scripted = sum(len(deck) for _, deck in decks)
    at_random = max(0, kills - scripted) // len(steady)
    dealt = [
        (
            lane,
            deck[: round(len(deck) * kills / scripted)]
            + list(itertools.islice(random_cases(workshop.random(f"times {lane.name}")), at_random)),
        )
        for lane, deck in decks[: len(steady)]
    ]
    first_starts = decks[len(steady) :]
    return dealt + first_starts[: round(len(first_starts) * kills / scripted)]


def _creation_decks(workshop: Workshop) -> list[tuple[Lane, list[Case]]]:
    """A new pipeline for each kill: tables are created once."""
    count = len(creation_cases(Bed(workshop.folder).tables))
    lanes = [workshop.over_files(f"first-start-{number}", Trigger.AVAILABLE_NOW) for number in range(count)]
    decks = [(lane, [creation_cases(lane.tables)[number]]) for number, lane in enumerate(lanes)]
    workshop.random("first starts").shuffle(decks)
    return decks


def _run_lanes(planned: Iterable[tuple[Lane, list[Case]]], console: Console) -> Iterator[Lane]:
    for lane, cases in planned:
        if cases:
            lane.run(cases)
            console.print(_describe(lane))
            yield lane


def _describe(lane: Lane) -> str:
    killed = sum(strike.was_killed for strike in lane.strikes)
    summary = f"{lane.name}: {killed} kills, {lane.conservation.acked:,} ids, {len(lane.violations)} violations"
    return f"{summary}\n{summarize(lane.violations)}".rstrip()


def run_baseline(workshop: Workshop, victims: list[Victims]) -> Conservation:
    """The plain job killed between its two appends, once for each of the victims, then drained: its ids' fate."""
    name = "baseline"
    bed = make_bed(workshop.folder / name, file_source(), Trigger.AVAILABLE_NOW)
    producer = FileProducer(bed.landing, IdLedger(_ids(bed)), workshop.random(name))
    nemesis = Nemesis(bed.plain_command, _log(bed), [bed.tables.target])
    for one in victims:
        producer.send(workshop.rows)
        nemesis.run(Kill(AtPoint(Point.TARGET_AFTER), one))
    nemesis.run()
    nemesis.bury_survivors()
    return check_conservation(bed.tables, read_ids(_ids(bed)))


def has_faults(conservation: Conservation) -> bool:
    """Whether a baseline failed as it must."""
    return bool(conservation.lost or conservation.doubled)


def make_table(lanes: list[Lane]) -> Table:
    """A row a point, one for each set of victims, and one for all."""
    table = Table(box=None, header_style="bold")
    table.add_column("point")
    for title in ("cases", "kills", "lost", "doubled", "misplaced", "recovery p50", "p95 (s)"):
        table.add_column(title, justify="right")
    strikes = [strike for lane in lanes for strike in lane.strikes]
    for name in sorted({strike.case.name for strike in strikes}, key=_natural):
        table.add_row(name, *_figures([strike for strike in strikes if strike.case.name == name]))
    table.add_section()
    for title, victims in _VICTIMS.items():
        table.add_row(title, *_figures([strike for strike in strikes if strike.case.kill.victims is victims]))
    ids = sum(lane.conservation.acked for lane in lanes)
    table.add_row(f"all, {ids:,} ids", *_figures(strikes), style="bold")
    return table


_VICTIMS = {
    "of these, both processes": Victims.BOTH,
    "of these, Python only (K18)": Victims.PYTHON,
    "of these, the JVM only": Victims.JVM,
}


def _natural(name: str) -> tuple[int, str]:
    number = name[1:].partition(" ")[0]
    return (int(number) if number.isdigit() else 99, name)


def _figures(strikes: list[Strike]) -> list[str]:
    sums = [
        len(strikes),
        *(sum(getattr(strike, name) for strike in strikes) for name in ("was_killed", "lost", "doubled", "misplaced")),
    ]
    recoveries = [strike.recovery_seconds for strike in strikes if strike.recovery_seconds is not None]
    return [*(f"{number:,}" for number in sums), *_percentiles(recoveries)]


def _percentiles(seconds: list[float]) -> list[str]:
    """p50 and p95."""
    if not seconds:
        return ["", ""]
    cuts = quantiles(seconds * 2, n=20, method="inclusive")
    return [f"{cuts[9]:.1f}", f"{cuts[18]:.1f}"]


def _ids(bed: Bed) -> Path:
    return bed.folder / "ids.tsv"


def _log(bed: Bed) -> Path:
    return bed.folder / "runs.log"


if __name__ == "__main__":
    main()
