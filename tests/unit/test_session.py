import pytest

from jobs.pipeline.required_options import REQUIRED
from jobs.pipeline.session import _required_problems, read_properties


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("# spark.a 1\n\n   \n", {}),
        ("spark.a 1\nspark.b=2\n", {"spark.a": "1", "spark.b": "2"}),
        ("  spark.a     1 2  \n", {"spark.a": "1 2"}),
        ("spark.a -Dx=1 -Dy=2\n", {"spark.a": "-Dx=1 -Dy=2"}),
        ("spark.a=-Dx=1 -Dy=2\n", {"spark.a": "-Dx=1 -Dy=2"}),
        ("spark.a\t1\n", {"spark.a": "1"}),
        ("spark.a = 1\n", {"spark.a": "1"}),
        ("spark.a 1\nspark.a 2\n", {"spark.a": "2"}),
        ("spark.a: 1\nspark.b:2\n", {"spark.a": "1", "spark.b": "2"}),
        ("spark.a = = 1\n", {"spark.a": "= 1"}),
        ("spark.a\nspark.b=\n", {"spark.a": "", "spark.b": ""}),
        ("! spark.a 1\n  # spark.b 1\n", {}),
        ("spark.a 1,\\\n    2\nspark.b 3\\\\\nspark.c 4\\", {"spark.a": "1,2", "spark.b": "3\\", "spark.c": "4"}),
        (r"spark\=a\:b\ c d\te\u0041\q", {"spark=a:b c": "d\teAq"}),
        ("spark.a é\n", {"spark.a": "é"}),
    ],
)
def test_properties_read_as_spark_submit_reads_them(tmp_path, text, options):
    (tmp_path / "spark-defaults.conf").write_text(text, encoding="utf-8")
    assert read_properties(tmp_path / "spark-defaults.conf") == options


def test_properties_that_are_not_there_are_none(tmp_path):
    assert read_properties(tmp_path / "spark-defaults.conf") == {}


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
