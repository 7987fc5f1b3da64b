"""What a person sees: pages of the user interface in a real browser, kept as pictures in build/screenshots."""

import html
import re


def text_of(page):
    """What is to be read on a page."""
    return html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)))


def test_the_page_of_a_dag_shows_its_tasks_and_their_states(api, bundle, browse):
    bundle.land("shown", 90)
    api.unpause("shown")
    run = api.trigger("shown")
    api.await_run("shown", run, "success")
    text = text_of(browse(f"/dags/shown/runs/{run}", "dag-run"))
    assert api.states("shown", run)["run"] == "success"
    states = [state.capitalize() for state in api.states("shown", run).values()]
    for word in (run, "2 Task Instances", "RunPipelineOperator", "PublishOperator", *states):
        assert word in text, text
