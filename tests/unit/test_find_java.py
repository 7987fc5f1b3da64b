"""Where Java is known by JAVA_HOME alone, by PATH alone, or not at all: a script that says its words stands for it."""

import pytest

from jobs.dev.broker import _java
from jobs.dev.jars import _retrieve
from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.session import find_java


@pytest.fixture
def java(tmp_path, monkeypatch):
    """Function: a Java of this name; at first neither JAVA_HOME nor PATH holds one."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))

    def place(name):
        command = tmp_path / name / "bin" / "java"
        command.parent.mkdir(parents=True)
        command.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        command.chmod(0o755)
        return command

    return place


def test_java_of_java_home_is_found_before_that_of_path(java, monkeypatch):
    of_path, of_home = java("path"), java("home")
    with pytest.raises(UnavailableError):
        find_java()
    monkeypatch.setenv("PATH", str(of_path.parent))
    assert find_java() == str(of_path)
    monkeypatch.setenv("JAVA_HOME", str(of_home.parents[1]))
    assert find_java() == str(of_home)
    of_home.unlink()
    with pytest.raises(UnavailableError, match=r"JAVA_HOME is .*home"):
        find_java()


def test_jars_and_broker_need_java_home_alone(java, monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(java("home").parents[1]))
    _retrieve("group:artifact:1.0", tmp_path)
    log = tmp_path / "log"
    assert _java(["kafka.Kafka"], log).wait() == 0
    words = log.read_text().split()
    assert (words[0], words[-1]) == ("home", "kafka.Kafka")
