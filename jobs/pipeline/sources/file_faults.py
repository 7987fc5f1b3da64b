"""Files that a stream would not read, or not rightly: corrupt, hidden, overwritten, vanished, oddly named."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from jobs.pipeline.checkpoint import SeenFile
from jobs.pipeline.errors import StateMismatchError, full_text, root_cause
from jobs.pipeline.path_text import GLOB_SIGNS
from jobs.pipeline.source_model import FilesSource
from jobs.pipeline.sources.partitions import has_partitions, lacks_partition, names_in_paths
from jobs.pipeline.storage import exists, local_path

_CORRUPT = re.compile(
    r"EOFException|ZipException|stream CRC failure|incorrect (header|data) check|not a gzip|invalid (block|stored|code)"
    r"|ZstdIOException|[Ss]nappy|[Ll]z4|[Bb][Zz]ip2|is not a Parquet file|corrupted file: |org\.apache\.parquet\."
    r"|SchemaColumnConvertNotSupported|COLUMN_DATA_TYPE_MISMATCH|Malformed ORC|org\.apache\.orc\.|protobuf"
    r"|org\.apache\.avro\.|Not an Avro data file|TextParsingException|MALFORMED_CSV|HEADER_DIFFERS|CSV header"
    r"|Relative path in absolute URI"
)
"""What stands in the first cause of a failure that a file's content brings about, however often it is read."""

SPARK_FAILURES = (PySparkException, Py4JJavaError)
"""What a Spark job raises: PySpark has classes of its own for some failures only."""


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A landed file that the stream does not read, and why."""

    path: str
    reason: str


def corruption(error: BaseException) -> str | None:
    """Why a file's content cannot be read; None if the failure is not one of content, which trying again might mend."""
    lines = full_text(error).splitlines()
    first_cause = next((line for line in reversed(lines) if line.startswith("Caused by: ")), str(error))
    is_corrupt = isinstance(error, SPARK_FAILURES) and _CORRUPT.search(first_cause)
    return f"the file cannot be read: {root_cause(error)}" if is_corrupt else None


def find_corrupt(paths: list[str], read: Callable[[list[str]], None]) -> dict[str, str]:
    """Those of the paths whose content cannot be read, and why, by halving; `read` runs a job over paths.

    A failure that is not one of content is raised as it is.
    """
    try:
        read(paths)
    except SPARK_FAILURES as error:
        reason = corruption(error)
        if reason is None:
            raise
        if len(paths) == 1:
            return {paths[0]: reason}
        half = len(paths) // 2
        return find_corrupt(paths[:half], read) | find_corrupt(paths[half:], read)
    return {}


def has_glob_signs(files: list[SeenFile]) -> bool:
    """Whether some name looks like a pattern; Spark's file stream then reads the other files of the batch twice."""
    return any(GLOB_SIGNS.intersection(file.plain_path) for file in files)


def refuse_mixed(source: FilesSource, files: list[SeenFile]) -> None:
    """Files beside partition directories of the same batch, which Spark passes over without a word."""
    if not has_partitions(source):
        return
    names = names_in_paths([file.plain_path for file in files], source.path)
    beside = [file.plain_path for file in files if lacks_partition(file.plain_path, names)]
    if beside:
        message = (
            f"{beside[0]} lies beside directories of partitions ({', '.join(sorted(names))}), and Spark would pass "
            f"over {len(beside)} such files. Move them into those directories, or a path of their own"
        )
        raise StateMismatchError(message)


def require_files(spark: SparkSession, files: list[SeenFile], batch_id: int) -> None:
    """Files of a batch that was planned and not finished; Spark would replay it without those that are gone."""
    gone = [file.plain_path for file in files if not exists(spark, file.plain_path)]
    if gone:
        message = (
            f"FILE_VANISHED: batch {batch_id} was planned over {len(files)} files, of which these are gone: "
            f"{', '.join(gone[:5])}{' …' if len(gone) > 5 else ''}. Put them back, and run again. If they are lost: "  # noqa: PLR2004
            f"esclusa checkpoint rewind NAME --to-batch {batch_id - 1}, as long as nothing of the batch is committed"
        )
        raise StateMismatchError(message)


def find_skipped(source: FilesSource, seen: list[SeenFile]) -> list[SkippedFile]:
    """Files under a local path that the stream skips: hidden, in sub-directories, or changed after they were read.

    Empty for a glob pattern or an object store.
    """
    root = local_path(source.path)
    if root is None or GLOB_SIGNS.intersection(root):
        return []
    read = {local_path(file.plain_path): file.modified_ms for file in seen}
    is_recursive = source.options.get("recursiveFileLookup", "false").lower() == "true"
    return list(_skipped(Path(root), read, is_recursive=is_recursive))


def _skipped(root: Path, read: dict[str | None, int], *, is_recursive: bool) -> Iterator[SkippedFile]:
    for folder, _, names in os.walk(root):
        parts = Path(folder).relative_to(root).parts
        for name in sorted(names):
            path = Path(folder) / name
            reason = _reason_to_skip((*parts, name), is_recursive=is_recursive)
            if reason is None and _was_changed(path, read.get(str(path))):
                reason = "changed after it was read; Spark reads a path once. Place the content under a new name"
            if reason:
                yield SkippedFile(str(path), reason)


def _reason_to_skip(parts: tuple[str, ...], *, is_recursive: bool) -> str | None:
    """Hadoop's own checksum files are nobody's data."""
    if parts[-1].startswith(".") and parts[-1].endswith(".crc"):
        return None
    if any(part.startswith((".", "_")) for part in parts):
        return "a name that begins with . or _ is hidden"
    if not is_recursive and any("=" not in part for part in parts[:-1]):
        return "in a sub-directory; recursiveFileLookup: true reads those"
    return None


def _was_changed(path: Path, read_ms: int | None) -> bool:
    try:
        return read_ms is not None and path.stat().st_mtime_ns // 1_000_000 != read_ms
    except FileNotFoundError:
        return False
