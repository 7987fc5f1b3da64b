"""`${name}` in conf -> the variable's value; which variable may use which, and where `${secret:NAME}` may stand."""

import re
from collections.abc import Callable
from typing import Any

from jobs.pipeline.hints import did_you_mean
from jobs.pipeline.secret_text import REFERENCE
from jobs.pipeline.yaml_text import KeyPath

Report = Callable[[KeyPath, str], None]
"""Takes a fault: the path of the text in its document, and the message."""

ROOT = "root"
_VARIABLE = re.compile(r"\$\{(?!secret:)([^}]*)\}")
_UNCLOSED = re.compile(r"\$\{(?!secret:)\w*(?=[^}]*\Z)")
_SECRET = re.compile(r"\$\{secret:[^}]*\}?")
_SECRET_PLACES: tuple[KeyPath, ...] = (("source", "options"), ("variables",))


def resolve_variables(given: dict[str, str], root: str, report: Report) -> dict[str, str]:
    """Values of the variables, each in terms of those before it and of the built-in `root`, which stays as it is.

    One that uses itself, a later one or one that is not there is reported at `variables.<name>`.
    """
    resolved = {ROOT: root}
    for name, text in given.items():
        if name == ROOT:
            report(("variables", name), f"${{{ROOT}}} is the directory that holds conf/; choose another name")
            continue
        _check_closed(("variables", name), text, report)
        for used in _undefined(text, resolved):
            report(("variables", name), _unusable_message(used, name, given, resolved))
        resolved[name] = _replace(text, resolved)
        _check_secrets(("variables", name), resolved[name], report)
    return resolved


def substitute(data: Any, variables: dict[str, str] | None, report: Report) -> Any:
    """A copy of the data with values for variables in all its texts; what has no value is reported, and stays.

    Secrets stay references, and are reported where nothing reveals them. Where the target's variables are not
    known (None), every variable stays and none is reported.
    """

    def change(path: KeyPath, text: str) -> str:
        _check_closed(path, text, report)
        if variables is not None:
            for name in _undefined(text, variables):
                report(path, _undefined_message(name, variables))
            text = _replace(text, variables)
        _check_secrets(path, text, report)
        return text

    return _map_texts(data, (), change)


def names_used(text: str) -> set[str]:
    """Names of the variables in a text."""
    return set(_VARIABLE.findall(text))


def _map_texts(value: Any, path: KeyPath, change: Callable[[KeyPath, str], str]) -> Any:
    match value:
        case dict():
            return {key: _map_texts(inner, (*path, key), change) for key, inner in value.items()}
        case list():
            return [_map_texts(inner, (*path, index), change) for index, inner in enumerate(value)]
        case str():
            return change(path, value)
        case _:
            return value


def _undefined(text: str, variables: dict[str, str]) -> list[str]:
    return [name for name in dict.fromkeys(_VARIABLE.findall(text)) if name not in variables]


def _replace(text: str, variables: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda match: variables.get(match.group(1), match.group(0)), text)


def _unusable_message(used: str, name: str, given: dict[str, str], resolved: dict[str, str]) -> str:
    if used == name:
        return f"${{{used}}} is this variable itself"
    if used in given:
        return (
            f"${{{used}}} comes later; a variable may use those before it: "
            "first the target's come, from above to below, then those that only --var gives"
        )
    return _undefined_message(used, resolved)


def _undefined_message(name: str, variables: dict[str, str]) -> str:
    return (
        f"variable ${{{name}}} is not defined{did_you_mean(name, variables)}; "
        f"defined: {', '.join(sorted(variables))}. Add it to the target, or pass --var {name}=…"
    )


def _check_closed(path: KeyPath, text: str, report: Report) -> None:
    if unclosed := _UNCLOSED.search(text):
        report(path, f"{unclosed[0]} has no closing }}; a variable is written ${{name}}")


def _check_secrets(path: KeyPath, text: str, report: Report) -> None:
    for found in dict.fromkeys(_SECRET.findall(text)):
        if not REFERENCE.fullmatch(found):
            report(path, f"{found} names no secret; write ${{secret:NAME}}, with a NAME of letters, digits and _")
        elif not any(path[: len(place)] == place for place in _SECRET_PLACES):
            report(
                path, f"{found}: only source.options of a kafka source take secrets; here it would be used as written"
            )
