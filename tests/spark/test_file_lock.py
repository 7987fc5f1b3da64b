"""Writers of one local table: this process and its JVM, and a second driver with a JVM of its own."""

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from jobs.pipeline import file_lock
from jobs.pipeline.delta import TransactionId
from jobs.pipeline.errors import UnavailableError
from jobs.pipeline.file_lock import hold_table_for_python, hold_table_for_spark
from jobs.pipeline.small_table import SmallTable
from jobs.pipeline.staged_append import stage_append

SCHEMA = pa.schema([("writer", pa.string()), ("number", pa.int64())])
RENAMES = {"82", "264", "316", "38", "276"}  # rename, renameat, renameat2 of x86-64; renameat, renameat2 of arm64
RACES = """
import io.delta.storage.HDFSLogStore;
import java.io.File;
import java.util.Collections;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;

public class Races {
  /** Returns when the other process has also come to this version. */
  public static void meet(String folder, int version, String me, String other) throws Exception {
    new File(folder, version + "." + me).createNewFile();
    File theirs = new File(folder, version + "." + other);
    while (!theirs.exists()) Thread.yield();
  }
  /** Commits a version with Delta's own log store; whether Delta says that it is ours. */
  public static boolean commit(String folder, int version, String me, Configuration conf) throws Exception {
    String name = String.format("%020d.json", new Object[] {Integer.valueOf(version)});
    try {
      Path file = new Path("file:" + folder + "/_delta_log/" + name);
      new HDFSLogStore(conf).write(file, Collections.singletonList(me).iterator(), Boolean.FALSE, conf);
      return true;
    } catch (java.nio.file.FileAlreadyExistsException e) {
      return false;
    }
  }
}
"""
SECOND_DRIVER = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_file_lock
from jobs.pipeline.session import start_session
spark = start_session("second", json.loads(sys.argv[1]))
print(spark._jvm.java.lang.ProcessHandle.current().pid(), flush=True)
for line in sys.stdin:
    name, *arguments = json.loads(line)
    print(json.dumps(getattr(test_file_lock, name)(spark, *arguments)), flush=True)
"""


def races(spark):
    jvm = spark._jvm
    compiler = jvm.org.codehaus.janino.SimpleCompiler()
    compiler.cook(RACES)
    return compiler.getClassLoader().loadClass("Races")


def call(spark, method, *arguments):
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    values = [*arguments, conf] if method != "meet" else arguments
    array = spark.sparkContext._gateway.new_array(spark._jvm.java.lang.Object, len(values))
    for position, value in enumerate(values):
        array[position] = value
    [found] = [one for one in COMPILED.setdefault(id(spark), races(spark)).getMethods() if one.getName() == method]
    return found.invoke(None, array)


COMPILED = {}


def race_without_lock(spark, folder, me, other, start, until):
    won = []
    for version in range(start, until):
        call(spark, "meet", folder, version, me, other)
        if other.isdigit():
            wait_until_a_rename_waits(int(other))
        if call(spark, "commit", folder, version, me):
            won.append(version)
    return won


def wait_until_a_rename_waits(jvm):
    while not any(is_in_a_rename(task) for task in Path(f"/proc/{jvm}/task").iterdir()):
        pass


def is_in_a_rename(task):
    """Whether the thread is stopped, or blocked, in the system call that its number names."""
    with contextlib.suppress(OSError):
        return (task / "syscall").read_text().split()[0] in RENAMES
    return False


def race_with_lock(spark, folder, me, other, start, until):
    won = []
    for version in range(start, until):
        call(spark, "meet", folder, version, me, other)
        with hold_table_for_spark(spark, folder):
            if call(spark, "commit", folder, version, me):
                won.append(version)
    return won


def append_by_turns(spark, folder, me, count):
    """Commits by Spark and by delta-rs in turn, as target and quarantine get them."""
    small = SmallTable(spark, folder, SCHEMA)
    small.create()
    for number in range(count):
        table = pa.Table.from_pylist([{"writer": me, "number": number}], schema=SCHEMA)
        if number % 2:
            stage_append(spark.createDataFrame(table), folder, TransactionId(me, number)).commit()
        else:
            small.append(table.to_pylist(), TransactionId(me, number))
    return count


class SecondDriver:
    def __init__(self, process, jvm):
        self.process, self.jvm = process, jvm

    def start(self, name, *arguments):
        self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self.process.stdin.flush()

    def result(self):
        return json.loads(self.process.stdout.readline())


@contextlib.contextmanager
def driver(spark, *prefix):
    options = {key: spark.conf.get(key) for key in ("spark.driver.extraJavaOptions", "spark.sql.shuffle.partitions")}
    options |= {"spark.master": "local[1]", "spark.databricks.delta.snapshotPartitions": "1"}
    command = [*prefix, sys.executable, "-c", SECOND_DRIVER, json.dumps(options)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield SecondDriver(process, process.stdout.readline().strip())
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def second(spark):
    with driver(spark) as started:
        yield started


@pytest.fixture(scope="module")
def slow(spark):
    """Each rename of this driver waits for five seconds: what Delta saw before it may not hold any more."""
    delay = ["-e", "trace=rename", "-e", "inject=rename:delay_enter=5000000"]
    with driver(spark, "strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", *delay) as started:
        yield started


def lost_versions(spark, second, folder, race, count):
    """Versions of which a writer was told that they are its own, and that hold another's commit."""
    (folder / "_delta_log").mkdir(parents=True)
    second.start(race.__name__, str(folder), second.jvm, "here", 0, count)
    told = {"here": race(spark, str(folder), "here", second.jvm, 0, count), second.jvm: second.result()}
    winners = {version: [who for who in told if version in told[who]] for version in range(count)}
    assert all(winners.values())
    return [version for version in winners if winners[version] != [held_by(folder, version)]]


