"""YAML + target + variables -> Pipeline. Every failure is a ConfError with file:line; all faults in one run.

Starts no Spark: `check` and DAG parsing rest on this module alone.
"""

import ast
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jobs.pipeline.ddl import check_ddl
from jobs.pipeline.errors import ConfError, Problem
from jobs.pipeline.model import (
    LOSS_SWITCHES,
    NAME_PATTERN,
    Check,
    Pipeline,
    PipelineSpec,
    PythonTransform,
    TargetSpec,
)
from jobs.pipeline.quality.suite import SuiteError, parse_suite
from jobs.pipeline.yaml_text import Document, YamlError, parse_yaml

VARIABLE = re.compile(r"\$\{(?!secret:)([^}]*)\}")
SPARK_LOSS_SWITCHES = frozenset({"spark.sql.files.ignoreCorruptFiles", "spark.sql.files.ignoreMissingFiles"})
Model = TypeVar("Model", bound=BaseModel)
_UNION_TAGS = frozenset({"files", "kafka", "SqlTransform", "PythonTransform"})


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
        raise ConfError([Problem(str(folder), 1, "", "no such directory; point --conf at a directory with pipelines/")])
    return sorted(path.stem for path in folder.glob("*.yml"))


def load_pipelines(bundle: Bundle, names: list[str] | None = None) -> list[Pipeline]:
    """Load and validate pipelines (all of them by default); ConfError holds the problems of all files."""
    known = pipeline_names(bundle)
    problems = [_unknown_pipeline(bundle, name, known) for name in names or [] if name not in known]
    loaded: list[Pipeline] = []
    for name in names or known:
        if name in known:
            try:
                loaded.append(load_pipeline(bundle, name))
            except ConfError as error:
                problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise ConfError(problems)
    return loaded


def load_pipeline(bundle: Bundle, name: str) -> Pipeline:
    """Load and validate one pipeline; ConfError with every problem of its files."""
    return _Loader(bundle, name).load()


def _unknown_pipeline(bundle: Bundle, name: str, known: list[str]) -> Problem:
    return Problem(
        str(bundle.conf / "pipelines"), 1, "", f"no pipeline '{name}'{_hint(name, known)}; there are: {', '.join(known)}"
    )


def _hint(name: str, allowed: list[str] | frozenset[str]) -> str:
    guess = difflib.get_close_matches(name, list(allowed), n=1)
    return f"; did you mean '{guess[0]}'" if guess else ""


