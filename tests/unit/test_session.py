import pytest

from jobs.pipeline.session import read_properties


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
    ],
)
def test_properties_read_as_spark_submit_reads_them(tmp_path, text, options):
    (tmp_path / "spark-defaults.conf").write_text(text)
    assert read_properties(tmp_path / "spark-defaults.conf") == options


def test_properties_that_are_not_there_are_none(tmp_path):
    assert read_properties(tmp_path / "spark-defaults.conf") == {}
