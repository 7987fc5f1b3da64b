"""The files of one pipeline -> Pipeline, with all that is wrong with them on the way."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jobs.pipeline.backfill import find_faults
from jobs.pipeline.bundle import Bundle
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
    state_faults,
    upstream_faults,
)
from jobs.pipeline.ddl import check_ddl, join_lines, strip_comments
from jobs.pipeline.errors import ConfError, Problem
from jobs.pipeline.hints import did_you_mean
from jobs.pipeline.model import NAME_PATTERN, Check, OnFailure, Pipeline, PipelineSpec, TargetSpec
from jobs.pipeline.neighbours import find_overlaps
from jobs.pipeline.quality.suite import SuiteError, parse_suite
from jobs.pipeline.strict import as_option
from jobs.pipeline.variables import ROOT, names_used, resolve_variables, substitute
from jobs.pipeline.yaml_text import Document, KeyPath, YamlError, dotted, parse_yaml

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ConfFile:
    """A file that holds a mapping, and the lines of its keys."""

    path: Path
    data: dict[str, Any]
    document: Document

    def problem(self, path: KeyPath, message: str) -> Problem:
        """What is wrong at this key, with its line."""
        return Problem(str(self.path), self.document.line_of(path), dotted(path), message)


class ConfLoader:
    """Collects the problems of one pipeline's files on the way."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.bundle = bundle
        self.name = name
        self.problems: list[Problem] = []

    def load(self) -> Pipeline:
        """The pipeline; ConfError with every problem of its files."""
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

    def _find_faults(self, spec: PipelineSpec, file: ConfFile, target: TargetSpec | None) -> Iterator[Fault]:
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
        faults = (*spark_faults(target), *state_faults(target)) if target else ()
        self.problems += [file.problem(*fault) for fault in faults]
        return target, variables

    def unused_variables(self) -> Iterator[Problem]:
        """Names given on the command line that neither the target defines nor anything uses."""
        target = self._read_target()
        if target is None:
            return
        defined = _own_variables(target).keys() | {ROOT}
        unknown = [name for name in self.bundle.variables if name not in defined]
        paths = [target.path, *(self.bundle.conf / "pipelines").glob("[!.]*.yml")] if unknown else []
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

    def _read_target(self) -> ConfFile | None:
        """The target's file as it is written; None if it is no mapping, or not there."""
        folder = self.bundle.conf / "targets"
        path = folder / f"{self.bundle.target}.yml"
        if path.exists():
            return self._read_file(path)
        known = names_in(folder, ".yml")
        hint = did_you_mean(self.bundle.target, known)
        self._add(folder, f"no target '{self.bundle.target}'{hint}; there are: {', '.join(known)}")
        return None

    def _resolve_variables(self, file: ConfFile) -> dict[str, str]:
        passed = self.bundle.variables

        def report(path: KeyPath, message: str) -> None:
            name = str(path[-1])
            self._report(Problem("--var", None, name, message) if name in passed else file.problem(path, message))

        return resolve_variables(_own_variables(file) | passed, str(self.bundle.root), report)

    def _load_spec(self, file: ConfFile, variables: dict[str, str] | None) -> PipelineSpec | None:
        data = substitute(file.data, variables, lambda *fault: self._report(file.problem(*fault)))
        return self._validate(file, PipelineSpec, data)

    def _validate(self, file: ConfFile, model: type[Model], data: dict[str, Any]) -> Model | None:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for path, message in explain(model, error):
                self._report(file.problem(path, message))
            return None

    def _load_schema(self, spec: PipelineSpec, file: ConfFile) -> str | None:
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

    def _load_suite(self, spec: PipelineSpec, file: ConfFile) -> tuple[Check, ...]:
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

    def _read_file(self, path: Path) -> ConfFile | None:
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
        return ConfFile(path, document.data, document)

    def _read_text(self, path: Path) -> str | None:
        try:
            return path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            self._add(path, f"cannot be read: {error}")
            return None

    def _assemble(
        self, spec: PipelineSpec, target: TargetSpec, file: ConfFile, schema_ddl: str | None, checks: tuple[Check, ...]
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


def _own_variables(target: ConfFile) -> dict[str, str]:
    given = target.data.get("variables")
    return {key: str(as_option(value)) for key, value in given.items()} if isinstance(given, dict) else {}


def _resolved(given: Any, variables: dict[str, str]) -> Any:
    """The target's own `variables` with their values; what is no text is left for the model to judge."""
    if not isinstance(given, dict):
        return given
    return {key: variables[key] if isinstance(value, str) else value for key, value in given.items()}
