"""YAML + target + variables -> Pipeline. Every failure is a ConfError with file:line; all faults in one run.

Starts no Spark: `check` and DAG parsing rest on this module alone.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jobs.pipeline.backfill import derive, derive_interval, find_faults
from jobs.pipeline.conf_messages import explain
from jobs.pipeline.dated_path import Interval
from jobs.pipeline.ddl import check_ddl, join_lines, strip_comments
from jobs.pipeline.errors import ConfError, Problem
from jobs.pipeline.fleet import find_fleets, find_members
from jobs.pipeline.hints import did_you_mean
from jobs.pipeline.model import (
    ARCHIVED,
    LOSS_SWITCHES,
    NAME_PATTERN,
    TRANSACTION_MEMORY,
    Check,
    OnFailure,
    Pipeline,
    PipelineSpec,
    PythonTransform,
    TargetSpec,
    as_option,
    live_name,
)
from jobs.pipeline.quality.suite import SuiteError, parse_suite
from jobs.pipeline.variables import resolve_variables, substitute
from jobs.pipeline.yaml_text import Document, KeyPath, YamlError, dotted, parse_yaml

REFUSED_SPARK_OPTIONS = {
    "spark.sql.files.ignorecorruptfiles": "it skips files that cannot be read, and their rows; remove it",
    "spark.sql.files.ignoremissingfiles": "it skips files that vanished, and their rows; remove it",
    "spark.databricks.delta.properties.defaults.settransactionretentionduration": TRANSACTION_MEMORY,
}
"""Spark options that a target may not set, in lower case, and why."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Where conf is read from, for which environment."""

    conf: Path
    target: str = "local"
    variables: dict[str, str] = field(default_factory=dict)
    """Given on the command line; they win over the target's."""

    @property
    def root(self) -> Path:
        """The directory that holds conf/; `${root}` in conf."""
        return self.conf.absolute().parent


def pipeline_names(bundle: Bundle) -> list[str]:
    """Names of all pipeline files, sorted; ConfError if the directory does not exist."""
    folder = bundle.conf / "pipelines"
    if not folder.is_dir():
        message = "no such directory; point --conf at a directory with pipelines/"
        raise ConfError([Problem(str(folder), None, "", message)])
    return sorted(path.stem for path in folder.glob("*.yml"))


def load_pipelines(bundle: Bundle, names: list[str] | None = None, interval: Interval | None = None) -> list[Pipeline]:
    """Load and validate pipelines, each once (all of them by default); ConfError holds the problems of all files.

    With an interval, the pipelines over those folders of their archives whose time begins within it; perhaps none.
    """
    known = pipeline_names(bundle)
    problems = list(_missing_pipelines(bundle, list(map(live_name, names or [])), known))
    loaded: list[Pipeline] = []
    for name in dict.fromkeys(names or known):
        if live_name(name) in known:
            try:
                loaded.append(load_pipeline(bundle, name))
            except ConfError as error:
                problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise ConfError(problems)
    return loaded if interval is None else [one for live in loaded for one in derive_interval(live, interval)]


def load_pipeline(bundle: Bundle, name: str) -> Pipeline:
    """Load and validate one pipeline; ConfError with every problem of its files.

    `NAME@TIME` is the pipeline over the folder of that time in the archive of NAME.
    """
    live, archived, stamp = name.partition(ARCHIVED)
    pipeline = _Loader(bundle, live).load()
    return derive(pipeline, stamp) if archived else pipeline


def load_target(bundle: Bundle) -> TargetSpec:
    """Load and validate the environment alone; ConfError with every problem of its file."""
    loader = _Loader(bundle, "")
    target, _ = loader.load_target()
    if target is None or loader.problems:
        raise ConfError(loader.problems)
    return target


