import contextlib
import json
import os
import platform
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from py4j.protocol import Py4JJavaError

from jobs.pipeline import lease
from jobs.pipeline.errors import AlreadyRunningError, LeaseLostError
from jobs.pipeline.lease import EXPIRY_SECONDS, JVM_WAIT_SECONDS, RENEWAL_SECONDS, take_on_store


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


def words(error):
    """An error's text, told from any other of its class by each word."""
    return str(error.value)


@pytest.mark.usefixtures("clock")
def test_a_lost_lease_says_whose_it_was_and_what_became_of_it():
    folder = Folder()
    first = take_on_store("p", folder)
    folder.files[2] = replace(first.holder, epoch=2)
    with pytest.raises(LeaseLostError) as caught:
        first.check()
    assert words(caught) == "lost the lease of pipeline p: epoch 1 was followed by 2; nothing was committed since"
    folder.files.clear()
    with pytest.raises(LeaseLostError) as caught:
        first.check()
    assert words(caught).startswith("lost the lease of pipeline p: epoch 1 was followed by a deleted lease;")


def test_a_lease_lasts_to_the_end_of_its_last_second(clock):
    first = take_on_store("p", Folder())
    clock.sleep(EXPIRY_SECONDS)
    first.check()
    clock.sleep(0.001)
    with pytest.raises(LeaseLostError) as caught:
        first.check()
    assert words(caught) == (
        "lost the lease of pipeline p: it was not renewed for 60 seconds: the driver was paused, or its store away; "
        "nothing was committed since"
    )


@pytest.mark.usefixtures("clock")
def test_a_lease_whose_file_is_anothers_is_not_renewed():
    folder = Folder()
    first = take_on_store("p", folder)
    other = folder.files[1] = replace(first.holder, id="x", pid=99, host="h")
    with pytest.raises(LeaseLostError) as caught:
        first.renew()
    assert words(caught).startswith("lost the lease of pipeline p: its file now names process 99 on h, epoch 1;")
    assert folder.files == {1: other}


@pytest.mark.usefixtures("clock")
def test_a_lease_whose_file_is_being_written_is_renewed():
    folder = Folder()
    first = take_on_store("p", folder)
    folder.files[1] = None
    first.renew()
    assert folder.files[1].id == first.holder.id


def test_a_renewal_is_written_with_its_time(clock):
    folder = Folder()
    first = take_on_store("p", folder)
    clock.sleep(5)
    first.renew()
    assert (folder.files[1].renewed_at, first.renewed) == (clock.now, clock.now)


def test_a_dead_holder_is_waited_for_to_the_second(clock):
    folder = Folder()
    take_on_store("p", folder)
    began = clock.now
    take_on_store("p", folder)
    assert clock.now - began == EXPIRY_SECONDS


def test_a_live_holder_is_named_with_its_pipeline(clock):
    folder = Folder()
    first = take_on_store("p", folder)
    clock.at[clock.now + 1] = first.renew
    with pytest.raises(AlreadyRunningError) as caught:
        take_on_store("p", folder)
    assert words(caught) == f"pipeline p is held by another run ({first.holder}); nothing done"


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("left", ["nobody", "another"])
def test_an_epoch_that_another_run_got_is_not_held(left):
    folder = Folder()
    rival = replace(lease._new_holder(1), pid=99, host="h")
    folder.create = lambda _: folder.files.update({1: rival} if left == "another" else {})
    with pytest.raises(AlreadyRunningError) as caught:
        take_on_store("p", folder)
    who = "process 99 on h, epoch 1" if left == "another" else "unknown"
    assert words(caught) == f"pipeline p is held by another run ({who}); nothing done"


def test_a_holder_names_this_process_and_this_host(clock):
    held, next_one = lease._new_holder(3), lease._new_holder(3)
    assert str(held) == f"process {os.getpid()} on {platform.node()}, epoch 3"
    assert (held.epoch, held.renewed_at, held.is_released) == (3, clock.now, False)
    assert held.id != next_one.id


class Countdown:
    """An event that is set after so many waits."""

    def __init__(self, waits):
        self.left, self.waited = waits, []

    def wait(self, seconds):
        self.waited.append(seconds)
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(("error", "renewals"), [(None, 3), (OSError, 3), (LeaseLostError, 1)])
def test_a_lease_is_renewed_until_it_is_given_up_or_lost(error, renewals):
    calls, stop = [], Countdown(3)

    class Held:
        def renew(self):
            calls.append(len(calls))
            if error:
                raise error

    lease._keep_renewed(Held(), stop)
    assert len(calls) == renewals
    assert set(stop.waited) == {RENEWAL_SECONDS}


