"""Reading a local Delta table into Arrow, without Spark."""

from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem


def read_rows(
    folder: str, columns: list[str] | None = None, filters: list[tuple[str, str, Any]] | None = None
) -> pa.Table:
    """Columns, by default all, of the rows that meet all filters, as pyarrow's `filters` take them.

    The files are read through Arrow's own file system. The one that deltalake brings is called back in Python by
    Arrow's threads, and one that still is when the interpreter ends aborts the process: the command has done its
    work and ends with SIGABRT (apache/arrow#34314).
    """
    files = SubTreeFileSystem(folder, LocalFileSystem())
    return DeltaTable(folder).to_pyarrow_table(columns=columns, filesystem=files, filters=filters)
