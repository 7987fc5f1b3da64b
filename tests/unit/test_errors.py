import pytest

from jobs.pipeline import errors
from jobs.pipeline.errors import ConfError, EsclusaError, Problem

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
    "SourceChangedError": ("SOURCE_CHANGED", 6, False),
    "FileChangedError": ("FILE_CHANGED", 6, False),
    "TopicRecreatedError": ("TOPIC_RECREATED", 6, False),
    "ReconciliationError": ("ROWS_DO_NOT_ADD_UP", 1, False),
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
