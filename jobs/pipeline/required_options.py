"""Spark options that promises rest on: the value that each must have, and why."""

_EXTENSIONS = "spark.sql.extensions"
REQUIRED = {
    _EXTENSIONS: "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
}
_REASONS = {
    _EXTENSIONS: "the tables are Delta's",
    "spark.sql.session.timeZone": "elsewhere the same text would be another time",
    "spark.sql.ansi.enabled": "else a value that cannot be cast becomes NULL in the target, and misses the quarantine",
}


def required_fault(key: str, value: str | None) -> str | None:
    """Why an option cannot have this value; None if it can. Extensions are a list that may hold others as well."""
    if key not in REQUIRED or REQUIRED[key] in _parts(key, value or ""):
        return None
    return f"must {'hold' if key == _EXTENSIONS else 'be'} {REQUIRED[key]}: {_REASONS[key]}"


def _parts(key: str, value: str) -> list[str]:
    return [part.strip() for part in value.split(",")] if key == _EXTENSIONS else [value]