def test_a_lease_on_a_store_is_renewed_while_it_is_held_and_released_behind_it(monkeypatch):
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.001)
    folder = Folder()
    with lease.hold_on_store("p", folder) as held:
        [thread] = [one for one in threading.enumerate() if one.name == "lease of p"]
        first = folder.files[1]
        while folder.files[1] == first:
            assert thread.is_alive()
        assert thread.daemon
        held.check()
    assert not thread.is_alive()
    assert folder.files[1].is_released
    with lease.hold_on_store("p", folder) as held:
        assert held.holder.epoch == 2


def test_the_failure_of_a_run_is_the_one_that_is_reported():
    def lose_it_and_fail(folder):
        with lease.hold_on_store("p", folder):
            folder.files.clear()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lose_it_and_fail(Folder())


@pytest.fixture
def jvm(monkeypatch):
    """In place of the JVM's lock; holds what it was asked for."""
    asked = []

    @contextlib.contextmanager
    def hold_in_jvm(*arguments):
        asked.append(arguments)
        yield

    monkeypatch.setattr(lease, "hold_in_jvm", hold_in_jvm)
    return asked


def test_a_local_lease_is_held_by_one_and_free_behind_it(tmp_path, jvm):
    folder = tmp_path / "deep" / "leases"
    with lease.hold_lease("spark", "p", str(folder)) as first:
        assert json.loads((folder / "holder").read_text())["id"] == first.holder.id
        first.check()
        with pytest.raises(AlreadyRunningError) as caught, lease.hold_lease("spark", "p", str(folder)):
            pass
        assert words(caught) == f"pipeline p is held by another run ({first.holder}); nothing done"
    with lease.hold_lease("spark", "p", f"file:{folder}") as second:
        assert (first.holder.epoch, second.holder.epoch) == (1, 2)
        assert (second.name, second.file) == ("p", folder / "holder")
        with pytest.raises(LeaseLostError) as caught:
            first.check()
        assert words(caught) == (
            f"lost the lease of pipeline p: {folder}/holder now names {second.holder}; nothing was committed since"
        )
    assert len(jvm) == 2


def test_a_local_lease_waits_for_a_jvm_whose_python_is_gone(tmp_path, jvm):
    with lease.hold_lease("spark", "p", str(tmp_path)) as first:
        pass
    with lease.hold_lease("spark", "p", str(tmp_path)):
        pass
    [*_, (spark, file, seconds, error)] = jvm
    assert (spark, file, seconds) == ("spark", str(tmp_path / "jvm"), JVM_WAIT_SECONDS)
    assert isinstance(error, AlreadyRunningError)
    assert str(error) == (
        f"pipeline p is held by another run ({first.holder}); its Python is gone, but its JVM still runs after a "
        "minute; nothing done"
    )


@pytest.mark.usefixtures("jvm")
@pytest.mark.parametrize("left", ["", "half a hold", None])
def test_a_local_lease_whose_file_is_emptied_or_deleted_is_lost(tmp_path, left):
    with lease.hold_lease("spark", "p", str(tmp_path)) as held:
        (tmp_path / "holder").unlink() if left is None else (tmp_path / "holder").write_text(left)
        with pytest.raises(LeaseLostError, match="holder now names nobody;"):
            held.check()


@pytest.fixture
def store(monkeypatch):
    """Files by path, in place of a store that Spark reaches; one that is there is not created again."""
    files = {}

    def create(path, text):
        if path in files:
            raise Py4JJavaError("there is one", None)
        files[path] = text

    def list_names(path):
        return [name.removeprefix(f"{path}/") for name in files]

    actions = {
        "list_names": list_names,
        "exists": files.__contains__,
        "read_text": files.__getitem__,
        "create_text": create,
        "write_text": files.__setitem__,
        "delete_file": files.pop,
    }
    monkeypatch.setattr(Py4JJavaError, "__init__", lambda self, *_: None)
    for name, action in actions.items():
        monkeypatch.setattr(lease, name, only_with_spark(action))
    return files


def only_with_spark(action):
    def checked(spark, *arguments):
        assert spark == "spark"
        return action(*arguments)

    return checked


def test_lease_files_have_their_epoch_in_their_name(store):
    folder, holder = lease.HadoopFolder("spark", "s3a://b/l"), lease._new_holder(3)
    assert (folder.epochs(), folder.read(3)) == ([], None)
    folder.create(holder)
    store["s3a://b/l/other"] = ""
    assert (folder.epochs(), folder.read(3)) == ([3], holder)
    folder.create(replace(holder, id="late"))
    assert folder.read(3) == holder
    released = replace(holder, is_released=True)
    folder.replace(released)
    assert folder.read(3) == released
    folder.remove(3)
    assert folder.epochs() == []


def test_a_lease_elsewhere_is_kept_on_the_store(store):
    with lease.hold_lease("spark", "p", "s3a://b/l") as held:
        assert list(store) == ["s3a://b/l/lease.1"]
        assert held.name == "p"
    assert json.loads(store["s3a://b/l/lease.1"])["is_released"]


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
