"""The error tree: each failure has a stable code, an exit code, and says whether trying again can help."""

import re
from dataclasses import dataclass
from typing import ClassVar


class EsclusaError(Exception):
    """A failure that Esclusa names; `code` and `exit_code` are stable across releases."""

    code: ClassVar[str] = "UNEXPECTED"
    exit_code: ClassVar[int] = 1
    is_retryable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in conf: where it stands, what it is, and what would be right."""

    file: str
    line: int | None
    """None for what has no lines: an option, a directory."""
    path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfError(EsclusaError):
    """Conf cannot be used; `problems` holds every fault found, so that one run shows them all."""

    code = "CONF_INVALID"
    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class BatchHeldError(EsclusaError):
    """The quality gate holds a batch: the target is untouched, the evidence is in the ledger."""

    code = "BATCH_HELD"
    exit_code = 3


class UnavailableError(EsclusaError):
    """A source or sink does not answer; trying again later can help."""

    code = "UNAVAILABLE"
    exit_code = 4
    is_retryable = True


class AlreadyRunningError(EsclusaError):
    """Another run holds the pipeline; this one changed nothing."""

    code = "ALREADY_RUNNING"
    exit_code = 5


class LeaseLostError(AlreadyRunningError):
    """This run held the pipeline and holds it no more; it has committed nothing since."""

    code = "LEASE_LOST"


class StateMismatchError(EsclusaError):
    """Table, checkpoint and conf do not belong together; a person has to decide."""

    code = "STATE_MISMATCH"
    exit_code = 6


class TransformChangedError(StateMismatchError):
    """A batch is committed in part, by the code of a Python transform that is not there any more."""

    code = "TRANSFORM_CHANGED"


class CheckpointGoneError(StateMismatchError):
    """The checkpoint, or a part of it, is gone or not this pipeline's, and the tables hold what it wrote."""

    code = "CHECKPOINT_GONE"


class CheckpointDamagedError(StateMismatchError):
    """A file of the checkpoint is missing between others, or cannot be read."""

    code = "CHECKPOINT_DAMAGED"


class TableBehindError(StateMismatchError):
    """A table lacks what the checkpoint says is written."""

    code = "TABLE_BEHIND"


class TableRecreatedError(StateMismatchError):
    """Another table lies where this pipeline wrote before."""

    code = "TABLE_RECREATED"


class TableForgetsError(StateMismatchError):
    """A table is set to forget which batches are written."""

    code = "TABLE_FORGETS"


class RetentionTooShortError(StateMismatchError):
    """Maintenance would remove what a table's own properties promise its readers."""

    code = "RETENTION_TOO_SHORT"


class ReplayDiffersError(StateMismatchError):
    """A batch of this id is written, over another part of the source."""

    code = "REPLAY_DIFFERS"


class RewindRefusedError(StateMismatchError):
    """The plan of a batch cannot be forgotten."""

    code = "REWIND_REFUSED"


class SourceChangedError(StateMismatchError):
    """The checkpoint counts through another source than conf names."""

    code = "SOURCE_CHANGED"


class FileChangedError(StateMismatchError):
    """A file was overwritten under a batch that is committed in part."""

    code = "FILE_CHANGED"


class TopicRecreatedError(StateMismatchError):
    """A topic was deleted and created again: the checkpoint's offsets are another topic's."""

    code = "TOPIC_RECREATED"


class OffsetsLostError(StateMismatchError):
    """Retention has deleted offsets that the pipeline has not read."""

    code = "OFFSETS_LOST"


class OffsetsWentBackError(StateMismatchError):
    """A topic ends before what was read of it: the broker lost a part of its log."""

    code = "OFFSETS_WENT_BACK"


class ReconciliationError(EsclusaError):
    """Rows read are not rows written + quarantined + dropped: the batch fails and is replayed."""

    code = "ROWS_DO_NOT_ADD_UP"
    exit_code = 1


class TransformError(EsclusaError):
    """Too many rows of a batch cannot be computed: the fault is in a transform or check, not in the rows."""

    code = "TRANSFORM_FAILS"
    exit_code = 1


class SparkDiedError(EsclusaError):
    """The driver's JVM is gone while Python goes on; whatever a call to it says, that is the cause."""

    code = "SPARK_DIED"
    exit_code = 1


_CAUSE = re.compile(
    r"^Caused by: ([\w.$]+): (.*?)(?=\n\s+at |\nCaused by: |\n\s+\.\.\. \d+ more|\n*\Z)", re.MULTILINE | re.DOTALL
)


def full_text(error: BaseException) -> str:
    """A failure's message and, if it is one of Spark's, the JVM's trace of it with all causes."""
    return f"{error}\n{getattr(error, '_stackTrace', None) or ''}"


def root_cause(error: BaseException) -> str:
    """The first cause in a failure of Spark, without the JVM's stack traces; its lines are joined.

    What Spark itself says of an overflow stands before it.
    """
    causes = _CAUSE.findall(full_text(error))
    if len(causes) > 1 and causes[-1][0] == "java.lang.ArithmeticException" and "spark" in causes[-2][0]:
        causes.pop()
    if causes:
        return " ".join(line.strip() for line in causes[-1][1].splitlines())
    return re.split(r"\n\s+at |\n+JVM stacktrace", str(error), maxsplit=1)[0].strip()
