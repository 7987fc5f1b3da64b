"""Values that Spark's options of a source may have: what Spark itself would refuse only at a start."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

Test = Callable[[str], bool]
_LAST_PORT = 65535
_SERVER = re.compile(r"(?:[0-9A-Za-z\-%._]*://)?\[?(?P<host>[0-9A-Za-z\-%._:]*)\]?:(?P<port>.*)")


@dataclass(frozen=True, slots=True)
class _Rule:
    """Which values fit an option, and what to say of others."""

    fits: Test
    says: str


def value_fault(key: str, value: str) -> str | None:
    """What is wrong with an option's value; None if nothing is, as far as can be seen without Spark.

    A secret may be anything. So may a variable that has no value: that is a problem of its own.
    """
    rule = _RULES.get(key)
    return None if rule is None or "${" in value or rule.fits(value) else f"'{value}' {rule.says}"


def split_servers(text: str) -> list[str]:
    """The servers of a comma-separated list."""
    return [server for server in map(str.strip, text.split(",")) if server]


def read_server(server: str) -> tuple[str, int]:
    """Host and port of one of Kafka's servers; ValueError if it is none, or has no port that a server can have.

    As Kafka reads them: a protocol before the host, and brackets around it, are passed over.
    """
    match = _SERVER.fullmatch(server)
    if not match:
        raise ValueError("it is not host:port")
    if not re.fullmatch("[0-9]{1,5}", match["port"]) or not 0 < int(match["port"]) <= _LAST_PORT:
        raise ValueError(f"'{match['port']}' is no port from 1 to {_LAST_PORT}")
    return match["host"] or "localhost", int(match["port"])


def _matches(pattern: str) -> Test:
    return lambda value: re.fullmatch(pattern, value) is not None


def _is_json(kind: Any) -> Test:
    def fits(value: str) -> bool:
        try:
            TypeAdapter(kind).validate_json(value)
        except ValidationError:
            return False
        return True

    return fits


def _is_position(value: str) -> bool:
    return value.strip().lower() in {"earliest", "latest"} or _is_offsets(value)


def _is_servers(value: str) -> bool:
    try:
        return [read_server(server) for server in split_servers(value)] != []
    except ValueError:
        return False


def _word(*allowed: str) -> _Rule:
    """Spark compares words without regard to case."""
    return _Rule(lambda value: value.lower() in allowed, f"is not known; allowed: {', '.join(allowed)}")


_Partition = Annotated[str, Field(pattern="^[0-9]+$")]
_Whole = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
_Offset = Annotated[int, Field(strict=True, ge=-2, lt=2**63)]
_is_offsets = _is_json(Annotated[dict[str, dict[_Partition, _Offset]], Field(min_length=1)])
_is_times = _is_json(Annotated[dict[str, dict[_Partition, _Whole]], Field(min_length=1)])
_is_partitions = _is_json(Annotated[dict[str, Annotated[list[_Whole], Field(min_length=1)]], Field(min_length=1)])

_WAIT = _Rule(
    _matches("[0-9]+(us|ms|s|m|min|h|d)?"), "is no time as Spark reads it; write 500ms, 30s, 5m, 1h, without a space"
)
_TRUTH = _Rule(_matches("(?i)true|false"), "is no truth value; write true or false")
_COUNT = _Rule(_matches("0*[1-9][0-9]*"), "is no count; write a whole number above 0")
_RULES = {
    **dict.fromkeys(
        "header multiLine recursiveFileLookup latestFirst ignoreLeadingWhiteSpace ignoreTrailingWhiteSpace "
        "primitivesAsString prefersDecimal allowComments allowSingleQuotes excludeAttribute ignoreSurroundingSpaces "
        "ignoreNamespace includeHeaders".split(),
        _TRUTH,
    ),
    **dict.fromkeys("maxFilesPerTrigger maxOffsetsPerTrigger minOffsetsPerTrigger minPartitions".split(), _COUNT),
    "maxRecordsPerPartition": _COUNT,
    **dict.fromkeys(
        "fetchOffset.numRetries fetchOffset.retryIntervalMs kafkaConsumer.pollTimeoutMs "
        "kafka.request.timeout.ms kafka.default.api.timeout.ms kafka.session.timeout.ms kafka.fetch.max.wait.ms "
        "kafka.max.partition.fetch.bytes kafka.fetch.max.bytes".split(),
        _Rule(_matches("[0-9]+"), "is no whole number"),
    ),
    "maxTriggerDelay": _WAIT,
    "kafka.isolation.level": _Rule(
        _matches("read_committed|read_uncommitted"), "is not known; allowed: read_committed, read_uncommitted"
    ),
    "cleanSource": _word("off", "archive", "delete"),
    "kafka.bootstrap.servers": _Rule(
        _is_servers, f"is no list of servers; write host:port, comma-separated; allowed ports: 1 to {_LAST_PORT}"
    ),
    "assign": _Rule(_is_partitions, 'names no partitions; write JSON such as {"topic": [0, 1]}'),
    "startingOffsets": _Rule(
        _is_position,
        'is no position; allowed: earliest, latest, or JSON such as {"topic": {"0": 23, "1": -2}} '
        "(-2 is the earliest offset, -1 the latest)",
    ),
    "startingTimestamp": _Rule(_matches(r"\s*[0-9]+\s*"), "is no time; write it in milliseconds since 1970"),
    "startingOffsetsByTimestamp": _Rule(
        _is_times, 'names no times; write JSON such as {"topic": {"0": 1735689600000}} (milliseconds since 1970)'
    ),
    "startingOffsetsByTimestampStrategy": _word("error", "latest"),
}
"""By option."""
