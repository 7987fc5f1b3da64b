"""Faults of files (R12 to R18 of the fault catalogue): each landed file is read, set apart whole, or listed as skipped."""

import bz2
import gzip
import os
from collections import Counter
from hashlib import sha256

import pytest

from jobs.pipeline import runner
from jobs.pipeline.errors import EsclusaError, FileChangedError, StateMismatchError, UnavailableError
from jobs.pipeline.failpoints import Point, arm
from jobs.pipeline.runner import PipelineRun

CSV = "{header: true}"
ZSTD_WITHOUT_A_FRAME = b"1,a\n2,b\n"


def lines(first, count=200):
    return "".join(f"{number},name {number}\n" for number in range(first, first + count)).encode()


def wrong_checksum(content):
    data = bytearray(gzip.compress(content))
    data[-8] ^= 0xFF
    return bytes(data)


def noise(count):
    return b"".join(b"%d,%s\n" % (number, sha256(b"%d" % number).hexdigest().encode()) for number in range(count))


def reasons(bench):
    return {row["source"]["path"].rpartition("/")[2]: row["_errors"][0]["message"] for row in bench.quarantine()}


def replay_last_batch(bench):
    commits = bench.folder / "state/checkpoints/p/commits"
    last = max((file for file in commits.iterdir() if file.name.isdigit()), key=lambda file: int(file.name))
    last.unlink()
    (commits / f".{last.name}.crc").unlink(missing_ok=True)


def land_corrupt(bench):
    bench.write("landing/good.csv", lines(0))
    bench.write("landing/good.csv.gz", gzip.compress(lines(200)))
    bench.write("landing/good.csv.bz2", bz2.compress(lines(400)))
    bench.write("landing/truncated.csv.gz", gzip.compress(noise(5000))[:-4000])
    bench.write("landing/checksum.csv.gz", wrong_checksum(lines(0)))
    bench.write("landing/magic.csv.gz", lines(0))
    bench.write("landing/tail.csv.gz", gzip.compress(lines(0)) + b"tail")
    bench.write("landing/magic.csv.zst", ZSTD_WITHOUT_A_FRAME)


@pytest.mark.fault("R13")
def test_corrupt_files_are_set_apart_whole_and_the_others_are_read(bench):
    bench.define_files("csv")
    land_corrupt(bench)
    [batch] = bench.run()
    assert sorted(row["id"] for row in bench.target()) == list(range(600))
    found = reasons(bench)
    assert set(found) == {"truncated.csv.gz", "checksum.csv.gz", "magic.csv.gz", "tail.csv.gz", "magic.csv.zst"}
    assert found["checksum.csv.gz"] == "the file cannot be read: gzip stream CRC failure"
    assert all(message.startswith("the file cannot be read: ") for message in found.values())
    assert all(row["raw"] is None and row["source"]["modified_at"] for row in bench.quarantine())
    assert (batch.verdict.rows_read, batch.rows_written, batch.verdict.malformed.count) == (605, 600, 5)


def test_batch_of_nothing_but_corrupt_files_goes_through(bench):
    bench.define_files("csv")
    bench.write("landing/a.csv.gz", b"no gzip\n")
    [batch] = bench.run()
    assert (batch.rows_written, batch.verdict.rows_quarantined) == (0, 1)


@pytest.mark.fault("R13")
def test_replay_sets_the_same_file_apart(bench):
    bench.define_files("csv")
    bench.write("landing/a.csv.gz", b"no gzip\n")
    bench.write("landing/b.csv", "1,a\n")
    bench.run()
    replay_last_batch(bench)
    for folder in ("state/ledger/p", "lake/p_quarantine"):
        (bench.folder / folder).rename(bench.folder / f"{folder}_lost")
    [batch] = bench.run()
    assert (len(bench.target()), len(bench.quarantine()), batch.verdict.rows_read) == (1, 1, 2)


def test_corrupt_file_stops_the_run_where_the_source_deletes_what_was_read(bench):
    bench.define_files("csv", "{cleanSource: delete}")
    bench.write("landing/a.csv.gz", b"no gzip\n")
    with pytest.raises(StateMismatchError, match="cleanSource"):
        bench.run()
    assert bench.ledger() == []


