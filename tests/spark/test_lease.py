import fcntl
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobs.pipeline import lease
from jobs.pipeline.errors import AlreadyRunningError, LeaseLostError
from jobs.pipeline.lease import HadoopFolder, hold_lease, take_on_store
from jobs.pipeline.runner import PipelineRun


def can_lock(kind, file):
    """Whether another process gets the lock: flock, or POSIX lockf as the JVM's."""
    script = f"import fcntl, sys; fcntl.{kind}(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    return subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, check=False).returncode == 0


@pytest.fixture
def store(spark, tmp_path):
    """A directory behind a scheme of its own: for Esclusa it is a store that only Spark reaches."""
    name = f"t{abs(hash(tmp_path))}"
    (tmp_path / "store").mkdir()
    spark.conf.set(f"fs.viewfs.mounttable.{name}.link./state", f"file://{tmp_path}/store")
    return f"viewfs://{name}/state"


def test_python_and_jvm_each_hold_a_local_lease(spark, tmp_path):
    with hold_lease(spark, "p", str(tmp_path)) as held:
        held.check()
        assert not can_lock("flock", tmp_path / "holder")
        assert not can_lock("lockf", tmp_path / "jvm")
        with pytest.raises(AlreadyRunningError, match="process .* epoch 1.*nothing done"), ExitStack() as stack:
            stack.enter_context(hold_lease(spark, "p", str(tmp_path)))
    assert can_lock("flock", tmp_path / "holder")
    assert can_lock("lockf", tmp_path / "jvm")
    with hold_lease(spark, "p", str(tmp_path)) as held:
        assert held.holder.epoch == 2


def test_jvm_that_outlived_its_python_keeps_the_lease(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "JVM_WAIT_SECONDS", 0.1)
    with (tmp_path / "jvm").open("w") as zombie:
        fcntl.lockf(zombie, fcntl.LOCK_EX)  # this Python process stands for the other JVM
        with pytest.raises(AlreadyRunningError, match="its JVM still runs"), ExitStack() as stack:
            stack.enter_context(hold_lease(spark, "p", str(tmp_path)))
    with hold_lease(spark, "p", str(tmp_path)) as held:
        held.check()


def test_deleted_lease_that_another_run_took_is_lost(spark, tmp_path):
    with hold_lease(spark, "p", str(tmp_path / "p")) as first:
        shutil.rmtree(tmp_path / "p")
        with pytest.raises(LeaseLostError, match="names nobody"):
            first.check()


def test_lease_on_a_store_is_held_by_one(spark, store, monkeypatch):
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.1)
    with hold_lease(spark, "p", store) as held:
        held.check()
        with pytest.raises(AlreadyRunningError, match="epoch 1"):
            take_on_store("p", HadoopFolder(spark, store))
        held.check()
    second = take_on_store("p", HadoopFolder(spark, store))
    assert second.holder.epoch == 2
    with pytest.raises(LeaseLostError, match="epoch 1 was followed by 2"):
        held.check()


def test_lease_files_on_a_store(spark, store):
    folder = HadoopFolder(spark, f"{store}/leases/p")
    assert folder.epochs() == []
    first, rival = lease._new_holder(7), lease._new_holder(7)
    folder.create(first)
    folder.create(rival)
    assert (folder.epochs(), folder.read(7), folder.read(8)) == ([7], first, None)
    folder.replace(rival)
    assert folder.read(7) == rival
    folder.remove(7)
    folder.remove(7)
    assert folder.epochs() == []


def test_run_that_lost_its_lease_commits_no_further_batch(bench):
    bench.define_files("csv", "{header: true, maxFilesPerTrigger: 1}")
    bench.write("landing/a.csv", "id,name\n1,a\n")
    bench.write("landing/b.csv", "id,name\n2,b\n")
    pipeline = bench.load()

    def lose(record):
        bench.batches.append(record)
        shutil.rmtree(pipeline.lease_path)

    run = PipelineRun(bench.spark, pipeline, lose)
    run.start()
    with pytest.raises(LeaseLostError) as caught:
        run.wait()
    assert (caught.value.code, caught.value.exit_code) == ("LEASE_LOST", 5)
    assert (len(bench.batches), len(bench.target()), len(bench.ledger())) == (1, 1, 1)
    [batch] = bench.run()
    assert batch.batch_id == 1
    assert len(bench.target()) == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lease of")]
    assert Path(pipeline.lease_path, "holder").exists()
