"""`_record`: what every row carries from the source to the gate, so that a row set apart can be shown as it came.

`_record.raw` is the original text or bytes where the source gives it; `_record.columns` holds the source's own
columns otherwise. All other fields are source coordinates. Transforms may read it and must keep it.
"""

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

RECORD = "_record"
MALFORMED = "_malformed"
ROW_ID = "_esclusa_row_id"
"""Field of `_record` in a replay only: which row of the quarantine it is."""

ERRORS_TYPE = "array<struct<check:string,column:string,message:string>>"
SOURCE_FIELDS = {
    "path": "string",
    "modified_at": "timestamp",
    "block_start": "bigint",
    "topic": "string",
    "partition": "int",
    "offset": "bigint",
    "timestamp": "timestamp",
    "key": "binary",
}
"""Coordinates a quarantined row can have; those its source does not know are NULL."""

# to_json would cut timestamps to milliseconds.
JSON_OPTIONS = {
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}


def record_fields(schema: StructType) -> set[str]:
    """Names of the fields of `_record` in a frame of this schema; raises KeyError if there is no `_record`."""
    record_type = schema[RECORD].dataType
    return set(record_type.fieldNames()) if isinstance(record_type, StructType) else set()


def raw_bytes(fields: set[str]) -> Column:
    """The raw record as binary: the source's own bytes, or its columns as JSON, nothing rounded."""
    raw = F.col(f"{RECORD}.raw") if "raw" in fields else F.lit(None).cast("binary")
    if "columns" not in fields:
        return raw
    as_json = F.to_json(F.col(f"{RECORD}.columns"), JSON_OPTIONS | {"ignoreNullFields": "false"})
    return F.coalesce(raw, F.encode(as_json, "UTF-8"))


def coordinates(fields: set[str]) -> Column:
    """Struct of those SOURCE_FIELDS that the source knows."""
    return F.struct(*(F.col(f"{RECORD}.{name}").alias(name) for name in SOURCE_FIELDS if name in fields))


def all_coordinates(fields: set[str]) -> Column:
    """Struct of all SOURCE_FIELDS, NULL where the source does not know them."""
    return F.struct(
        *(
            (F.col(f"{RECORD}.{name}") if name in fields else F.lit(None)).cast(type_).alias(name)
            for name, type_ in SOURCE_FIELDS.items()
        )
    )


def envelope(fields: set[str], errors: Column) -> tuple[Column, Column, Column]:
    """Columns raw, source, _errors: what of a row set apart comes from the row itself."""
    return (
        raw_bytes(fields).alias("raw"),
        all_coordinates(fields).alias("source"),
        errors.cast(ERRORS_TYPE).alias("_errors"),
    )