@pytest.mark.fault("R13", "P16")
def test_parquet_files_with_another_type_or_a_broken_footer_are_set_apart(bench):
    bench.define_files("parquet", ddl="id BIGINT")
    target = f"{bench.folder}/landing"
    bench.spark.range(3).coalesce(1).write.mode("append").parquet(target)
    bench.spark.sql("SELECT 'x' AS id").write.mode("append").parquet(target)
    bench.write("landing/footer.parquet", b"PAR1 nothing of the kind")
    bench.write("landing/empty.parquet", b"")
    [batch] = bench.run()
    assert sorted(row["id"] for row in bench.target()) == [0, 1, 2]
    assert (batch.rows_written, batch.verdict.rows_quarantined) == (3, 2)
    assert "is not a Parquet file" in reasons(bench)["footer.parquet"]


@pytest.mark.fault("P16")
@pytest.mark.parametrize(("format_", "content"), [("orc", b"ORC nothing of the kind"), ("avro", b"Obj\x01nothing")])
def test_broken_columnar_file_is_set_apart(bench, format_, content):
    bench.define_files(format_, ddl="id BIGINT")
    bench.write(f"landing/broken.{format_}", content)
    [batch] = bench.run()
    assert (batch.rows_written, list(reasons(bench))) == (0, [f"broken.{format_}"])


@pytest.mark.fault("R13", "P16")
@pytest.mark.parametrize("format_", ["parquet", "orc", "avro"])
def test_columns_are_learned_from_a_file_that_can_be_read(bench, format_):
    """Spark looks at one file, which may be the corrupt one, at each start."""
    bench.define_files(format_, schema=False)
    rows = bench.spark.sql("SELECT id AS value, if(id > 0, 'b', '1') AS part FROM range(3)").coalesce(1)
    writer = rows.write.format({"avro": "org.apache.spark.sql.avro.AvroFileFormat"}.get(format_, format_))
    writer.partitionBy("part").mode("append").save(f"{bench.folder}/landing")
    for name in ("0", "z[1] %20"):
        bench.write(f"landing/part=1/{name}.{format_}", b"nothing of the kind")
    bench.run()
    assert sorted((row["value"], row["part"]) for row in bench.target()) == [(0, "1"), (1, "b"), (2, "b")]
    assert set(reasons(bench)) == {f"0.{format_}", f"z%5B1%5D%20%2520.{format_}"}


@pytest.mark.parametrize("format_", ["parquet", "orc", "avro"])
@pytest.mark.parametrize("content", [None, b"nothing of the kind"])
def test_without_a_file_that_can_be_read_and_a_schema_there_are_no_columns(bench, format_, content):
    bench.define_files(format_, schema=False)
    if content:
        bench.write(f"landing/a.{format_}", content)
    with pytest.raises(UnavailableError, match=f"no {format_} file in .* that can be read"):
        bench.run()


@pytest.mark.fault("R14")
def test_utf_16_is_malformed_line_by_line_and_empty_files_are_no_rows(bench):
    bench.define_files("csv", CSV, ddl="id STRING, name STRING")
    bench.write("landing/a.csv", "id,name\r\n1,a\r\n".encode("utf-16"))
    bench.write("landing/b.csv", "id,name\r\n2,b\r\n".encode("utf-16-be"))
    bench.write("landing/c.csv", "\ufeffid,name\r\n3,c\r\n")
    bench.write("landing/d.csv", b"")
    bench.write("landing/e.csv", b"\r\n \n")
    bench.write("landing/f.csv.gz", gzip.compress(b""))
    bench.run()
    assert [(row["id"], row["name"]) for row in bench.target()] == [("3", "c")]
    assert set(reasons(bench).values()) <= {"not valid UTF-8", "NUL byte in text"}


@pytest.mark.fault("R16")
def test_file_that_lands_with_an_old_time_is_read(bench):
    bench.define_files("csv")
    bench.write("landing/a.csv", "1,a\n")
    bench.run()
    late = bench.write("landing/b.csv", "2,b\n")
    os.utime(late, (0, 0))
    bench.run()
    assert sorted(row["id"] for row in bench.target()) == [1, 2]


