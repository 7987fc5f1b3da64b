"""The quarantine table: a stable envelope around every row set apart, whatever the pipeline's schema becomes."""

import base64
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_TIMESTAMP = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("pipeline", pa.string()),
        ("batch_id", pa.int64()),
        ("quarantined_at", _TIMESTAMP),
        ("rules_fingerprint", pa.string()),
        ("raw", pa.binary()),
        (
            "source",
            pa.struct(
                [
                    ("path", pa.string()),
                    ("modified_at", _TIMESTAMP),
                    ("block_start", pa.int64()),
                    ("topic", pa.string()),
                    ("partition", pa.int32()),
                    ("offset", pa.int64()),
                    ("timestamp", _TIMESTAMP),
                    ("key", pa.binary()),
                ]
            ),
        ),
        (
            "_errors",
            pa.list_(pa.struct([("check", pa.string()), ("column", pa.string()), ("message", pa.string())])),
        ),
        ("row_id", pa.string()),
    ]
)


def gathered_rows(rows: tuple[dict[str, Any], ...], envelope: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows as the gate gathered them (JSON values) -> rows of SCHEMA."""
    return [
        envelope
        | {"raw": _binary(row.get("raw")), "source": _source(row["source"]), "_errors": row["_errors"]}
        | {"row_id": str(uuid4())}
        for row in rows
    ]


def scanned_rows(rows: DataFrame, envelope: dict[str, Any]) -> DataFrame:
    """Rows as a second scan gives them (raw, source, _errors) -> columns of SCHEMA, in its order."""
    constants = {
        "pipeline": F.lit(envelope["pipeline"]),
        "batch_id": F.lit(envelope["batch_id"]).cast("bigint"),
        "quarantined_at": F.lit(envelope["quarantined_at"]),
        "rules_fingerprint": F.lit(envelope["rules_fingerprint"]),
        "row_id": F.uuid(),
    }
    return rows.select(*(constants[name].alias(name) if name in constants else F.col(name) for name in SCHEMA.names))


def _binary(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _source(source: dict[str, Any]) -> dict[str, Any]:
    return source | {
        "modified_at": _instant(source.get("modified_at")),
        "timestamp": _instant(source.get("timestamp")),
        "key": _binary(source.get("key")),
    }


def _instant(text: str | None) -> datetime | None:
    """NULL for a time that Python cannot hold: a producer may have stamped its record with any number."""
    try:
        return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
