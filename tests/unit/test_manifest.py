import json
from datetime import UTC, datetime

import pytest

from jobs.pipeline import manifest
from jobs.pipeline.errors import StateMismatchError
from jobs.pipeline.manifest import Manifest, read_manifest, write_manifest

SPARK = object()
FILE = "ck/esclusa/manifest.json"


@pytest.fixture
def store(monkeypatch):
    """Files by path, in place of a store that Spark reaches."""
    files = {}

    def only_with_spark(act):
        def checked(spark, *arguments):
            assert spark is SPARK
            return act(*arguments)

        return checked

    monkeypatch.setattr(manifest, "exists", only_with_spark(files.__contains__))
    monkeypatch.setattr(manifest, "read_text", only_with_spark(files.__getitem__))
    monkeypatch.setattr(manifest, "write_text", only_with_spark(files.__setitem__))
    return files


@pytest.fixture
def pinned(bundle):
    at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    return Manifest(batch_id=7, batch_time=at, fingerprint="f", pipeline=bundle.load("orders"))


def test_what_was_pinned_is_found_again(store, pinned):
    write_manifest(SPARK, "ck", pinned)
    assert list(store) == [FILE]
    assert read_manifest(SPARK, "ck", 7) == pinned


def test_a_manifest_names_keys_as_conf_does(store, pinned):
    write_manifest(SPARK, "ck", pinned)
    assert json.loads(store[FILE]) == json.loads(pinned.model_dump_json(by_alias=True))


@pytest.mark.usefixtures("store")
def test_the_next_batch_takes_its_place(pinned):
    write_manifest(SPARK, "ck", pinned)
    later = pinned.model_copy(update={"batch_id": 8})
    write_manifest(SPARK, "ck", later)
    assert (read_manifest(SPARK, "ck", 7), read_manifest(SPARK, "ck", 8)) == (None, later)


@pytest.mark.parametrize("text", [None, "", '{"batch_id": 7, "batch_ti', "{}"])
def test_no_manifest_or_half_a_one_is_none(store, text):
    if text is not None:
        store[FILE] = text
    assert read_manifest(SPARK, "ck", 7) is None


def test_a_manifest_of_another_release_is_refused_with_its_path_and_what_is_wrong(store, pinned):
    content = json.loads(pinned.model_dump_json(by_alias=True)) | {"colour": "red"}
    store[FILE] = json.dumps(content)
    with pytest.raises(StateMismatchError) as caught:
        read_manifest(SPARK, "ck", 7)
    assert str(caught.value) == (
        f"{FILE} was written by another release (Extra inputs are not permitted); finish the batch with that release"
    )
