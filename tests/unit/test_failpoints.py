import os
import signal
import subprocess
import sys

import pytest

from jobs.pipeline import failpoints
from jobs.pipeline.failpoints import FailPointError, Point, arm


def test_without_the_variable_a_point_does_nothing():
    assert failpoints.reach is failpoints._pass


def test_the_nth_call_with_the_name_acts_and_only_that_one():
    reach = arm("target.after:3:raise")
    for point in (Point.TARGET_AFTER, Point.TARGET_STAGED, Point.TARGET_AFTER):
        reach(point)
    with pytest.raises(FailPointError):
        reach(Point.TARGET_AFTER)
    reach(Point.TARGET_AFTER)


@pytest.mark.parametrize("specification", ["", "target.after", "a:b:raise", "a:1:explode", "a:1:raise:2"])
def test_a_specification_that_cannot_be_read_is_an_error(specification):
    with pytest.raises(ValueError, match=r".+"):
        arm(specification)


@pytest.mark.parametrize(("action", "ended"), [("kill9-python", -signal.SIGKILL), ("kill9-both", -signal.SIGKILL)])
def test_a_kill_leaves_a_line_that_proves_it(action, ended):
    script = "from jobs.pipeline.failpoints import reach; reach('here'); print('alive'); reach('here'); print('no')"
    environment = os.environ | {failpoints.VARIABLE: f"here:2:{action}"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == ended
    assert "no" not in done.stdout
    assert f"{failpoints.MARK}here:2:{action} (python " in done.stderr


def test_a_hang_lasts_until_it_is_killed():
    script = "from jobs.pipeline.failpoints import reach; reach('here')"
    environment = os.environ | {failpoints.VARIABLE: "here:1:hang"}
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stderr.readline().startswith(failpoints.MARK)
        assert run.poll() is None
        run.kill()
