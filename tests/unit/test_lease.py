import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline import lease
from jobs.pipeline.errors import AlreadyRunningError, LeaseLostError
from jobs.pipeline.lease import EXPIRY_SECONDS, RENEWAL_SECONDS, take_on_store


class Clock:
    """Time that passes only in sleep, and on request; stands in for the module `time`."""

    CLOCK_BOOTTIME = 7

    def __init__(self):
        self.now = 1_000_000.0
        self.at = {}

    def time(self):
        return self.now

    def clock_gettime(self, which):
        assert which == self.CLOCK_BOOTTIME
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for due in [due for due in self.at if due <= self.now]:
            self.at.pop(due)()


class Folder:
    """Lease files in memory, created as exclusively as on a store that is `atomic`."""

    def __init__(self, atomic=True):
        self.files = {}
        self.atomic = atomic
        self.before_create = lambda: None

    def epochs(self):
        return list(self.files)

    def read(self, epoch):
        return self.files.get(epoch)

    def create(self, holder):
        self.before_create()
        if not (self.atomic and holder.epoch in self.files):
            self.files[holder.epoch] = holder

    def replace(self, holder):
        self.files[holder.epoch] = holder

    def remove(self, epoch):
        self.files.pop(epoch, None)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    return clock


def is_held(held):
    try:
        held.check()
    except LeaseLostError:
        return False
    return True


def test_released_lease_is_taken_at_once_with_the_next_epoch(clock):
    folder = Folder()
    first = take_on_store("p", folder)
    first.release()
    began = clock.now
    second = take_on_store("p", folder)
    assert (first.holder.epoch, second.holder.epoch, clock.now) == (1, 2, began)
    assert folder.epochs() == [2]
    assert not is_held(first)
    assert is_held(second)


def test_live_holder_is_noticed_by_its_renewal(clock):
    folder = Folder()
    first = take_on_store("p", folder)
    clock.at[clock.now + RENEWAL_SECONDS] = first.renew
    with pytest.raises(AlreadyRunningError, match=f"process {first.holder.pid} on .*, epoch 1.*nothing done"):
        take_on_store("p", folder)
    assert clock.now <= first.renewed + 1
    assert is_held(first)


def test_dead_holder_is_followed_when_it_has_expired_and_not_before(clock):
    folder = Folder()
    first = take_on_store("p", folder)
    clock.sleep(20)
    second = take_on_store("p", folder)
    assert EXPIRY_SECONDS <= clock.now - first.renewed < EXPIRY_SECONDS + 1
    assert (is_held(first), is_held(second)) == (False, True)


def test_holder_long_dead_is_followed_at_once(clock):
    folder = Folder()
    take_on_store("p", folder)
    clock.sleep(3600)
    began = clock.now
    assert is_held(take_on_store("p", folder))
    assert clock.now == began


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_clocks_of_other_machines_make_no_second_writer(clock, skew):
    folder = Folder()
    first = take_on_store("p", folder)
    folder.replace(replace(first.holder, renewed_at=clock.now + skew))
    second = take_on_store("p", folder)
    assert (is_held(first), is_held(second)) == (False, True)


def test_holder_that_slept_past_its_expiry_has_lost_though_nobody_followed(clock):
    folder = Folder()
    first = take_on_store("p", folder)
    clock.sleep(EXPIRY_SECONDS + 1)
    before = dict(folder.files)
    with pytest.raises(LeaseLostError, match="not renewed for 61 seconds"):
        first.check()
    with pytest.raises(LeaseLostError):
        first.renew()
    assert folder.files == before


def test_holder_that_resumes_within_its_renewal_does_not_renew_what_another_has(clock):
    folder = Folder()
    first = take_on_store("p", folder)
    write = folder.replace

    def pause(holder):
        folder.replace = write
        clock.sleep(EXPIRY_SECONDS + 1)
        assert is_held(take_on_store("p", folder))
        write(holder)

    folder.replace = pause
    first.renew()
    assert not is_held(first)


def test_renewal_keeps_a_lease_for_ever(clock):
    folder = Folder()
    first = take_on_store("p", folder)
    for _ in range(100):
        clock.sleep(EXPIRY_SECONDS - 1)
        first.renew()
    first.check()


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("atomic", [True, False])
def test_of_two_that_find_it_free_at_once_one_holds_it(atomic):
    folder = Folder(atomic)
    rivals = []

    def overtake():
        folder.before_create = lambda: None
        rivals.append(take_on_store("p", folder))

    folder.before_create = overtake
    with contextlib.suppress(AlreadyRunningError):
        rivals.append(take_on_store("p", folder))
    for rival in rivals:
        with contextlib.suppress(LeaseLostError):
            rival.renew()
    held = [rival for rival in rivals if is_held(rival) and folder.read(rival.holder.epoch).id == rival.holder.id]
    assert len(held) == 1


@pytest.mark.usefixtures("clock")
def test_late_create_of_an_epoch_that_is_over_gives_no_lease():
    folder = Folder()
    take_on_store("p", folder).release()

    def overtake():
        folder.before_create = lambda: None
        for _ in range(2):
            take_on_store("p", folder).release()

    folder.before_create = overtake
    with pytest.raises(AlreadyRunningError):
        take_on_store("p", folder)


def test_file_that_is_still_being_written_counts_as_a_fresh_one(clock):
    folder = Folder()
    folder.files[4] = None
    began = clock.now
    assert take_on_store("p", folder).holder.epoch == 5
    assert clock.now - began >= EXPIRY_SECONDS


@pytest.mark.usefixtures("clock")
def test_deleted_folder_is_a_lost_lease():
    folder = Folder()
    first = take_on_store("p", folder)
    folder.files.clear()
    assert not is_held(first)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["take", "renew", "release", "pass", "remove"]), st.integers(0, 3), st.floats(0, 90)),
    max_size=40,
)


@given(EVENTS)
def test_never_are_there_two_effective_holders(events):
    clock, folder, leases = Clock(), Folder(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "time", clock)
        for event, which, seconds in events:
            with contextlib.suppress(AlreadyRunningError):
                if event == "take":
                    leases.append(take_on_store("p", folder))
                elif event == "pass":
                    clock.sleep(seconds)
                elif leases and event in {"renew", "release"}:
                    getattr(leases[-1 - which % len(leases)], event)()
            assert sum(is_held(one) for one in leases) <= 1


def test_text_that_is_no_holder_is_none():
    held = lease._new_holder(3)
    assert lease._parse(lease._as_text(held)) == held
    assert [lease._parse(text) for text in ("", "{", "[]", "{}", json.dumps({"id": "x"}))] == [None] * 5
