"""A run of a thousand batches: what it holds must not grow with their number."""

import statistics
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.pipeline.runner import PipelineRun

BATCHES = 1000
ROWS = 5
LOOKS = (BATCHES // 2, BATCHES - 1)
"""Batches at which is looked: the first is behind the warm-up, and behind the hundred batches that Spark keeps."""
FEW = 5
"""Threads and files that come and go."""
NOISE_BYTES = 24 * 2**20
SLOWER = 1.5
"""A table of a thousand files takes Delta somewhat longer to read than one of five hundred."""


@dataclass(frozen=True)
class Holdings:
    """What the processes of a run hold, and what lies in its state."""

    heap: int
    """Bytes that the JVM's collector leaves."""
    resident: int
    """Bytes of Python."""
    handles: tuple[int, ...]
    """Threads of Python and of the JVM, open files of Python and of the JVM."""
    pinned: int
    """Files of the checkpoint, without the source's log: it names each file that was read."""


def look(spark, checkpoint):
    jvm = spark._jvm.java.lang
    jvm.System.gc()
    runtime = jvm.Runtime.getRuntime()
    processes = [Path("/proc/self"), Path("/proc") / str(jvm.ProcessHandle.current().pid())]
    threads = [threading.active_count(), jvm.management.ManagementFactory.getThreadMXBean().getThreadCount()]
    return Holdings(
        heap=runtime.totalMemory() - runtime.freeMemory(),
        resident=int((processes[0] / "statm").read_text().split()[1]) * 4096,
        handles=(*threads, *(len(list((process / "fd").iterdir())) for process in processes)),
        pinned=sum(file.is_file() for file in checkpoint.rglob("*") if "sources" not in file.parts),
    )


@pytest.mark.slow
@pytest.mark.fault("I10")
def test_what_a_run_holds_does_not_grow_with_its_batches(bench, expect):
    bench.suite(expect("column_values_to_be_between", "id", max_value=ROWS * BATCHES - 2, name="small"))
    bench.define_files("csv", "{header: true, maxFilesPerTrigger: 1}")
    for batch in range(BATCHES):
        ids = range(batch * ROWS, (batch + 1) * ROWS)
        bench.write(f"landing/{batch:04}.csv", "id,name\n" + "".join(f"{number},a\n" for number in ids))
    seen, took = [], []

    def report(record):
        took.append(record.duration_ms["total"])
        if record.batch_id in LOOKS:
            seen.append(look(bench.spark, bench.folder / "state/checkpoints/p"))

    run = PipelineRun(bench.spark, bench.load(), report)
    run.start()
    run.wait()

    assert len(took) == BATCHES
    assert sorted(row["id"] for row in bench.target()) == list(range(ROWS * BATCHES - 1))
    assert len(bench.quarantine()) == 1
    first, last = seen
    assert last.heap - first.heap < NOISE_BYTES, (first, last)
    assert last.resident - first.resident < NOISE_BYTES, (first, last)
    for earlier, later in zip(first.handles, last.handles, strict=True):
        assert later <= earlier + FEW, (first, last)
    assert last.pinned <= first.pinned + FEW, (first, last)
    late, middle = took[-100:], took[LOOKS[0] - 100 : LOOKS[0]]
    assert statistics.median(late) <= SLOWER * statistics.median(middle)
