"""YAML + target + variables -> Pipeline. Every failure is a ConfError with file:line; all faults in one run.

Starts no Spark: `check` and DAG parsing rest on this module alone.
"""

from collections.abc import Iterable, Iterator

from jobs.pipeline.backfill import derive, derive_interval
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf_loader import ConfLoader
from jobs.pipeline.conf_rules import names_in
from jobs.pipeline.dated_path import Interval
from jobs.pipeline.errors import ConfError, Problem
from jobs.pipeline.fleet import find_fleets, find_members
from jobs.pipeline.hints import did_you_mean
from jobs.pipeline.model import ARCHIVED, Pipeline, TargetSpec, live_name


def pipeline_names(bundle: Bundle) -> list[str]:
    """Names of all pipeline files, sorted; ConfError if the directory does not exist."""
    folder = bundle.conf / "pipelines"
    if not folder.is_dir():
        message = "no such directory; point --conf at a directory with pipelines/"
        raise ConfError([Problem(str(folder), None, "", message)])
    return names_in(folder, ".yml")


def load_all(bundle: Bundle) -> list[Pipeline]:
    """Load and validate all of conf; ConfError holds the problems of all files.

    Beyond each pipeline by itself: their tables beside each other, and suites and schemas that none of them uses.
    """
    loaded, problems = _load_each(bundle, [])
    loader = ConfLoader(bundle, "")
    loader.check_overlaps(loaded)
    loader.check_unused(loaded)
    _require_none(problems + [problem for problem in loader.problems if problem not in problems])
    return loaded


def load_pipelines(bundle: Bundle, names: list[str] | None = None, interval: Interval | None = None) -> list[Pipeline]:
    """Load and validate pipelines, each once (all of them by default); ConfError holds the problems of all files.

    With an interval, the pipelines over those folders of their archives whose time begins within it; perhaps none.
    """
    loaded, problems = _load_each(bundle, names or [])
    _require_none(problems)
    return loaded if interval is None else [one for live in loaded for one in derive_interval(live, interval)]


def _load_each(bundle: Bundle, names: list[str]) -> tuple[list[Pipeline], list[Problem]]:
    """The named pipelines (all, if none is named), each once, as far as they are valid; and all that is wrong."""
    known = pipeline_names(bundle)
    problems = list(_missing_pipelines(bundle, list(map(live_name, names)), known))
    problems += ConfLoader(bundle, "").unused_variables()
    loaded: list[Pipeline] = []
    for name in dict.fromkeys(names or known):
        if live_name(name) in known:
            try:
                loaded.append(load_pipeline(bundle, name))
            except ConfError as error:
                problems += [problem for problem in error.problems if problem not in problems]
    return loaded, problems


def _require_none(problems: list[Problem]) -> None:
    if problems:
        raise ConfError(problems)


def load_pipeline(bundle: Bundle, name: str) -> Pipeline:
    """Load and validate one pipeline; ConfError with every problem of its files.

    `NAME@TIME` is the pipeline over the folder of that time in the archive of NAME.
    """
    live, archived, stamp = name.partition(ARCHIVED)
    pipeline = ConfLoader(bundle, live).load()
    return derive(pipeline, stamp) if archived else pipeline


def load_target(bundle: Bundle) -> TargetSpec:
    """Load and validate the environment alone; ConfError with every problem of its file."""
    loader = ConfLoader(bundle, "")
    target, _ = loader.load_target()
    if target is None or loader.problems:
        raise ConfError(loader.problems)
    return target


def load_fleet(bundle: Bundle, fleet: str, names: Iterable[str] = ()) -> tuple[list[Pipeline], dict[str, ConfError]]:
    """The pipelines of a fleet, or those of them that are named, each loaded by itself; and what is wrong with others.

    ConfError if there is no such fleet, it has no such pipeline, or a variable is given that nothing uses.
    """
    folder = bundle.conf / "pipelines"
    named = find_members(folder, fleet)
    members = [name for name in pipeline_names(bundle) if name in named]
    if not members:
        fleets = find_fleets(folder)
        message = (
            f"no pipeline names the fleet '{fleet}'{did_you_mean(fleet, fleets)}; fleets: {', '.join(fleets) or 'none'}"
        )
        raise ConfError([Problem(str(folder), None, "fleet", message)])
    others = [
        Problem(str(folder), None, "fleet", f"'{fleet}' has no pipeline '{name}'")
        for name in names
        if name not in members
    ]
    others += ConfLoader(bundle, "").unused_variables()
    if others:
        raise ConfError(others)
    loaded, broken = [], {}
    for name in dict.fromkeys(names or members):
        try:
            loaded.append(load_pipeline(bundle, name))
        except ConfError as error:
            broken[name] = error
    return loaded, broken


def _missing_pipelines(bundle: Bundle, names: list[str], known: list[str]) -> Iterator[Problem]:
    """Names that are no pipeline, and files that only their ending keeps from being one (all, if no name is given)."""
    folder = bundle.conf / "pipelines"
    misnamed = {path.stem: path for path in sorted(folder.glob("[!.]*.yaml"))}
    for name, path in misnamed.items():
        if not names or (name in names and name not in known):
            alone = f"is not read; rename it to {name}.yml"
            beside = f"is not read, but {name}.yml; remove one, or rename this to another name that ends in .yml"
            yield Problem(str(path), 1, "", beside if name in known else alone)
    for name in dict.fromkeys(names):
        if name not in known and name not in misnamed:
            message = f"no pipeline '{name}'{did_you_mean(name, known)}; there are: {', '.join(known)}"
            yield Problem(str(folder), 1, "", message)
