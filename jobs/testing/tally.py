"""What lanes found, as plain data that outlives the process, and the table that is made of it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles

from rich.table import Table

from jobs.testing.checker import summarize
from jobs.testing.lane import Lane
from jobs.testing.nemesis import Victims

_FILE = "result.json"


@dataclass(frozen=True, slots=True)
class KillResult:
    """One case; seconds are None where a run before or behind it did not come so far."""

    point: str
    victims: str
    was_killed: bool
    lost: int
    doubled: int
    misplaced: int
    wall_seconds: float
    cpu_seconds: float
    recovery_seconds: float | None
    own_seconds: float | None
    """Of the recovery, what is left without the start of Spark."""


@dataclass(frozen=True, slots=True)
class LaneResult:
    """One lane, audited."""

    name: str
    ids: int
    """Acknowledged by the source."""
    violations: int
    findings: str
    kills: tuple[KillResult, ...]

    def __str__(self) -> str:
        killed = sum(kill.was_killed for kill in self.kills)
        summary = f"{self.name}: {killed} kills, {self.ids:,} ids, {self.violations} violations"
        return f"{summary}\n{self.findings}".rstrip()


def make_result(lane: Lane) -> LaneResult:
    """Of a lane that has run."""
    kills = tuple(
        KillResult(
            strike.case.name,
            strike.case.kill.victims,
            strike.was_killed,
            strike.lost,
            strike.doubled,
            strike.misplaced,
            strike.wall_seconds,
            strike.cpu_seconds,
            strike.recovery_seconds,
            _difference(strike.recovery_seconds, strike.spark_seconds),
        )
        for strike in lane.strikes
    )
    return LaneResult(lane.name, lane.conservation.acked, len(lane.violations), summarize(lane.violations), kills)


def _difference(whole: float | None, part: float | None) -> float | None:
    return None if whole is None or part is None else whole - part


def save_result(folder: Path, result: LaneResult) -> None:
    """Keep it beside the lane's evidence."""
    (folder / _FILE).write_text(json.dumps(asdict(result)), encoding="utf-8")


def load_results(folder: Path) -> list[LaneResult]:
    """Of all lanes that have been audited in this folder of evidence."""
    return [_parse(file) for file in sorted(folder.glob(f"*/{_FILE}"))]


def _parse(file: Path) -> LaneResult:
    content = json.loads(file.read_text(encoding="utf-8"))
    return LaneResult(**(content | {"kills": tuple(KillResult(**kill) for kill in content["kills"])}))


def make_table(lanes: Sequence[LaneResult]) -> Table:
    """A row a point, one for each set of victims, and one for all."""
    table = Table(box=None, header_style="bold")
    table.add_column("point")
    for title in ("cases", "kills", "lost", "doubled", "misplaced", "recovery p50", "p95 (s)", "ours p50", "p95 (s)"):
        table.add_column(title, justify="right")
    kills = [kill for lane in lanes for kill in lane.kills]
    for name in sorted({kill.point for kill in kills}, key=_natural):
        table.add_row(name, *_figures([kill for kill in kills if kill.point == name]))
    table.add_section()
    for title, victims in _VICTIMS.items():
        table.add_row(title, *_figures([kill for kill in kills if kill.victims == victims]))
    table.add_row(f"all, {sum(lane.ids for lane in lanes):,} ids", *_figures(kills), style="bold")
    return table


_VICTIMS = {
    "of these, both processes": Victims.BOTH,
    "of these, Python only (K18)": Victims.PYTHON,
    "of these, the JVM only": Victims.JVM,
}


def _natural(name: str) -> tuple[int, str]:
    number = name[1:].partition(" ")[0]
    return (int(number) if number.isdigit() else 99, name)


def _figures(kills: list[KillResult]) -> list[str]:
    sums = [
        len(kills),
        *(sum(getattr(kill, name) for kill in kills) for name in ("was_killed", "lost", "doubled", "misplaced")),
    ]
    recovery = _percentiles(kill.recovery_seconds for kill in kills)
    return [*(f"{number:,}" for number in sums), *recovery, *_percentiles(kill.own_seconds for kill in kills)]


def _percentiles(figures: Iterable[float | None]) -> list[str]:
    """p50 and p95 of those that are known."""
    seconds = [figure for figure in figures if figure is not None]
    if not seconds:
        return ["", ""]
    cuts = quantiles(seconds * 2, n=20, method="inclusive")
    return [f"{cuts[9]:.1f}", f"{cuts[18]:.1f}"]


def describe_cost(lanes: Sequence[LaneResult]) -> str:
    """What the run that is killed costs, from its start to its end, on average."""
    kills = [kill for lane in lanes for kill in lane.kills if kill.was_killed]
    if not kills:
        return "no kills"
    wall, cpu = (sum(getattr(kill, name) for kill in kills) / len(kills) for name in ("wall_seconds", "cpu_seconds"))
    return f"a killed run took {wall:.1f} s, and {cpu:.1f} CPU seconds of Python and JVM, on average"
