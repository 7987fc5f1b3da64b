"""A Great Expectations suite (GX's own JSON) -> bound checks. Needs no JVM and no great_expectations."""

import difflib
import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from pydantic import ValidationError

from jobs.pipeline.errors import Problem
from jobs.pipeline.hints import did_you_mean
from jobs.pipeline.model import Check, OnFailure, Scope
from jobs.pipeline.quality.conditions import PassThrough
from jobs.pipeline.quality.parameters import COMPILED, Kind, Parameters
from jobs.pipeline.yaml_text import Document, KeyPath, YamlError, parse_yaml

_COLUMN_KEYS = ("column", "column_A", "column_B")
_SHARED_KEYS = {"mostly", "row_condition", "condition_parser", *_COLUMN_KEYS}
_GX_ONLY_KEYS = {"batch_id", "result_format", "catch_exceptions", "table"}
_DISPOSITION = "on_failure"
_META_KEYS = {"name", _DISPOSITION}


class _EntryError(ValueError):
    """What one expectation says cannot be used."""


class SuiteError(ValueError):
    """A suite that cannot be used; `problems` names every fault with its line."""

    def __init__(self, problems: list[Problem]) -> None:
        """Hold the problems; the error's own text is all of them, one a line."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def parse_suite(text: str, file: str, default: OnFailure) -> tuple[Check, ...]:
    """Bind a suite's expectations; `default` is what breaking a row check means unless its meta says otherwise.

    Raises SuiteError with every problem found. Check names are unique: `meta.esclusa.name`, or type and column.
    """
    document = _load(text, file)
    entries = document.data.get("expectations")
    if not isinstance(entries, list):
        raise SuiteError([Problem(file, 1, "expectations", "missing; a GX suite has a list of expectations")])
    checks: list[Check] = []
    problems: list[Problem] = []
    for index, entry in enumerate(entries):
        line = document.line_of(("expectations", index))
        try:
            checks.append(_bind(entry, file, line, default))
        except ValueError as error:
            messages = _messages(error, entry)
            problems += [Problem(file, line, f"expectations[{index}]", message) for message in messages]
    if problems:
        raise SuiteError(problems)
    return tuple(_with_unique_names(checks))


def _load(text: str, file: str) -> Document:
    try:
        data = json.loads(text, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise SuiteError([Problem(file, error.lineno, "", f"not valid JSON: {error.msg}")]) from error
    except ValueError as error:
        raise SuiteError([Problem(file, 1, "", str(error))]) from error
    except RecursionError as error:
        raise SuiteError([Problem(file, 1, "", "nested too deeply")]) from error
    if not isinstance(data, dict):
        raise SuiteError([Problem(file, 1, "", "not a GX suite: the file must hold one JSON object")])
    return Document(data, _lines(text))


def _lines(text: str) -> dict[KeyPath, int]:
    """JSON is YAML but for tabs, which valid JSON has between its parts alone; none where YAML's limits are passed."""
    try:
        return parse_yaml(text.replace("\t", " ")).lines
    except YamlError:
        return {}


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            message = f"key '{key}' stands twice in one object"
            raise ValueError(message)
        result[key] = value
    return result


def _refuse_constant(text: str) -> float:
    message = f"{text} is not JSON"
    raise ValueError(message)


def _messages(error: ValueError, entry: Any) -> list[str]:
    if not isinstance(error, ValidationError):
        return [str(error)]
    kind = COMPILED.get(str(entry.get("type"))) if isinstance(entry, dict) else None
    allowed = sorted(kind.parameters.model_fields) if kind else []
    return [_one_message(item, allowed) for item in error.errors()]


