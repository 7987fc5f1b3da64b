"""Spark options that promises rest on: the value that each must have, and why."""

_EXTENSIONS = "spark.sql.extensions"
_ZONE = "spark.sql.session.timeZone"
_CONSTRAINTS = "spark.sql.constraintPropagation.enabled"
_OTHER_NAMES_OF_UTC = frozenset({"Etc/UTC", "Z", "+00:00"})
REQUIRED = {
    _EXTENSIONS: "io.delta.sql.DeltaSparkSessionExtension",
    _ZONE: "UTC",
    "spark.sql.ansi.enabled": "true",
    _CONSTRAINTS: "false",
}
_REASONS = {
    _EXTENSIONS: "the tables are Delta's",
    _ZONE: "elsewhere the same text would be another time",
    "spark.sql.ansi.enabled": "else a value that cannot be cast becomes NULL in the target, and misses the quarantine",
    _CONSTRAINTS: "else twenty columns whose values are tested take all memory: Spark doubles its plan with each",
}


def required_fault(key: str, value: str | None) -> str | None:
    """Why an option cannot have this value; None if it can. Extensions are a list that may hold others as well."""
    if key not in REQUIRED or REQUIRED[key] in _meanings(key, value or ""):
        return None
    return f"must {'hold' if key == _EXTENSIONS else 'be'} {REQUIRED[key]}: {_REASONS[key]}"


def _meanings(key: str, value: str) -> list[str]:
    """What the value says, as REQUIRED spells it."""
    if key == _EXTENSIONS:
        return [part.strip() for part in value.split(",")]
    return ["UTC"] if value in _OTHER_NAMES_OF_UTC else [value if key == _ZONE else value.lower()]