def load_fleet(bundle: Bundle, fleet: str, names: Iterable[str] = ()) -> tuple[list[Pipeline], dict[str, ConfError]]:
    """The pipelines of a fleet, or those of them that are named, each loaded by itself; and what is wrong with others.

    ConfError if there is no such fleet, or it has no such pipeline.
    """
    folder = bundle.conf / "pipelines"
    members = [name for name in pipeline_names(bundle) if name in find_members(folder, fleet)]
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
    misnamed = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    for name, path in misnamed.items():
        if not names or (name in names and name not in known):
            yield Problem(str(path), 1, "", f"is not read; rename it to {name}.yml")
    for name in dict.fromkeys(names):
        if name not in known and name not in misnamed:
            message = f"no pipeline '{name}'{did_you_mean(name, known)}; there are: {', '.join(known)}"
            yield Problem(str(folder), 1, "", message)


@dataclass(frozen=True, slots=True)
class _File:
    """A file that holds a mapping, and the lines of its keys."""

    path: Path
    data: dict[str, Any]
    document: Document

    def problem(self, path: KeyPath, message: str) -> Problem:
        return Problem(str(self.path), self.document.line_of(path), dotted(path), message)


class _Loader:
    """Collects the problems of one pipeline's files on the way."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.bundle = bundle
        self.name = name
        self.problems: list[Problem] = []

    def load(self) -> Pipeline:
        target, variables = self.load_target()
        path = self.bundle.conf / "pipelines" / f"{self.name}.yml"
        if not re.fullmatch(NAME_PATTERN, self.name):
            self._add(path, "a pipeline's name is lower-case letters, digits and _, a letter first")
        file = self._read_file(path)
        spec = self._load_spec(file, variables) if file else None
        if spec is None or file is None:
            self._check_own_suite()
            raise ConfError(self.problems)
        self.problems += _option_problems(spec, file)
        schema_ddl = self._load_schema(spec, file)
        checks = self._load_suite(spec, file)
        self.problems += _function_problems(spec, file, self.bundle.root)
        self.problems += self._upstream_problems(spec, file)
        self.problems += self._fleet_problems(spec, file)
        self.problems += [file.problem(*fault) for fault in find_faults(spec)]
        if self.problems or target is None:
            raise ConfError(self.problems)
        return self._assemble(spec, target, file, schema_ddl, checks)

    def load_target(self) -> tuple[TargetSpec | None, dict[str, str] | None]:
        """The target and all variables; these are known even where something else is wrong with the target."""
        folder = self.bundle.conf / "targets"
        path = folder / f"{self.bundle.target}.yml"
        if not path.is_file():
            known = sorted(path.stem for path in folder.glob("*.yml"))
            hint = did_you_mean(self.bundle.target, known)
            self._add(folder, f"no target '{self.bundle.target}'{hint}; there are: {', '.join(known)}")
            return None, None
        file = self._read_file(path)
        if file is None:
            return None, None
        variables = self._resolve_variables(file)
        rest = {key: value for key, value in file.data.items() if key != "variables"}
        data = substitute(rest, variables, lambda *fault: self._report(file.problem(*fault)))
        if "variables" in file.data:
            data["variables"] = _resolved(file.data["variables"], variables)
        target = self._validate(file, TargetSpec, data)
        self.problems += _spark_problems(target, file) if target else ()
        return target, variables

    def _resolve_variables(self, file: _File) -> dict[str, str]:
        given = file.data.get("variables")
        own = {key: str(as_option(value)) for key, value in given.items()} if isinstance(given, dict) else {}
        passed = self.bundle.variables

        def report(path: KeyPath, message: str) -> None:
            name = str(path[-1])
            self._report(Problem("--var", None, name, message) if name in passed else file.problem(path, message))

        return resolve_variables(own | passed, str(self.bundle.root), report)

    def _load_spec(self, file: _File, variables: dict[str, str] | None) -> PipelineSpec | None:
        data = substitute(file.data, variables, lambda *fault: self._report(file.problem(*fault)))
        return self._validate(file, PipelineSpec, data)

    def _validate(self, file: _File, model: type[Model], data: dict[str, Any]) -> Model | None:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for path, message in explain(model, error):
                self._report(file.problem(path, message))
            return None

    def _load_schema(self, spec: PipelineSpec, file: _File) -> str | None:
        if spec.source.schema_name is None:
            return None
        path = self.bundle.conf / "schemas" / f"{spec.source.schema_name}.ddl"
        if not path.is_file():
            self._report(file.problem(("source", "schema"), _missing_message(path)))
            return None
        text = self._read_text(path)
        if text is None:
            return None
        ddl = strip_comments(text)
        self.problems += [Problem(str(path), line, "", message) for line, message in check_ddl(ddl)]
        return join_lines(ddl)

    def _check_own_suite(self) -> None:
        """The suite's faults belong to the same run, even where the pipeline's own keys cannot be read."""
        path = self.bundle.conf / "suites" / f"{self.name}.json"
        if path.is_file():
            self._parse_suite(path, OnFailure.QUARANTINE)

    def _load_suite(self, spec: PipelineSpec, file: _File) -> tuple[Check, ...]:
        path = self.bundle.conf / "suites" / f"{spec.quality.suite or self.name}.json"
        if path.is_file():
            return self._parse_suite(path, spec.quality.on_failure)
        if spec.quality.suite:
            self._report(file.problem(("quality", "suite"), _missing_message(path)))
        return ()

    def _parse_suite(self, path: Path, default: OnFailure) -> tuple[Check, ...]:
        text = self._read_text(path)
        try:
            return parse_suite(text, str(path), default) if text is not None else ()
        except SuiteError as error:
            self.problems += error.problems
            return ()

    def _upstream_problems(self, spec: PipelineSpec, file: _File) -> Iterator[Problem]:
        known = pipeline_names(self.bundle)
        for index, name in enumerate(spec.upstream):
            path = ("schedule", "after", index)
            if name not in known:
                yield file.problem(
                    path, f"no pipeline '{name}'{did_you_mean(name, known)}; there are: {', '.join(known)}"
                )
            elif cycle := _way_back(self.bundle.conf / "pipelines", self.name, name):
                yield file.problem(path, f"the pipeline would wait for itself: {' after '.join(cycle)}")

    def _fleet_problems(self, spec: PipelineSpec, file: _File) -> Iterator[Problem]:
        """Told of each member that differs from the first; the first itself is right."""
        if spec.fleet:
            schedules = find_members(self.bundle.conf / "pipelines", spec.fleet)
            first, own = next(iter(schedules)), file.data.get("schedule")
            if schedules[first] != own:
                says = f"{first}.yml says {schedules[first]!r}, this one {own!r}"
                message = f"the fleet '{spec.fleet}' has one schedule: {says}"
                yield file.problem(("schedule",), message)

    def _read_file(self, path: Path) -> _File | None:
        text = self._read_text(path)
        try:
            document = parse_yaml(text) if text is not None else None
        except YamlError as error:
            self._add(path, str(error), error.line)
            return None
        if document is None:
            return None
        if not isinstance(document.data, dict):
            self._add(path, "must be a mapping of keys to values")
            return None
        return _File(path, document.data, document)

    def _read_text(self, path: Path) -> str | None:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self._add(path, f"cannot be read: {error}")
            return None

    def _assemble(
        self, spec: PipelineSpec, target: TargetSpec, file: _File, schema_ddl: str | None, checks: tuple[Check, ...]
    ) -> Pipeline:
        state = target.state.rstrip("/")
        lines = tuple(file.document.line_of(("transforms", index)) for index in range(len(spec.transforms)))
        return Pipeline(
            name=self.name,
            spec=spec,
            file=str(file.path),
            transform_lines=lines,
            schema_ddl=schema_ddl,
            checks=checks,
            root=str(self.bundle.root),
            checkpoint=f"{state}/checkpoints/{self.name}",
            ledger_path=f"{state}/ledger/{self.name}",
            lease_path=f"{state}/leases/{self.name}",
            quarantine_path=spec.sink.quarantine_path or f"{spec.sink.path.rstrip('/')}_quarantine",
            spark=dict(target.spark),
            maintenance=spec.maintenance or target.maintenance,
        )

    def _add(self, path: Path, message: str, line: int = 1) -> None:
        self._report(Problem(str(path), line, "", message))

    def _report(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _resolved(given: Any, variables: dict[str, str]) -> Any:
    """The target's own `variables` with their values; what is no text is left for the model to judge."""
    if not isinstance(given, dict):
        return given
    return {key: variables[key] if isinstance(value, str) else value for key, value in given.items()}


