import pytest

from jobs.pipeline.errors import ConfError, UnavailableError


def define(bench, module, body):
    """A pipeline with one transform, in a module of its own name: folders of other tests stay on the path."""
    bench.write(f"jobs/transforms/{module}.py", f"def clean(df):\n    {body}\n")
    bench.define_files("csv", rest=f"transforms:\n  - python: {module}.clean")


@pytest.mark.parametrize(
    ("module", "body", "says"),
    [
        ("forgetful", "df.dropna()", "TypeError: forgetful.clean returned None, where a DataFrame is needed"),
        ("unlocking", "return {}['size']", "KeyError: 'size'"),
        ("silent", "raise ValueError", "ValueError: "),
    ],
)
def test_a_python_transform_that_fails_or_returns_no_frame_is_named(bench, module, body, says):
    define(bench, module, body)
    with pytest.raises(ConfError) as caught:
        bench.run()
    [problem] = caught.value.problems
    assert (problem.path, problem.line, problem.message) == ("transforms[0]", 3, says)


def test_a_service_that_a_python_transform_does_not_reach_is_no_fault_of_conf(bench):
    define(bench, "reaching", "raise TimeoutError('TimeoutException: no answer')")
    with pytest.raises(UnavailableError):
        bench.run()
