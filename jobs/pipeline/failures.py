"""What ended a run -> the error whose code and exit code tell an operator what to do."""

from jobs.pipeline.errors import AlreadyRunningError, EsclusaError, StateMismatchError, UnavailableError, root_cause

_BUSY = (
    "CONCURRENT_STREAM_LOG_UPDATE",
    "CONCURRENT_QUERY",
    "ConcurrentTransactionException",
    "Concurrent transaction failed",
)
_STATE = (
    "HEADER_DIFFERS",
    "FAILED_READ_FILE",
    "STREAMING_CHECKPOINT_MISSING_METADATA_FILE",
    "KAFKA_DATA_LOSS",
    "DIFFERENT_DELTA_TABLE",
)
_UNAVAILABLE = ("TimeoutException", "DisconnectException", "Connection refused")


def classify(error: BaseException) -> BaseException:
    """A failure of Spark -> the error whose exit code tells an operator what to do; others stay what they are."""
    if isinstance(error, EsclusaError) or not isinstance(error, Exception):
        return error
    text = str(error)
    for markers, kind in ((_BUSY, AlreadyRunningError), (_STATE, StateMismatchError), (_UNAVAILABLE, UnavailableError)):
        if any(marker in text for marker in markers):
            return kind(root_cause(error))
    return EsclusaError(root_cause(error))
