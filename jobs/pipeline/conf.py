"""YAML + target + variables -> Pipeline. Every failure is a ConfError with file:line; all faults in one run.

Starts no Spark: `check` and DAG parsing rest on this module alone.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jobs.pipeline.backfill import derive, derive_interval, find_faults
from jobs.pipeline.conf_messages import explain
from jobs.pipeline.conf_rules import (
    Fault,
    archive_faults,
    fleet_faults,
    function_faults,
    location_faults,
    maintenance_faults,
    missing_message,
    names_in,
    option_faults,
    spark_faults,
    upstream_faults,
)
from jobs.pipeline.dated_path import Interval
from jobs.pipeline.ddl import check_ddl, join_lines, strip_comments
from jobs.pipeline.errors import ConfError, Problem
from jobs.pipeline.fleet import find_fleets, find_members
from jobs.pipeline.hints import did_you_mean
from jobs.pipeline.model import (
    ARCHIVED,
    NAME_PATTERN,
    Check,
    OnFailure,
    Pipeline,
    PipelineSpec,
    TargetSpec,
    live_name,
)
from jobs.pipeline.neighbours import find_overlaps
from jobs.pipeline.quality.suite import SuiteError, parse_suite
from jobs.pipeline.strict import as_option
from jobs.pipeline.variables import ROOT, names_used, resolve_variables, substitute
from jobs.pipeline.yaml_text import Document, KeyPath, YamlError, dotted, parse_yaml

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
    return names_in(folder, ".yml")


def load_all(bundle: Bundle) -> list[Pipeline]:
    """Load and validate all of conf; ConfError holds the problems of all files.

    Beyond each pipeline by itself: their tables beside each other, and suites and schemas that none of them uses.
    """
    loaded, problems = _load_each(bundle, [])
    loader = _Loader(bundle, "")
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
    problems += _Loader(bundle, "").unused_variables()
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
    others += _Loader(bundle, "").unused_variables()
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
            alone = f"is not read; rename it to {name}.yml"
            beside = f"is not read, but {name}.yml; remove one, or rename this to another name that ends in .yml"
            yield Problem(str(path), 1, "", beside if name in known else alone)
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
        self.problems += [file.problem(*fault) for fault in self._find_faults(spec, file, target)]
        schema_ddl = self._load_schema(spec, file)
        checks = self._load_suite(spec, file)
        if self.problems or target is None:
            raise ConfError(self.problems)
        return self._assemble(spec, target, file, schema_ddl, checks)

    def _find_faults(self, spec: PipelineSpec, file: _File, target: TargetSpec | None) -> Iterator[Fault]:
        yield from option_faults(spec)
        yield from archive_faults(spec)
        yield from location_faults(spec, target.state if target else None)
        yield from maintenance_faults(spec, target)
        yield from function_faults(spec, self.bundle.root)
        folder = self.bundle.conf / "pipelines"
        yield from upstream_faults(spec, self.name, folder)
        yield from fleet_faults(spec, file.data, folder)
        yield from find_faults(spec)

    def load_target(self) -> tuple[TargetSpec | None, dict[str, str] | None]:
        """The target and all variables; these are known even where something else is wrong with the target."""
        file = self._read_target()
        if file is None:
            return None, None
        variables = self._resolve_variables(file)
        rest = {key: value for key, value in file.data.items() if key != "variables"}
        data = substitute(rest, variables, lambda *fault: self._report(file.problem(*fault)))
        if "variables" in file.data:
            data["variables"] = _resolved(file.data["variables"], variables)
        target = self._validate(file, TargetSpec, data)
        self.problems += [file.problem(*fault) for fault in spark_faults(target)] if target else []
        return target, variables

    def unused_variables(self) -> Iterator[Problem]:
        """Names given on the command line that neither the target defines nor anything uses."""
        target = self._read_target()
        if target is None:
            return
        defined = _own_variables(target).keys() | {ROOT}
        unknown = [name for name in self.bundle.variables if name not in defined]
        paths = [target.path, *(self.bundle.conf / "pipelines").glob("*.yml")] if unknown else []
        texts = [self._read_text(path) or "" for path in paths]
        used = {name for text in (*texts, *self.bundle.variables.values()) for name in names_used(text)}
        for name in unknown:
            if name not in used:
                hint = did_you_mean(name, defined | used)
                message = f"target '{self.bundle.target}' does not define it, and no pipeline uses it{hint}; remove it"
                yield Problem("--var", None, name, message)

    def check_overlaps(self, pipelines: list[Pipeline]) -> None:
        """Look at how the tables of these pipelines lie to each other."""
        for (path, key), message in find_overlaps(pipelines):
            file = self._read_file(Path(path))
            self.problems += [file.problem(key, message)] if file else []

    def check_unused(self, pipelines: list[Pipeline]) -> None:
        """Look at the suites and schemas that none of these pipelines has."""
        schemas = {pipeline.spec.source.schema_name for pipeline in pipelines}
        for path in sorted((self.bundle.conf / "schemas").glob("[!.]*.ddl")):
            if path.stem not in schemas:
                self._read_schema(path)
        suites = {check.file for pipeline in pipelines for check in pipeline.checks}
        for path in sorted((self.bundle.conf / "suites").glob("[!.]*.json")):
            if str(path) not in suites:
                self._parse_suite(path, OnFailure.QUARANTINE)

    def _read_target(self) -> _File | None:
        """The target's file as it is written; None if it is no mapping, or not there."""
        folder = self.bundle.conf / "targets"
        path = folder / f"{self.bundle.target}.yml"
        if path.exists():
            return self._read_file(path)
        known = sorted(path.stem for path in folder.glob("*.yml"))
        hint = did_you_mean(self.bundle.target, known)
        self._add(folder, f"no target '{self.bundle.target}'{hint}; there are: {', '.join(known)}")
        return None

    def _resolve_variables(self, file: _File) -> dict[str, str]:
        passed = self.bundle.variables

        def report(path: KeyPath, message: str) -> None:
            name = str(path[-1])
            self._report(Problem("--var", None, name, message) if name in passed else file.problem(path, message))

        return resolve_variables(_own_variables(file) | passed, str(self.bundle.root), report)

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
        if not path.exists():
            self._report(file.problem(("source", "schema"), missing_message(path)))
            return None
        return self._read_schema(path)

    def _read_schema(self, path: Path) -> str | None:
        text = self._read_text(path)
        if text is None:
            return None
        ddl = strip_comments(text)
        self.problems += [Problem(str(path), line, "", message) for line, message in check_ddl(ddl)]
        return join_lines(ddl)

    def _check_own_suite(self) -> None:
        """The suite's faults belong to the same run, even where the pipeline's own keys cannot be read."""
        path = self.bundle.conf / "suites" / f"{self.name}.json"
        if path.exists():
            self._parse_suite(path, OnFailure.QUARANTINE)

    def _load_suite(self, spec: PipelineSpec, file: _File) -> tuple[Check, ...]:
        path = self.bundle.conf / "suites" / f"{spec.quality.suite or self.name}.json"
        if path.exists():
            return self._parse_suite(path, spec.quality.on_failure)
        if spec.quality.suite:
            self._report(file.problem(("quality", "suite"), missing_message(path)))
        return ()

    def _parse_suite(self, path: Path, default: OnFailure) -> tuple[Check, ...]:
        text = self._read_text(path)
        try:
            return parse_suite(text, str(path), default) if text is not None else ()
        except SuiteError as error:
            self.problems += error.problems
            return ()

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
            return path.read_text(encoding="utf-8-sig")
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
            quarantine_path=spec.sink.quarantine,
            spark=dict(target.spark),
            maintenance=spec.maintenance or target.maintenance,
        )

    def _add(self, path: Path, message: str, line: int = 1) -> None:
        self._report(Problem(str(path), line, "", message))

    def _report(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _own_variables(target: _File) -> dict[str, str]:
    given = target.data.get("variables")
    return {key: str(as_option(value)) for key, value in given.items()} if isinstance(given, dict) else {}


def _resolved(given: Any, variables: dict[str, str]) -> Any:
    """The target's own `variables` with their values; what is no text is left for the model to judge."""
    if not isinstance(given, dict):
        return given
    return {key: variables[key] if isinstance(value, str) else value for key, value in given.items()}
