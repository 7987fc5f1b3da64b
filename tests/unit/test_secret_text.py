import pytest

from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.secret_text import reveal, reveal_quoted


@pytest.fixture
def secrets(tmp_path, monkeypatch):
    """$ESCLUSA_SECRETS_DIR: a directory of one file a secret."""
    monkeypatch.setenv("ESCLUSA_SECRETS_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "revealed"),
    [
        ("plain", "plain"),
        ("", ""),
        ("${secret:USER_NAME}", "ann"),
        ("user=${secret:USER_NAME};password=${secret:PASSWORD}", r"user=ann;password=a\1$b${secret:USER_NAME}"),
        ("$${secret:USER_NAME}", "$ann"),
        ("${lake}/${SECRET:USER_NAME}", "${lake}/${SECRET:USER_NAME}"),
    ],
)
def test_references_are_replaced_once_and_the_rest_is_kept(text, revealed, monkeypatch):
    monkeypatch.setenv("USER_NAME", "ann")
    monkeypatch.setenv("PASSWORD", r"a\1$b${secret:USER_NAME}")
    assert reveal(text) == revealed


@pytest.mark.parametrize(
    ("content", "value"),
    [("hunter2", "hunter2"), ("hunter2\n", "hunter2"), ("two\nlines\n\n", "two\nlines\n"), ("", "")],
)
def test_a_file_is_a_secret_without_its_last_line_break(secrets, content, value):
    (secrets / "KEY").write_text(content)
    assert reveal("${secret:KEY}") == value


def test_the_environment_comes_before_the_file(secrets, monkeypatch):
    (secrets / "KEY").write_text("from the file")
    monkeypatch.setenv("KEY", "from the environment")
    assert reveal("${secret:KEY}") == "from the environment"


@pytest.mark.usefixtures("secrets")
def test_a_secret_that_is_nowhere_is_named_and_no_other_is_shown(monkeypatch):
    monkeypatch.setenv("USER_NAME", "ann")
    with pytest.raises(UnavailableError, match="MISSING_KEY") as caught:
        reveal("${secret:USER_NAME} ${secret:MISSING_KEY}")
    assert "ann" not in str(caught.value)


def test_without_a_secrets_directory_only_the_environment_counts(tmp_path, monkeypatch):
    monkeypatch.delenv("ESCLUSA_SECRETS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "KEY").write_text("x")
    with pytest.raises(UnavailableError):
        reveal("${secret:KEY}")


def test_a_secret_in_quotes_keeps_its_backslashes_and_quotes(monkeypatch):
    monkeypatch.setenv("PASSWORD", 'a\\b"c')
    assert reveal_quoted("${secret:PASSWORD}") == 'a\\b"c'
    assert reveal_quoted('password="${secret:PASSWORD}";') == 'password="a\\\\b\\"c";'
