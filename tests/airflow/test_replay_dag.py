"""A replay through Airflow: what a person is asked, and that nothing reaches the target without their word."""

import json

import pytest

DAG = "esclusa-replay"


def suite(most):
    """Ids up to a number are sound."""
    kwargs = {"column": "id", "max_value": most}
    small = {"type": "expect_column_values_to_be_between", "kwargs": kwargs, "meta": {"esclusa": {"name": "small"}}}
    return json.dumps({"name": "apart", "expectations": [small]})


def answer(api, run, option):
    path = f"/dags/{DAG}/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"
    api.patch(path, chosen_options=[option], params_input={})


@pytest.mark.slow
def test_a_replay_asks_and_writes_only_what_a_person_has_approved(api, bundle):
    bundle.write("conf/suites/apart.json", suite(8))
    bundle.land("apart", 1, 9, 99)
    api.unpause("apart")
    api.await_run("apart", api.trigger("apart"), "success")
    bundle.write("conf/suites/apart.json", suite(10))
    api.unpause(DAG)
    for option, rows in (("Reject", [1]), ("Approve", [1, 9])):
        run = api.trigger(DAG, pipeline="apart", check="small")
        api.await_task(DAG, run, "approve", "awaiting_input")
        assert bundle.rows("apart") == [1]
        question = api.get(f"/dags/{DAG}/dagRuns/{run}/taskInstances/approve/-1/hitlDetails")
        assert "Of 2 rows in the quarantine of `apart`" in question["body"]
        assert "write 1 to the target, drop 0, and leave 1 where they are" in " ".join(question["body"].split())
        answer(api, run, option)
        api.await_run(DAG, run, "success")
        assert bundle.rows("apart") == rows