def _spark_problems(target: TargetSpec, file: _File) -> Iterator[Problem]:
    for key in target.spark:
        why = REFUSED_SPARK_OPTIONS.get(key.lower())
        if why:
            yield file.problem(("spark", key), why)


def _option_problems(spec: PipelineSpec, file: _File) -> Iterator[Problem]:
    allowed = spec.source.allowed_options
    for key, value in spec.source.options.items():
        path = ("source", "options", key)
        if key in LOSS_SWITCHES and not (key == "failOnDataLoss" and value.lower() == "true"):
            yield file.problem(path, f"not allowed: {LOSS_SWITCHES[key]}")
        elif key not in allowed:
            message = f"not an option of this source{did_you_mean(key, allowed)}; allowed: {', '.join(sorted(allowed))}"
            yield file.problem(path, message)
    if {"maxFilesPerTrigger", "maxBytesPerTrigger"} <= set(spec.source.options):
        yield file.problem(("source", "options"), "maxFilesPerTrigger and maxBytesPerTrigger exclude each other")


def _function_problems(spec: PipelineSpec, file: _File, root: Path) -> Iterator[Problem]:
    for index, transform in enumerate(spec.transforms):
        if isinstance(transform, PythonTransform):
            message = _missing_function_message(transform.python, root)
            if message:
                yield file.problem(("transforms", index, "python"), message)