@pytest.mark.fault("R15", "R17")
def test_skipped_files_are_listed(bench):
    bench.define_files("csv")
    bench.write("landing/a.csv", "1,a\n")
    bench.run()
    os.utime(bench.write("landing/a.csv", "1,changed\n"), (1_900_000_000, 1_900_000_000))
    for name in ("_hidden.csv", ".dot.csv", "_staging/b.csv", "deeper/c.csv"):
        bench.write(f"landing/{name}", "9,z\n")
    run = PipelineRun(bench.spark, bench.load(), bench.batches.append)
    run.start()
    run.wait()
    listed = {file.path.removeprefix(f"{bench.folder}/landing/"): file.reason.partition(";")[0] for file in run.skipped}
    assert listed == {
        "a.csv": "changed after it was read",
        "_hidden.csv": "a name that begins with . or _ is hidden",
        ".dot.csv": "a name that begins with . or _ is hidden",
        "_staging/b.csv": "a name that begins with . or _ is hidden",
        "deeper/c.csv": "in a sub-directory",
    }
    assert [row["name"] for row in bench.target()] == ["a"]


@pytest.mark.fault("R12")
def test_a_file_is_read_once_it_has_its_name_and_one_that_grows_under_it_is_reported(bench):
    bench.define_files("csv")
    growing = bench.write("landing/.a.csv.part", "1,a\n2,")
    bench.write("landing/b.csv", "3,c\n")
    assert sum(batch.rows_written for batch in bench.run()) == 1
    growing.write_text("1,a\n2,b\n")
    growing.rename(bench.folder / "landing/a.csv")
    bench.run()
    assert sorted(row["id"] for row in bench.target()) == [1, 2, 3]
    os.utime(bench.write("landing/b.csv", "3,c\n4,d\n"), (1_900_000_000, 1_900_000_000))
    run = PipelineRun(bench.spark, bench.load(), bench.batches.append)
    run.start()
    run.wait()
    assert [file.path.rpartition("/")[2] for file in run.skipped] == ["b.csv"]
    assert len(bench.target()) == 3


@pytest.mark.fault("R16")
def test_newest_files_first_leaves_none_of_the_older_ones_out(bench):
    bench.define_files("csv", "{latestFirst: true, maxFilesPerTrigger: 1}")
    for number in range(3):
        os.utime(bench.write(f"landing/{number}.csv", f"{number},a\n"), (number * 1_000_000, number * 1_000_000))
    bench.run()
    os.utime(bench.write("landing/3.csv", "3,a\n"), (1, 1))
    bench.run()
    assert sorted(row["id"] for row in bench.target()) == [0, 1, 2, 3]


@pytest.mark.fault("R17")
def test_a_link_is_a_file_of_its_own_name(bench):
    bench.define_files("csv")
    outside = bench.write("outside/secret.csv", "1,a\n")
    bench.write("landing/b.csv", "2,b\n")
    (bench.folder / "landing/link.csv").symlink_to(outside)
    bench.run()
    bench.run()
    assert sorted(row["id"] for row in bench.target()) == [1, 2]


@pytest.mark.fault("D6", "I8")
@pytest.mark.parametrize("point", [Point.QUARANTINE_AFTER, Point.TARGET_AFTER])
def test_a_file_overwritten_under_a_batch_that_is_committed_in_part_stops_the_run(bench, monkeypatch, point):
    bench.define_files("csv")
    landed = bench.write("landing/a.csv", "1,a\nbroken\n")
    before = landed.stat()
    monkeypatch.setattr("jobs.pipeline.commit.reach", arm(f"{point}:1:raise"))
    with pytest.raises(EsclusaError):
        bench.run()
    monkeypatch.undo()
    committed = (len(bench.target()), len(bench.quarantine()))
    os.utime(bench.write("landing/a.csv", "9,z\nbroken too\n"), (1_900_000_000, 1_900_000_000))
    with pytest.raises(FileChangedError, match="batch 0 .* these have changed since: .*/landing/a.csv"):
        bench.run()
    assert (len(bench.target()), len(bench.quarantine())) == committed
    os.utime(bench.write("landing/a.csv", "1,a\nbroken\n"), ns=(before.st_mtime_ns, before.st_mtime_ns))
    bench.run()
    assert [row["id"] for row in bench.target()] == [1]
    assert [row["raw"] for row in bench.quarantine()] == [b"broken"]


@pytest.mark.fault("D6")
def test_a_file_overwritten_before_anything_is_committed_is_read_as_it_is(bench, monkeypatch):
    bench.define_files("csv")
    bench.write("landing/a.csv", "1,a\n")
    monkeypatch.setattr("jobs.pipeline.commit.reach", arm(f"{Point.TARGET_STAGED}:1:raise"))
    with pytest.raises(EsclusaError):
        bench.run()
    monkeypatch.undo()
    os.utime(bench.write("landing/a.csv", "2,b\nbroken\n"), (1_900_000_000, 1_900_000_000))
    bench.run()
    assert ([row["id"] for row in bench.target()], len(bench.quarantine())) == ([2], 1)


