"""Under a real scheduler: a held batch, the person who is asked about it, and what that person sees."""

import re

import pytest
from deltalake import DeltaTable

from jobs.dev.airflow_api import ApiError
from jobs.pipeline.ledger import read_ledger

HOSTILE = '{"id": 100, "x": "<b>bold</b> [link](http://evil.example/a) http://evil.example/b `code` {{ 7 * 6 }}"}'


@pytest.fixture
def ledger(bundle):
    return lambda: read_ledger(str(bundle.folder / "data/state/ledger/held"))


def test_a_held_batch_waits_for_a_person_and_is_released_once(api, bundle, ledger, browse):
    bundle.write("data/in/held/one.json", f'{{"id": 1}}\n{HOSTILE}\n{{"id": 3}}\n')
    api.unpause("held")
    run = api.trigger("held")
    api.await_task("held", run, "held.decide", "awaiting_input")
    assert ([row["status"] for row in ledger()], bundle.rows("held")) == (["held"], [])
    api.await_task("held", run, "publish", "skipped")

    place = f"/dags/held/dagRuns/{run}/taskInstances/held.decide/-1/hitlDetails"
    assert api.get(place)["subject"] == "held: what becomes of held batch 0?"
    page = browse(f"/dags/held/runs/{run}/tasks/held.decide/required_actions", "held-batch")
    for word in (
        "what becomes of held batch 0?",
        "1 of 3 rows",
        "Leave held",
        "&lt;b&gt;bold&lt;/b&gt; [link]",
        "{{ 7 * 6 }}",
    ):
        assert word in page
    assert re.findall(r'(?:href|src)="[^"]*evil[^"]*"', page) == []

    with pytest.raises(ApiError, match="Invalid options"):
        api.patch(place, chosen_options=["Publish"])
    api.patch(place, chosen_options=["Release with quarantine"])
    with pytest.raises(ApiError, match="409"):
        api.patch(place, chosen_options=["Drop"])
    api.await_run("held", run, "success")
    assert (bundle.rows("held"), [row["status"] for row in ledger()]) == ([1, 3], ["held", "released", "done"])
    assert ledger()[1]["message"].startswith("released by admin through ")
    assert DeltaTable(str(bundle.folder / "data/lake/held_quarantine")).to_pyarrow_dataset().count_rows() == 1
    assert [event["extra"]["rows"] for event in api.events("held")] == [2]
    assert api.states("held", run)["held.ask_again"] == "skipped"