def _one_message(item: Any, allowed: list[str]) -> str:
    where = ".".join(map(str, ("kwargs", *item["loc"])))
    if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
        hint = did_you_mean(str(item["loc"][0]), allowed)
        return f"{where}: unknown parameter{hint}; allowed: {', '.join(allowed)}"
    if item["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return f"{where}: type says what a condition is; allowed: comparison, nullity, and, or; on its own pass_through"
    return f"{where}: {item['msg'].removeprefix('Value error, ')}"


def _bind(entry: Any, file: str, line: int, default: OnFailure) -> Check:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise _EntryError("an expectation is an object with 'type' and 'kwargs'")
    kind = _kind_of(entry["type"])
    _refuse_misplaced(entry, kind)
    parameters = _read_parameters(entry, kind)
    name, on_failure = _read_meta(entry)
    values = parameters.model_dump()
    columns = tuple(values[key] for key in _COLUMN_KEYS if key in values)
    return Check(
        name=name or ":".join([entry["type"].removeprefix("expect_"), *columns]),
        type=entry["type"],
        scope=kind.scope,
        columns=columns,
        kwargs={key: value for key, value in values.items() if key not in _SHARED_KEYS},
        mostly=parameters.mostly,
        row_condition=values["row_condition"],
        on_failure=_choose_on_failure(on_failure, kind.scope, default),
        file=file,
        line=line,
    )


def _kind_of(expectation: str) -> Kind:
    if expectation in COMPILED:
        return COMPILED[expectation]
    guess = difflib.get_close_matches(expectation, COMPILED, n=1)
    hint = f"; did you mean {guess[0]}" if guess else ""
    raise _EntryError(
        f"expectation '{expectation}' cannot be compiled yet{hint}; allowed: {', '.join(sorted(COMPILED))}"
    )


def _refuse_misplaced(entry: dict[str, Any], kind: Kind) -> None:
    """Keys on a level where nobody reads them: the check would be another than its author meant."""
    for key in kind.parameters.model_fields:
        if key in entry:
            raise _EntryError(f"{key}: is not read beside kwargs; put it into kwargs")
    for holder, where in ((entry, ""), (_object_in(entry, "meta", "meta"), "meta.")):
        if _DISPOSITION in holder:
            raise _EntryError(f"{where}{_DISPOSITION}: is not read here; put it into meta.esclusa")


def _read_parameters(entry: dict[str, Any], kind: Kind) -> Parameters:
    given = _object_in(entry, "kwargs", "kwargs")
    parameters = kind.parameters.model_validate({key: given[key] for key in given if key not in _GX_ONLY_KEYS})
    if kind.scope is not Scope.ROW:
        _refuse_row_parameters(parameters)
    _check_condition_parser(parameters)
    return parameters


def _object_in(holder: dict[str, Any], key: str, path: str) -> dict[str, Any]:
    """The object under a key, empty for null or a missing key."""
    value = holder.get(key)
    if not isinstance(value, dict | None):
        raise _EntryError(f"{path}: must be an object")
    return value or {}


def _refuse_row_parameters(parameters: Parameters) -> None:
    if parameters.row_condition is not None:
        raise _EntryError("kwargs.row_condition: this check looks at no rows of its own; remove it")
    if parameters.mostly != 1:
        raise _EntryError("kwargs.mostly: this check holds or does not, there is no share of rows; remove it")


def _check_condition_parser(parameters: Parameters) -> None:
    condition, parser = parameters.row_condition, parameters.condition_parser
    is_foreign = isinstance(condition, PassThrough) and parser == "pandas"
    if is_foreign or (isinstance(condition, str) and parser != "spark"):
        raise _EntryError(
            "kwargs.row_condition as text needs condition_parser 'spark' (a SQL predicate); "
            "or use GX's condition objects, as GX itself writes them"
        )


def _read_meta(entry: dict[str, Any]) -> tuple[str | None, str | None]:
    """`name` and `on_failure` of `meta.esclusa`; what others keep in `meta` is passed over."""
    own = _object_in(_object_in(entry, "meta", "meta"), "esclusa", "meta.esclusa")
    unknown = own.keys() - _META_KEYS
    if unknown:
        keys = ", ".join(sorted(unknown))
        raise _EntryError(f"meta.esclusa: unknown key {keys}; allowed: {', '.join(sorted(_META_KEYS))}")
    for key, value in own.items():
        if value is not None and not (isinstance(value, str) and value):
            raise _EntryError(f"meta.esclusa.{key}: must be text")
    return own.get("name"), own.get(_DISPOSITION)


def _choose_on_failure(given: str | None, scope: Scope, default: OnFailure) -> OnFailure:
    if given is None:
        return default if scope is Scope.ROW or default is OnFailure.FAIL else OnFailure.EXPECT
    if given not in set(OnFailure):
        guess = difflib.get_close_matches(given, list(OnFailure), n=1)
        hint = f"; did you mean {guess[0]}" if guess else ""
        raise _EntryError(f"meta.esclusa.on_failure: '{given}' is not known{hint}; allowed: {', '.join(OnFailure)}")
    choice = OnFailure(given)
    if scope is not Scope.ROW and choice in {OnFailure.DROP, OnFailure.QUARANTINE}:
        raise _EntryError(
            f"meta.esclusa.on_failure: {choice} sets rows apart, this check has none; use expect or expect_or_fail"
        )
    return choice


def _with_unique_names(checks: list[Check]) -> Iterator[Check]:
    """The first of a name keeps it; the others get a number that makes no other check's name."""
    taken = {check.name for check in checks}
    seen: set[str] = set()
    for check in checks:
        name = check.name
        if name in seen:
            name = next(numbered for number in count(2) if (numbered := f"{check.name}#{number}") not in taken)
            taken.add(name)
        seen.add(check.name)
        yield check if name == check.name else check.model_copy(update={"name": name})
