import pytest

from jobs.pipeline.spark_properties import PACKAGES, further_packages, read_properties


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
    ("named", "further"),
    [
        ("", ""),
        (",".join(PACKAGES), ""),
        (f"com.acme:one:1.0,{PACKAGES[0]}, com.acme:two:2.0 ,{PACKAGES[1]},", "com.acme:one:1.0,com.acme:two:2.0"),
        (f"{PACKAGES[0]}.1,org.apache.spark:spark-avro_2.13:4.2.0", "org.apache.spark:spark-avro_2.13:4.2.0"),
    ],
)
def test_further_packages_are_those_that_esclusa_does_not_bring(named, further):
    assert further_packages({"spark.jars.packages": named}) == further


def test_without_packages_there_are_no_further_ones():
    assert further_packages({}) == ""
