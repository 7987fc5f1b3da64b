"""YAML text -> plain data plus the line of every key; safe, bounded, and strict about duplicate keys."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 30

KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead from the top of a document to a value."""

_TAG = "tag:yaml.org,2002:"
_MAPPING_TAG = f"{_TAG}map"
_SEQUENCE_TAG = f"{_TAG}seq"
_SCALAR_TAGS = frozenset(_TAG + name for name in ("null", "bool", "int", "float", "str", "timestamp", "binary"))
_SIGN_TAGS = frozenset({f"{_TAG}value", f"{_TAG}merge"})
_SHOWN_CHARACTERS = 60
# What PyYAML's own constructors let through for text that its tag does not fit.
_MISFITS = (ValueError, LookupError, AttributeError, ArithmeticError)


_PLAIN_FORMS = {
    f"{_TAG}bool": r"true|True|TRUE|false|False|FALSE",
    f"{_TAG}int": r"[-+]?(0|[1-9][0-9]*)",
    f"{_TAG}float": r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """PyYAML's resolvers by first sign, with fewer forms of truth values and numbers."""
    return {
        sign: [(tag, re.compile(f"(?:{_PLAIN_FORMS[tag]})$") if tag in _PLAIN_FORMS else form) for tag, form in found]
        for sign, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Written:
    """A number that is text as it is written: where text is wanted, -999.00 is not -999.0, and +5 is not 5."""

    text: str

    def __str__(self) -> str:
        return self.text


class _WrittenInt(_Written, int):
    pass


class _WrittenFloat(_Written, float):
    pass


_NUMBERS: dict[str, type[_WrittenInt | _WrittenFloat]] = {f"{_TAG}int": _WrittenInt, f"{_TAG}float": _WrittenFloat}


@dataclass(frozen=True, slots=True)
class Document:
    """Parsed YAML: `data` as plain Python values, of which `str` writes numbers as they stand in the file.

    `lines` is path -> 1-based line.
    """

    data: Any
    lines: dict[KeyPath, int]

    def line_of(self, path: KeyPath) -> int:
        """Line of `path`, or of its nearest ancestor that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class YamlError(ValueError):
    """Text that is not acceptable YAML; `line` is 1-based."""

    def __init__(self, message: str, line: int) -> None:
        """Say what is wrong, and on which line."""
        super().__init__(message)
        self.line = line


def parse_yaml(text: str) -> Document:
    """Parse one document.

    Raises YamlError, and nothing else, for bad syntax, duplicate keys, tags of any kind but YAML's own scalars,
    values that do not fit their type, and input that is too large or too deep.
    """
    if len(text.encode()) > MAX_BYTES:
        raise YamlError(f"file is larger than {MAX_BYTES:,} bytes", 1)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        reader = _Reader(loader)
        return Document({} if node is None else reader.read(node, ()), reader.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(f"not valid YAML: {error.problem}", mark.line + 1 if mark else 1) from error
    except yaml.YAMLError as error:
        raise YamlError(f"not valid YAML: {error}", 1) from error


def dotted(path: KeyPath) -> str:
    """A path as messages show it: `transforms[1].sql`; empty for the document itself."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


class _Loader(yaml.SafeLoader):
    """Leaves plain text as it is: of NO, 061 and 1:30 PyYAML would make false, 49 and 90.

    Counts the levels while it composes: PyYAML recurses, and would run out of stack first.
    """

    depth = 0
    yaml_implicit_resolvers = _resolvers()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        with self._one_level_deeper():
            return super().compose_node(parent, index)

    @contextmanager
    def _one_level_deeper(self) -> Iterator[None]:
        self.depth += 1
        if self.depth > MAX_DEPTH + 1:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _too_deep(event.start_mark.line + 1)
        yield
        self.depth -= 1


def _too_deep(line: int) -> YamlError:
    return YamlError("nested too deeply or too large (aliases are expanded)", line)


@dataclass(slots=True)
class _Reader:
    """Walks composed nodes; counts them, so that an alias bomb stops early."""

    loader: yaml.SafeLoader
    lines: dict[KeyPath, int] = field(default_factory=dict)
    nodes: int = 0

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise _too_deep(line)
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            _require_tag(node, {_SEQUENCE_TAG})
            return [self.read(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._read_scalar(node)

    def _read_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        _require_tag(node, {_MAPPING_TAG})
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = _read_key(key_node)
            if key in result:
                raise YamlError(f"key '{key}' stands twice", line)
            self.lines[(*path, key)] = line
            result[key] = self.read(value_node, (*path, key))
        return result

    def _read_scalar(self, node: yaml.Node) -> Any:
        if node.tag in _SIGN_TAGS:  # a bare = or <<, which PyYAML itself cannot read
            return node.value
        _require_tag(node, _SCALAR_TAGS)
        try:
            return _as_written(node, self.loader.construct_object(node))
        except _MISFITS as error:
            kind, shown = node.tag.removeprefix(_TAG), node.value[:_SHOWN_CHARACTERS]
            message = f"value '{shown}' cannot be read as {kind}; quote it if it is text"
            raise YamlError(message, node.start_mark.line + 1) from error


def _as_written(node: yaml.Node, value: Any) -> Any:
    if node.tag not in _NUMBERS:
        return value
    number = _NUMBERS[node.tag](value)
    number.text = node.value
    return number


def _read_key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise YamlError("a key must be plain text", node.start_mark.line + 1)
    _require_tag(node, _SCALAR_TAGS | _SIGN_TAGS)
    return str(node.value)


def _require_tag(node: yaml.Node, allowed: set[str] | frozenset[str]) -> None:
    if node.tag not in allowed:
        raise YamlError(f"tag {node.tag} is not allowed", node.start_mark.line + 1)
