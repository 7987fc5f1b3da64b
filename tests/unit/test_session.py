import os
import shlex
import subprocess
import sys

import pytest

from jobs.pipeline import session
from jobs.pipeline.required_options import REQUIRED
from jobs.pipeline.session import _local_options, _required_problems
from jobs.pipeline.spark_properties import PACKAGES


@pytest.fixture
def jars(tmp_path, monkeypatch):
    """Paths of what `esclusa setup` has installed."""
    folder = tmp_path / "jars"
    folder.mkdir()
    monkeypatch.setattr(session, "jars_folder", lambda: folder)
    paths = [folder / name for name in ("a.jar", "b.jar")]
    for path in paths:
        path.touch()
    return list(map(str, paths))


def test_jars_that_are_installed_are_not_fetched_and_those_of_the_user_come_behind_them(jars):
    options = {
        "spark.jars.packages": f"com.acme:one:1.0,{PACKAGES[0]}",
        "spark.driver.extraClassPath": f"/acme/*:{jars[0]}:/acme/conf",
    }
    resolved = _local_options(options)
    assert resolved["spark.jars.packages"] == "com.acme:one:1.0"
    assert resolved["spark.driver.extraClassPath"].split(":") == [*jars, "/acme/*", "/acme/conf"]


def test_of_jars_that_are_installed_alone_none_is_fetched(jars):
    resolved = _local_options({"spark.jars.packages": ",".join(PACKAGES)})
    assert resolved["spark.jars.packages"] == ""
    assert resolved["spark.driver.extraClassPath"].split(":") == jars


def test_without_installed_jars_those_that_are_named_are_fetched_or_esclusas_own(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "jars_folder", lambda: tmp_path / "none")
    assert _local_options({})["spark.jars.packages"] == ",".join(PACKAGES)
    assert _local_options({"spark.jars.packages": "a:b:1"})["spark.jars.packages"] == "a:b:1"


def test_the_path_of_an_environment_may_have_spaces(tmp_path, monkeypatch):
    archive = tmp_path / "my project" / "spark.jsa"
    archive.parent.mkdir()
    archive.touch()
    monkeypatch.setattr(session, "class_archive", lambda: archive)
    given = _local_options({"spark.driver.extraJavaOptions": "-Da=1 -Db=2"})["spark.driver.extraJavaOptions"]
    words = shlex.split(given)  # as Spark's launcher does
    assert words[-3:] == [f"-XX:SharedArchiveFile={archive}", "-Da=1", "-Db=2"]


START = "from jobs.pipeline.session import start_session; start_session('t', {})"


@pytest.mark.parametrize("name", ["JAVA_HOME", "SPARK_HOME"])
def test_a_java_or_a_spark_that_does_not_start_is_named(tmp_path, name):
    """A script that ends at once stands for both."""
    for command in ("java", "spark-submit"):
        file = tmp_path / "bin" / command
        file.parent.mkdir(exist_ok=True)
        file.write_text("#!/bin/sh\nexit 1\n")
        file.chmod(0o755)
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path), name: str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=False, env=own)
    error, advice = done.stderr.splitlines()[-2:]
    assert error.startswith("jobs.pipeline.errors.EsclusaError: Spark does not start: [JAVA_GATEWAY_EXITED]")
    assert str(tmp_path) in advice


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"spark.sql.extensions": "a.First, io.delta.sql.DeltaSparkSessionExtension"},
        {"spark.sql.shuffle.partitions": "2"},
        {"spark.sql.session.timeZone": "Etc/UTC", "spark.sql.ansi.enabled": "TRUE"},
    ],
)
def test_a_session_with_all_that_promises_rest_on_is_taken(changed):
    assert _required_problems(REQUIRED | changed) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spark.sql.ansi.enabled", "false"),
        ("spark.sql.session.timeZone", "Europe/Rome"),
        ("spark.sql.constraintPropagation.enabled", "true"),
        ("spark.sql.extensions", None),
        ("spark.sql.extensions", "a.First"),
    ],
)
def test_a_session_without_what_promises_rest_on_is_refused(key, value):
    (problem,) = _required_problems(REQUIRED | {key: value})
    assert problem.path == key
    assert REQUIRED[key] in problem.message
