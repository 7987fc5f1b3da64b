import pytest

from jobs.pipeline.entrypoint import run_guarded
from jobs.pipeline.errors import (
    AlreadyRunningError,
    BatchHeldError,
    ConfError,
    EsclusaError,
    Problem,
    ReconciliationError,
    StateMismatchError,
    UnavailableError,
)


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(("result", "exit_code"), [(None, 0), (0, 0), (3, 3)])
def test_an_action_that_returns_says_its_own_exit_code(result, exit_code, capsys):
    assert run_guarded(lambda: result) == exit_code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "exit_code", "last_line"),
    [
        (ConfError([Problem("a.yml", 1, "", "x")]), 2, "CONF_INVALID: 1 problem; nothing was started"),
        (BatchHeldError("why"), 3, "BATCH_HELD: why"),
        (UnavailableError("why"), 4, "UNAVAILABLE: why (trying again later can help)"),
        (AlreadyRunningError("why"), 5, "ALREADY_RUNNING: why"),
        (StateMismatchError("why"), 6, "STATE_MISMATCH: why"),
        (ReconciliationError("why"), 1, "ROWS_DO_NOT_ADD_UP: why"),
        (EsclusaError("why"), 1, "UNEXPECTED: why"),
        (PermissionError(13, "why", "f"), 4, "UNAVAILABLE: [Errno 13] why: 'f' (trying again later can help)"),
        (OSError("so\n  \x1b[31m↳\x1b[0m why"), 4, "UNAVAILABLE: so ↳ why (trying again later can help)"),
        (ZeroDivisionError("why"), 1, "ZeroDivisionError: why"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_failure_is_printed_and_becomes_its_exit_code(error, exit_code, last_line, capsys):
    assert run_guarded(raising(error)) == exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == last_line


def test_an_interrupt_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        run_guarded(raising(KeyboardInterrupt()))
