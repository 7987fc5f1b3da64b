import os

import pytest

from jobs.pipeline.checkpoint import SeenFile
from jobs.pipeline.preflight import _was_changed
from jobs.pipeline.source_model import FileFormat, FilesSource
from jobs.pipeline.sources.file_faults import find_skipped
from jobs.pipeline.storage import local_path

PATHS = [
    ("/a b/c#d?e%20f", "/a b/c#d?e%20f"),
    ("/a:b/c", "/a:b/c"),
    ("file:/a#b/c", "/a#b/c"),
    ("file:/a?b=c", "/a?b=c"),
    ("file:/a%20b", "/a%20b"),
    ("file:///a b", "/a b"),
    ("file://host/a", "/a"),
    ("s3a://bucket/a", None),
    ("hdfs:/a", None),
]


@pytest.mark.parametrize(("path", "local"), PATHS)
def test_a_local_path_is_what_hadoop_takes_it_for(path, local):
    assert local_path(path) == local


def test_a_changed_file_is_found_under_the_name_that_its_url_stands_for(tmp_path):
    file = tmp_path / "a b#1%20.csv"
    file.write_text("1\n")
    os.utime(file, (1, 1))
    seen = SeenFile(f"file://{tmp_path}/a%20b%231%2520.csv", 0)
    assert _was_changed(None, seen)
    source = FilesSource(type="files", format=FileFormat.TEXT, path=f"file:{tmp_path}")
    assert [skipped.path for skipped in find_skipped(source, [seen])] == [str(file)]
