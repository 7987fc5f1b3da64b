"""pydantic's errors -> what a conf author can act on: where in the document, what is wrong, what is allowed."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from jobs.pipeline.hints import did_you_mean
from jobs.pipeline.model import PythonTransform, SqlTransform
from jobs.pipeline.schedule_model import After, Cron
from jobs.pipeline.source_model import FilesSource, KafkaSource
from jobs.pipeline.yaml_text import KeyPath

_KINDS: dict[str, type[BaseModel]] = {
    "files": FilesSource,
    "kafka": KafkaSource,
    "sql": SqlTransform,
    "python": PythonTransform,
    "cron": Cron,
    "after": After,
}
"""Tags of the unions in the language; pydantic puts them between the keys of an error's location."""
_KEY_IN_FRONT = re.compile(r"([a-z]\w*(?:\.\w+)*): ")


def explain(model: type[BaseModel], error: ValidationError) -> Iterator[tuple[KeyPath, str]]:
    """Each fault as the path in the document and a message; the path may end in a key that is missing there."""
    for item in error.errors():
        path, owner = _locate(model, item["loc"])
        message = _message(path, owner, item)
        key = _KEY_IN_FRONT.match(message) if item["type"] == "value_error" else None
        if key is None:
            yield path, message
        else:
            yield (*path, *_keys(path, owner, key[1])), message[key.end() :]


def _keys(path: KeyPath, owner: type[BaseModel] | None, dotted: str) -> list[str]:
    """The key with which a rule over several keys begins its message; in a free mapping dots are part of it."""
    is_free = bool(path) and not _models_behind(owner, str(path[-1]))
    return [dotted] if is_free else dotted.split(".")


def _locate(model: type[BaseModel], location: KeyPath) -> tuple[KeyPath, type[BaseModel] | None]:
    """The location without union tags, and the type whose key stands last in it (None inside free mappings)."""
    path: list[str | int] = []
    models, owner = [model], None
    for part in location:
        if len(models) > 1 and part in _KINDS:
            models = [_KINDS[str(part)]]
            continue
        path.append(part)
        if isinstance(part, str):
            owner = models[0] if models else None
            models = _models_behind(owner, part)
    return tuple(path), owner


def _models_behind(owner: type[BaseModel] | None, key: str) -> list[type[BaseModel]]:
    for name, field in owner.model_fields.items() if owner else ():
        if key == (field.alias or name):
            return list(_models_in(field.annotation))
    return []


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)


def _message(path: KeyPath, owner: type[BaseModel] | None, item: Any) -> str:
    match item["type"]:
        case "missing" | "union_tag_not_found":
            return "missing" + ("" if item["type"] == "missing" else "; type says which kind it is: files or kafka")
        case "extra_forbidden":
            return _unknown_key(str(path[-1]), owner)
        case "union_tag_invalid":
            return "type: " + _unknown_word(str(item["ctx"]["tag"]), item["ctx"]["expected_tags"])
        case "enum" | "literal_error":
            return _unknown_word(str(item["input"]), item["ctx"]["expected"])
        case "value_error" | "transform_kind" | "schedule_kind":
            return str(item["msg"].removeprefix("Value error, "))
        case _:
            return f"{item['msg']}, not {item['input']!r}"


def _unknown_key(key: str, owner: type[BaseModel] | None) -> str:
    allowed = sorted(field.alias or name for name, field in owner.model_fields.items()) if owner else []
    return f"unknown key{did_you_mean(key, allowed)}; allowed: {', '.join(allowed)}"


def _unknown_word(given: str, expected: str) -> str:
    """`expected` is pydantic's own list: 'a', 'b' or 'c'."""
    allowed = re.findall(r"'([^']+)'", expected)
    return f"'{given}' is not known{did_you_mean(given, allowed)}; allowed: {', '.join(allowed) or expected}"
