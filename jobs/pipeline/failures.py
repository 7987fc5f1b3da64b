"""What ended a run -> the error whose code and exit code tell an operator what to do."""

import re

from jobs.pipeline.errors import (
    AlreadyRunningError,
    EsclusaError,
    SparkDiedError,
    StateMismatchError,
    UnavailableError,
    full_text,
    root_cause,
)
from jobs.pipeline.session import is_jvm_alive

_BUSY = (
    "CONCURRENT_STREAM_LOG_UPDATE",
    "CONCURRENT_QUERY",
    "ConcurrentTransactionException",
    "Concurrent transaction failed",
)
_DATA_LOSS = re.compile("KAFKA_DATA_LOSS|[Ss]ome data may have been|OffsetOutOfRangeException")
_ADVICE = re.compile(r"\s*If you don't want [^.]*failOnDataLoss[^.]*\.")
"""Of Spark: an option that Esclusa refuses."""
_STATE = (
    "HEADER_DIFFERS",
    "FAILED_READ_FILE",
    "STREAMING_CHECKPOINT_MISSING_METADATA_FILE",
    "DIFFERENT_DELTA_TABLE",
    "KAFKA_MALFORMED_RECORD_TIMESTAMP",
)
_UNAVAILABLE = (
    "TimeoutException",
    "DisconnectException",
    "Connection refused",
    "AuthenticationException",
    "AuthorizationException",
)


def is_data_loss(error: BaseException) -> bool:
    """Whether Spark or a Kafka client says that a topic does not hold what a batch covers."""
    return _DATA_LOSS.search(full_text(error)) is not None


def classify(error: BaseException) -> BaseException:
    """A failure -> the EsclusaError whose exit code tells an operator what to do; an interrupt stays what it is."""
    if isinstance(error, EsclusaError) or not isinstance(error, Exception):
        return error
    if not is_jvm_alive():
        message = (
            "Spark's JVM has died under this run. What it had committed stays, and the batch in flight runs again with "
            "the next start. If it dies again, look for who kills it: where the kernel did, for want of memory, dmesg "
            "says so"
        )
        return SparkDiedError(message)
    if is_data_loss(error):
        return StateMismatchError(_ADVICE.sub("", root_cause(error)))
    if isinstance(error, OSError):
        return UnavailableError(str(error))
    text = str(error)
    for markers, kind in ((_BUSY, AlreadyRunningError), (_STATE, StateMismatchError), (_UNAVAILABLE, UnavailableError)):
        if any(marker in text for marker in markers):
            return kind(root_cause(error))
    return EsclusaError(root_cause(error))