def held_by(folder, version):
    return (folder / "_delta_log" / f"{version:020}.json").read_text().strip()


@pytest.mark.fault("T9")
def test_without_the_lock_a_commit_is_lost_though_its_writer_was_told_that_it_stands(spark, slow, tmp_path):
    """The baseline: were it to pass, the lock would be for nothing."""
    assert lost_versions(spark, slow, tmp_path / "unguarded", race_without_lock, 1) == [0]


@pytest.mark.fault("T9")
def test_under_the_lock_it_stands_though_a_rename_is_slow(spark, slow, tmp_path):
    assert lost_versions(spark, slow, tmp_path / "locked", race_with_lock, 1) == []


@pytest.mark.fault("T9")
def test_two_drivers_that_race_for_versions_never_lose_one_under_the_lock(spark, second, tmp_path):
    assert lost_versions(spark, second, tmp_path / "locked", race_with_lock, 100) == []


@pytest.mark.fault("T9")
def test_two_drivers_append_to_one_table_and_nothing_is_lost(spark, second, tmp_path):
    second.start("append_by_turns", str(tmp_path / "t"), "b", 6)
    append_by_turns(spark, str(tmp_path / "t"), "a", 6)
    assert second.result() == 6
    table = DeltaTable(str(tmp_path / "t"))
    assert table.version() == 12
    found = sorted((row["writer"], row["number"]) for row in table.to_pyarrow_table().to_pylist())
    assert found == [(writer, number) for writer in "ab" for number in range(6)]


@pytest.mark.parametrize("inner", ["spark", "python"])
def test_a_table_has_one_writer_among_the_threads_too(spark, tmp_path, monkeypatch, inner):
    monkeypatch.setattr(file_lock, "TABLE_WAIT_SECONDS", 0.1)
    (tmp_path / "_delta_log").mkdir()
    folder = str(tmp_path)
    hold = {"spark": lambda: hold_table_for_spark(spark, folder), "python": lambda: hold_table_for_python(folder)}
    refused = []

    def try_to_hold():
        try:
            with hold[inner]():
                pass
        except UnavailableError as error:
            refused.append(error)

    with contextlib.ExitStack() as stack:
        stack.enter_context(hold_table_for_spark(spark, folder))
        thread = threading.Thread(target=try_to_hold)
        thread.start()
        thread.join()
    assert len(refused) == 1
    with hold[inner]():
        pass
