"""YAML text -> plain data plus the line of every key; safe, bounded, and strict about duplicate keys."""

from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 30

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """Parsed YAML: `data` as plain Python values, `lines` as path -> 1-based line."""

    data: Any
    lines: dict[Path, int]

    def line_of(self, path: Path) -> int:
        """Line of `path`, or of its nearest ancestor that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class YamlError(ValueError):
    """Text that is not acceptable YAML; `line` is 1-based."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def parse_yaml(text: str) -> Document:
    """Parse one document; raises YamlError for bad syntax, duplicate keys, custom tags and oversized input."""
    if len(text.encode()) > MAX_BYTES:
        raise YamlError(f"file is larger than {MAX_BYTES:,} bytes", 1)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        reader = _Reader(loader)
        return Document({} if node is None else reader.read(node, ()), reader.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(f"not valid YAML: {error.problem}", mark.line + 1 if mark else 1) from error
    except yaml.YAMLError as error:
        raise YamlError(f"not valid YAML: {error}", 1) from error


@dataclass(slots=True)
class _Reader:
    """Walks composed nodes; counts them, so that an alias bomb stops early."""

    loader: yaml.SafeLoader
    lines: dict[Path, int] = field(default_factory=dict)
    nodes: int = 0

    def read(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise YamlError("nested too deeply or too large (aliases are expanded)", line)
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._read_scalar(node)

    def _read_mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = str(key_node.value)
            if key in result:
                raise YamlError(f"key '{key}' stands twice", line)
            self.lines[(*path, key)] = line
            result[key] = self.read(value_node, (*path, key))
        return result

    def _read_scalar(self, node: yaml.Node) -> Any:
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
            raise YamlError(f"tag {node.tag} is not allowed", node.start_mark.line + 1)
        try:
            return self.loader.construct_object(node)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise YamlError(f"value '{node.value}': {error}", node.start_mark.line + 1) from error