ODD_NAMES = ["a b", "a%20b", "h#x", "ü", "n\nl", "a+b&c", "quote'\"", "x" * 240, "=1+1", "${jndi:x}".replace(":", "")]
PATTERNS = ["a[1]", "star*", "what?", "{a,b}", "back\\slash"]


@pytest.mark.fault("R17")
@pytest.mark.parametrize("options", ["{}", "{recursiveFileLookup: true}"])
def test_odd_names_are_read_once(bench, options):
    bench.define_files("csv", options)
    names = [*ODD_NAMES, *PATTERNS, "plain"]
    for number, name in enumerate(names):
        bench.write(f"landing/{name}.csv", f"{number},x\n")
    bench.run()
    assert sorted(row["id"] for row in bench.target()) == list(range(len(names)))
    bench.write("landing/later.csv", "99,x\nbroken\n")
    bench.run()
    assert (len(bench.target()), len(bench.quarantine())) == (len(names) + 1, 1)


def test_plain_spark_reads_files_twice_beside_a_name_like_a_pattern(bench):
    """The baseline: were it to pass, the test above would prove nothing."""
    bench.write("landing/a[1].csv", "1,a\n")
    bench.write("landing/b.csv", "2,b\n")
    rows = Counter()
    stream = bench.spark.readStream.text(str(bench.folder / "landing"))
    query = stream.writeStream.foreachBatch(lambda df, _: rows.update(row.value for row in df.collect()))
    query.option("checkpointLocation", str(bench.folder / "ck")).trigger(availableNow=True).start().awaitTermination()
    assert rows["2,b"] == 2


@pytest.mark.fault("R17")
def test_the_same_name_in_two_directories_is_two_files(bench):
    bench.define_files("csv", "{recursiveFileLookup: true}")
    bench.write("landing/a/x.csv", "1,a\n")
    bench.write("landing/b/x.csv", "2,b\n")
    bench.run()
    assert sorted(row["id"] for row in bench.target()) == [1, 2]


@pytest.mark.fault("R17")
def test_name_with_a_colon_that_hadoop_cannot_open_is_set_apart(bench):
    bench.define_files("csv")
    bench.write("landing/a:b.csv", "1,a\n")
    bench.write("landing/c.csv", "2,b\n")
    bench.run()
    assert [row["id"] for row in bench.target()] == [2]
    assert list(reasons(bench)) == ["a:b.csv"]


@pytest.mark.fault("R18", "I8")
def test_file_that_vanishes_before_it_is_read_stops_the_run(bench, monkeypatch):
    bench.define_files("csv")
    bench.write("landing/a.csv", "1,a\n")
    gone = bench.write("landing/b.csv", "2,b\n")
    commit = runner.commit_batch
    monkeypatch.setattr(runner, "commit_batch", lambda batch, done: (gone.unlink(missing_ok=True), commit(batch, done)))
    with pytest.raises(StateMismatchError, match="FILE_NOT_EXIST|does not exist"):
        bench.run()
    assert bench.target() == []
    with pytest.raises(StateMismatchError, match="FILE_VANISHED: batch 0 .* of which these are gone: .*/b.csv"):
        bench.run()
    bench.write("landing/b.csv", "2,b\n")
    monkeypatch.undo()
    bench.run()
    assert sorted(row["id"] for row in bench.target()) == [1, 2]


@pytest.mark.fault("R13")
def test_partition_columns_stay_where_a_file_beside_is_corrupt(bench):
    bench.define_files("parquet", schema=False)
    rows = bench.spark.sql("SELECT 1 AS id, DATE'2026-01-01' AS day UNION ALL SELECT 2, DATE'2026-01-02'")
    rows.write.partitionBy("day").parquet(f"{bench.folder}/landing", mode="append")
    bench.write("landing/day=2026-01-02/bad.parquet", b"PAR1 nothing of the kind")
    bench.run()
    assert {row["id"]: str(row["day"]) for row in bench.target()} == {1: "2026-01-01", 2: "2026-01-02"}
    assert [row["source"]["path"].endswith("/bad.parquet") for row in bench.quarantine()] == [True]
