"""What a run says must neither stop it nor decide how it ends."""

import subprocess
import sys

SPEAKER = """
import sys
from jobs.pipeline.progress import JsonProgress
assert sys.stdin.readline() == "nobody listens\\n"
for number in range(3):
    JsonProgress()._write({"event": "batch", "batch_id": number})
"""


def test_a_run_goes_on_and_ends_well_when_nobody_listens_any_more():
    run = subprocess.Popen(
        [sys.executable, "-c", SPEAKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    run.stdout.close()
    run.stdin.write("nobody listens\n")
    run.stdin.close()
    said = run.stderr.read()
    assert (run.wait(), said.count("the run goes on without")) == (0, 1), said
