"""Partition directories (`day=2026-01-01/`) of files that are read as text: their columns, from each record's path."""

import re
from collections.abc import Iterator
from urllib.parse import unquote

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from jobs.pipeline.columns import type_text
from jobs.pipeline.path_text import GLOB_SIGNS
from jobs.pipeline.source_model import FilesSource

_ESCAPED_BY_HIVE = re.compile(r"[\x00-\x1f\x7f\"#%'*/:=?\\{\[\]^]")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def has_partitions(source: FilesSource) -> bool:
    """Whether directories such as `day=2026-01-01/` below the path are columns; not so to a glob."""
    is_recursive = source.options.get("recursiveFileLookup", "false").lower() == "true"
    return not is_recursive and not GLOB_SIGNS.intersection(source.path)


def split_schema(schema: StructType, names: set[str]) -> tuple[StructType, list[StructField]]:
    """The columns that a record's text holds, and those that partition directories of these names hold."""
    in_path = [field for field in schema.fields if field.name.lower() in names]
    return StructType([field for field in schema.fields if field not in in_path]), in_path


def undeclared(schema: StructType, names: set[str]) -> list[str]:
    """Partition columns that the schema does not have."""
    return sorted(names - {name.lower() for name in schema.fieldNames()})


def value_in_path(path: Column, field: StructField) -> Column:
    """What stands behind the last `name=` of the path, as the declared type; NULL where it does not fit."""
    written = _written(path, field.name)
    return F.when(written != _NULL, _decoded(written)).try_cast(type_text(field.dataType, {}))


def path_reasons(path: Column, fields: list[StructField]) -> Iterator[tuple[str, Column]]:
    """Reasons: no directory for a column, or one that does not fit its type."""
    for field in fields:
        written = _written(path, field.name)
        yield f"{field.name}: no partition directory in the path", written == ""
        misfit = (written != _NULL) & value_in_path(path, field).isNull()
        yield f"{field.name}: the partition directory does not fit its type", misfit


def names_in_paths(paths: list[str], root: str) -> set[str]:
    """Names of partition directories in paths, in lower case, without those that lie above the root."""
    names = {part.partition("=")[0].lower() for path in paths for part in path.split("/")[:-1] if "=" in part}
    return {unquote(name) for name in names if f"/{name}=" not in root.lower()}


def lacks_partition(path: str, names: set[str]) -> bool:
    """Whether a file lies in no directory for one of the names, beside those that do."""
    return not names <= names_in_paths([path], "")


def _written(path: Column, name: str) -> Column:
    """As Hive escapes it; the path is a URL."""
    escaped = _ESCAPED_BY_HIVE.sub(lambda match: f"%{ord(match[0]):02X}", name)
    return F.regexp_extract(_decoded(path), rf"(?is)^.*/{re.escape(escaped)}=([^/]*)/", 1)


def _decoded(text: Column) -> Column:
    return F.coalesce(F.try_url_decode(F.replace(text, F.lit("+"), F.lit("%2B"))), text)