def _way_back(folder: Path, start: str, upstream: str) -> list[str]:
    """The shortest chain of `after` from a pipeline through one upstream of it back to itself; empty if none."""
    chains, seen = [[start, upstream]], {upstream}
    for chain in chains:
        if chain[-1] == start:
            return chain
        following = [name for name in _named_after(folder / f"{chain[-1]}.yml") if name not in seen]
        seen.update(following)
        chains += [[*chain, name] for name in following]
    return []


def _named_after(path: Path) -> list[str]:
    """What a pipeline file says under `after`, whatever else is wrong with it: its own load reports that."""
    try:
        data = parse_yaml(path.read_text(encoding="utf-8")).data
    except (OSError, UnicodeDecodeError, YamlError):
        return []
    schedule = data.get("schedule") if isinstance(data, dict) else None
    names = schedule.get("after") if isinstance(schedule, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _missing_message(path: Path) -> str:
    names = sorted(other.stem for other in path.parent.glob(f"*{path.suffix}"))
    return f"there is no {path}{did_you_mean(path.stem, names)}; there are: {', '.join(names) or 'none'}"


def _missing_function_message(name: str, root: Path) -> str | None:
    module, _, function = name.rpartition(".")
    own = root / "jobs" / "transforms" / f"{module}.py"
    shipped = files("jobs.transforms").joinpath(f"{module}.py")  # in a wheel this is no file of the file system
    path = next((path for path in (own, shipped) if path.is_file()), None)
    if path is None:
        return f"there is no {own}"
    try:
        functions = _functions_in(path)
    except SyntaxError as error:
        return f"{path}:{error.lineno} is not valid Python: {error.msg}"
    except (OSError, ValueError, RecursionError) as error:
        return f"{path} cannot be read: {error}"
    if function in functions:
        return None
    hint = did_you_mean(function, functions)
    return f"{path} has no function '{function}'{hint}; it has: {', '.join(functions) or 'none'}"


def _functions_in(path: Traversable) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
