import pytest

from jobs.pipeline.errors import EsclusaError
from jobs.pipeline.plan import judge_sample


def test_a_row_of_the_sample_that_cannot_be_computed_is_malformed_as_in_a_run(bench):
    transform = "transforms: [{sql: 'SELECT *, CAST(name AS INT) AS number FROM input'}]"
    pipeline = bench.define_files("json", rest=transform)
    bench.write("landing/a.json", '{"id": 1, "name": "1"}\n{"id": 2, "name": "n/a"}\n')
    title, count, example, reason = judge_sample(bench.spark, pipeline, 10).splitlines()
    assert title.startswith("== sample of 2 rows: 1 pass, 1 would be quarantined")
    assert (count, example) == ("malformed: 1 rows", 'e.g. {"id": 2, "name": "n/a"}')
    assert reason.strip().startswith("transforms[0] failed: [CAST_INVALID_INPUT]")


def test_a_file_of_the_sample_that_cannot_be_read_is_told_as_one_that_a_run_sets_apart(bench):
    pipeline = bench.define_files("json")
    bench.write("landing/a.json.gz", b"no gzip\n")
    with pytest.raises(EsclusaError, match="A run sets such a file apart") as caught:
        judge_sample(bench.spark, pipeline, 10)
    assert "a.json.gz" in str(caught.value)
