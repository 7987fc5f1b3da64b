import pytest

from jobs.pipeline import errors
from jobs.pipeline.errors import ConfError, EsclusaError, Problem, root_cause
from jobs.pipeline.failures import classify

STABLE = {
    "EsclusaError": ("UNEXPECTED", 1, False),
    "ConfError": ("CONF_INVALID", 2, False),
    "BatchHeldError": ("BATCH_HELD", 3, False),
    "UnavailableError": ("UNAVAILABLE", 4, True),
    "AlreadyRunningError": ("ALREADY_RUNNING", 5, False),
    "LeaseLostError": ("LEASE_LOST", 5, False),
    "StateMismatchError": ("STATE_MISMATCH", 6, False),
    "TransformChangedError": ("TRANSFORM_CHANGED", 6, False),
    "CheckpointGoneError": ("CHECKPOINT_GONE", 6, False),
    "CheckpointDamagedError": ("CHECKPOINT_DAMAGED", 6, False),
    "TableBehindError": ("TABLE_BEHIND", 6, False),
    "TableRecreatedError": ("TABLE_RECREATED", 6, False),
    "TableForgetsError": ("TABLE_FORGETS", 6, False),
    "ReplayDiffersError": ("REPLAY_DIFFERS", 6, False),
    "RetentionTooShortError": ("RETENTION_TOO_SHORT", 6, False),
    "RewindRefusedError": ("REWIND_REFUSED", 6, False),
    "SourceChangedError": ("SOURCE_CHANGED", 6, False),
    "FileChangedError": ("FILE_CHANGED", 6, False),
    "TopicRecreatedError": ("TOPIC_RECREATED", 6, False),
    "OffsetsLostError": ("OFFSETS_LOST", 6, False),
    "OffsetsWentBackError": ("OFFSETS_WENT_BACK", 6, False),
    "ReconciliationError": ("ROWS_DO_NOT_ADD_UP", 1, False),
    "SparkDiedError": ("SPARK_DIED", 1, False),
    "TransformError": ("TRANSFORM_FAILS", 1, False),
}


def test_codes_and_exit_codes_are_stable():
    tree = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EsclusaError)]
    assert {kind.__name__: (kind.code, kind.exit_code, kind.is_retryable) for kind in tree} == STABLE


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("a.yml", 3, "sink.path", "missing"), "a.yml:3: sink.path: missing"),
        (Problem("a.yml", 1, "", "not valid YAML"), "a.yml:1: not valid YAML"),
    ],
)
def test_a_problem_reads_as_file_line_path_message(problem, text):
    assert str(problem) == text


def test_a_conf_error_shows_every_problem_on_a_line_of_its_own():
    problems = [Problem("a.yml", 1, "", "x"), Problem("b.yml", 2, "p", "y")]
    error = ConfError(problems)
    assert error.problems == problems
    assert str(error).splitlines() == ["a.yml:1: x", "b.yml:2: p: y"]


TRACE = """org.apache.spark.SparkException: Job aborted.
\tat org.apache.spark.Some.method(Some.scala:1)
Caused by: org.apache.spark.sql.kafka010.KafkaIllegalStateException: [KAFKA_DATA_LOSS] Some data may have been lost;
If you don't want your streaming query to fail on such cases, set the source option failOnDataLoss to false.
Reason:
Partitions orders-0 have been deleted
\tat org.apache.spark.Other.method(Other.scala:2)
\t... 3 more
"""
OVERFLOW = """org.apache.spark.SparkException: Job aborted.
Caused by: org.apache.spark.SparkException: [KAFKA_MALFORMED_RECORD_TIMESTAMP] The record orders-0 at 7
\tat org.apache.spark.Other.method(Other.scala:2)
Caused by: java.lang.ArithmeticException: long overflow
\tat java.lang.Math.multiplyExact(Math.java:1)
"""


def test_all_lines_of_a_cause_are_told_and_no_advice_that_loses_rows():
    assert str(classify(RuntimeError(TRACE))) == (
        "[KAFKA_DATA_LOSS] Some data may have been lost; Reason: Partitions orders-0 have been deleted"
    )


def test_what_spark_says_of_an_overflow_is_told():
    found = classify(RuntimeError(OVERFLOW))
    assert (found.exit_code, str(found)) == (6, "[KAFKA_MALFORMED_RECORD_TIMESTAMP] The record orders-0 at 7")
    assert root_cause(RuntimeError(OVERFLOW.replace("apache.spark", "acme"))) == "long overflow"