class _Loader:
    """Collects the problems of one pipeline's files on the way."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.bundle = bundle
        self.name = name
        self.problems: list[Problem] = []

    def load(self) -> Pipeline:
        target = self._load_target()
        file = self.bundle.conf / "pipelines" / f"{self.name}.yml"
        if not re.match(NAME_PATTERN, self.name):
            self._add(str(file), 1, "", "a pipeline's name is lower-case letters, digits and _, a letter first")
        document = self._read(file)
        spec = self._validate(document, file, PipelineSpec, self._variables(target))
        if spec is None or target is None or document is None:
            raise ConfError(self.problems)
        self._check_options(spec, document, file)
        schema_ddl = self._load_schema(spec, document, file)
        checks = self._load_suite(spec, document, file)
        self._check_functions(spec, document, file)
        if self.problems:
            raise ConfError(self.problems)
        sink = spec.sink.path.rstrip("/")
        state = target.state.rstrip("/")
        lines = tuple(document.line_of(("transforms", index)) for index in range(len(spec.transforms)))
        return Pipeline(
            name=self.name,
            spec=spec,
            file=str(file),
            transform_lines=lines,
            schema_ddl=schema_ddl,
            checks=checks,
            root=str(self.bundle.root),
            checkpoint=f"{state}/checkpoints/{self.name}",
            ledger_path=f"{state}/ledger/{self.name}",
            lock_path=f"{state}/locks/{self.name}",
            quarantine_path=spec.sink.quarantine_path or f"{sink}_quarantine",
            spark=dict(target.spark),
        )

    def _add(self, file: str, line: int, path: str, message: str) -> None:
        self.problems.append(Problem(file, line, path, message))

    def _load_target(self) -> TargetSpec | None:
        folder = self.bundle.conf / "targets"
        file = folder / f"{self.bundle.target}.yml"
        if not file.is_file():
            known = sorted(path.stem for path in folder.glob("*.yml"))
            hint = _hint(self.bundle.target, known)
            self._add(str(folder), 1, "", f"no target '{self.bundle.target}'{hint}; there are: {', '.join(known)}")
            return None
        document = self._read(file)
        if document is None:
            return None
        given = document.data.get("variables") if isinstance(document.data, dict) else None
        own = {str(key): str(value) for key, value in (given or {}).items()} if isinstance(given, dict | None) else {}
        variables = self._resolve(own, file)
        target = self._validate(document, file, TargetSpec, variables)
        for key in target.spark if target else ():
            if key in SPARK_LOSS_SWITCHES:
                line = document.line_of(("spark", key))
                self._add(str(file), line, f"spark.{key}", "it skips files that cannot be read, and their rows; remove it")
        return target

    def _resolve(self, own: dict[str, str], file: Path) -> dict[str, str]:
        """Variables may use those above them, and the built-in `root`."""
        resolved = {"root": str(self.bundle.root)}
        for key, value in (own | self.bundle.variables).items():
            resolved[key] = VARIABLE.sub(lambda match: resolved.get(match.group(1), match.group(0)), value)
        return resolved

    def _variables(self, target: TargetSpec | None) -> dict[str, str]:
        return {"root": str(self.bundle.root), **(target.variables if target else {}), **self.bundle.variables}

    def _read(self, file: Path) -> Document | None:
        try:
            document = parse_yaml(file.read_text(encoding="utf-8"))
        except YamlError as error:
            self._add(str(file), error.line, "", str(error))
        except (OSError, UnicodeDecodeError) as error:
            self._add(str(file), 1, "", f"cannot be read: {error}")
        else:
            if isinstance(document.data, dict):
                return document
            self._add(str(file), 1, "", "must be a mapping of keys to values")
        return None

    def _validate(
        self, document: Document | None, file: Path, model: type[Model], variables: dict[str, str]
    ) -> Model | None:
        if document is None:
            return None
        data = self._substitute(document, document.data, (), file, variables)
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for item in error.errors():
                self._add_validation(document, file, model, item)
            return None

    def _substitute(
        self, document: Document, value: Any, path: tuple[str | int, ...], file: Path, variables: dict[str, str]
    ) -> Any:
        match value:
            case dict():
                return {k: self._substitute(document, v, (*path, k), file, variables) for k, v in value.items()}
            case list():
                return [self._substitute(document, v, (*path, i), file, variables) for i, v in enumerate(value)]
            case str():
                for name in VARIABLE.findall(value):
                    if name not in variables:
                        message = f"variable ${{{name}}} is not defined{_hint(name, list(variables))}; "
                        message += f"defined: {', '.join(sorted(variables))}. Add it to the target, or pass --var {name}=…"
                        self._add(str(file), document.line_of(path), _dotted(path), message)
                return VARIABLE.sub(lambda match: variables.get(match.group(1), match.group(0)), value)
            case _:
                return value

    def _add_validation(self, document: Document, file: Path, model: type[BaseModel], item: Any) -> None:
        path = tuple(part for part in item["loc"] if part not in _UNION_TAGS)
        if "transforms" in path and len(item["loc"]) > 2 and item["type"] in {"missing", "extra_forbidden"}:  # noqa: PLR2004
            path = path[:2]
            message = "a transform has one key: sql (a SELECT over input) or python (module.function)"
        else:
            message = _validation_message(model, path, item)
        problem = Problem(str(file), document.line_of(path), _dotted(path), message)
        if problem not in self.problems:
            self.problems.append(problem)

    def _check_options(self, spec: PipelineSpec, document: Document, file: Path) -> None:
        allowed = spec.source.allowed_options
        for key, value in spec.source.options.items():
            line, path = document.line_of(("source", "options", key)), f"source.options.{key}"
            if key in LOSS_SWITCHES and not (key == "failOnDataLoss" and value.lower() == "true"):
                self._add(str(file), line, path, f"not allowed: {LOSS_SWITCHES[key]}")
            elif key not in allowed:
                message = f"not an option of this source{_hint(key, allowed)}; allowed: {', '.join(sorted(allowed))}"
                self._add(str(file), line, path, message)
        if {"maxFilesPerTrigger", "maxBytesPerTrigger"} <= set(spec.source.options):
            line = document.line_of(("source", "options"))
            self._add(str(file), line, "source.options", "maxFilesPerTrigger and maxBytesPerTrigger exclude each other")

    def _load_schema(self, spec: PipelineSpec, document: Document, file: Path) -> str | None:
        name = spec.source.schema_name
        if name is None:
            return None
        path = self.bundle.conf / "schemas" / f"{name}.ddl"
        if not path.is_file():
            self._add(str(file), document.line_of(("source", "schema")), "source.schema", _missing(path))
            return None
        text = "\n".join(line.partition("--")[0] for line in path.read_text(encoding="utf-8").splitlines())
        self.problems += [Problem(str(path), line, "", message) for line, message in check_ddl(text)]
        return " ".join(text.split())

    def _load_suite(self, spec: PipelineSpec, document: Document, file: Path) -> tuple[Check, ...]:
        path = self.bundle.conf / "suites" / f"{spec.quality.suite or self.name}.json"
        if not path.is_file():
            if spec.quality.suite:
                self._add(str(file), document.line_of(("quality", "suite")), "quality.suite", _missing(path))
            return ()
        try:
            return parse_suite(path.read_text(encoding="utf-8"), str(path), spec.quality.on_failure)
        except SuiteError as error:
            self.problems += error.problems
            return ()

    def _check_functions(self, spec: PipelineSpec, document: Document, file: Path) -> None:
        for index, transform in enumerate(spec.transforms):
            if isinstance(transform, PythonTransform):
                message = _missing_function(transform.python, self.bundle.root)
                if message:
                    line = document.line_of(("transforms", index, "python"))
                    self._add(str(file), line, f"transforms[{index}].python", message)


def _missing(path: Path) -> str:
    names = sorted(other.stem for other in path.parent.glob(f"*{path.suffix}"))
    return f"there is no {path}{_hint(path.stem, names)}; there are: {', '.join(names) or 'none'}"


def _missing_function(name: str, root: Path) -> str | None:
    module, _, function = name.rpartition(".")
    folders = [root / "jobs" / "transforms", Path(__file__).parent.parent / "transforms"]
    file = next((folder / f"{module}.py" for folder in folders if (folder / f"{module}.py").is_file()), None)
    if file is None:
        return f"there is no {folders[0] / module}.py"
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except SyntaxError as error:
        return f"{file}:{error.lineno} is not valid Python: {error.msg}"
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    if function in functions:
        return None
    return f"{file} has no function '{function}'{_hint(function, functions)}; it has: {', '.join(functions) or 'none'}"


def _dotted(path: tuple[str | int, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _validation_message(model: type[BaseModel], path: tuple[str | int, ...], item: Any) -> str:
    match item["type"]:
        case "extra_forbidden":
            allowed = sorted(_keys_at(model, path[:-1]))
            return f"unknown key{_hint(str(path[-1]), allowed)}; allowed: {', '.join(allowed)}"
        case "missing":
            return "missing"
        case "union_tag_not_found":
            return "missing; type says which kind it is: files or kafka"
        case "union_tag_invalid":
            allowed = sorted(_UNION_TAGS - {"SqlTransform", "PythonTransform"})
            given = str(item["ctx"]["tag"])
            return f"type: '{given}' is not known{_hint(given, allowed)}; allowed: {', '.join(allowed)}"
        case "value_error":
            return str(item["ctx"]["error"])
        case "enum" | "literal_error":
            given = str(item["input"])
            allowed = re.findall(r"'([^']+)'", item["ctx"]["expected"])
            return f"'{given}' is not known{_hint(given, allowed)}; allowed: {', '.join(allowed) or item['ctx']['expected']}"
        case _:
            return f"{item['msg']}, not {item['input']!r}"


def _keys_at(model: type[BaseModel], path: tuple[str | int, ...]) -> Iterator[str]:
    """Keys that the type at `path` has; of all kinds where several are possible."""
    models = [model]
    for part in path:
        if isinstance(part, str):
            found = [m.model_fields[name] for m in models for name in m.model_fields if _key(m, name) == part]
            models = [inner for info in found for inner in _models_in(info.annotation)]
    for one in models:
        yield from (_key(one, name) for name in one.model_fields)


def _key(model: type[BaseModel], name: str) -> str:
    return model.model_fields[name].alias or name


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)
