import os

import pytest

from jobs.pipeline.errors import LeaseLostError, TableRecreatedError
from jobs.pipeline.table_watch import watch_tables


class Held:
    """A lease that may be lost."""

    is_lost = False

    def check(self):
        if self.is_lost:
            raise LeaseLostError


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "t" / "_delta_log"
    folder.mkdir(parents=True)
    return folder


def test_a_table_that_stays_is_no_finding_and_the_lease_is_asked_too(log):
    held = Held()
    with watch_tables(held, [str(log.parent), f"file:{log.parent}", "s3a://b/elsewhere"]) as watch:
        watch.check()
        (log / "1.json").touch()
        watch.check()
        held.is_lost = True
        with pytest.raises(LeaseLostError):
            watch.check()


@pytest.mark.fault("T7")
@pytest.mark.parametrize("is_new", [True, False])
def test_another_log_at_its_place_or_none_is_noticed(log, is_new):
    with watch_tables(Held(), [str(log.parent)]) as watch:
        log.rmdir()
        if is_new:
            log.mkdir()
        with pytest.raises(TableRecreatedError, match=f"the table {log.parent} was deleted"):
            watch.check()


def test_nothing_stays_open_behind_it(log):
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - links to what has no path
    with watch_tables(Held(), [str(log.parent)]):
        pass
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
