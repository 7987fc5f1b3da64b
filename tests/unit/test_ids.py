import json
import zlib
from random import Random

from jobs.testing.ids import Entry, IdLedger, Kind, State, make_events, read_ids


def test_events_repeat_with_the_seed_and_have_ids_of_their_own():
    first, second = (make_events("s", 5, 500, Random(1)) for _ in range(2))
    assert first == second
    assert len({event.id for event in first}) == 500
    assert {event.kind for event in first} == set(Kind)
    assert first[0].id == "s-5"


def test_poison_shows_its_id_and_is_no_record_and_the_others_are():
    for event in make_events("s", 0, 2000, Random(2)):
        assert f'"id": "{event.id}"'.encode() in event.value
        assert is_record(event) == (event.kind is not Kind.POISON)


def is_record(event):
    try:
        record = json.loads(event.value)
        return record["kind"] == event.kind and zlib.crc32(record["payload"].encode()) == event.checksum
    except ValueError:
        return False


def test_an_id_is_unknown_until_the_source_has_answered(tmp_path):
    events = make_events("s", 0, 3, Random(3))
    ledger = IdLedger(tmp_path / "ids.tsv")
    ledger.intend(events)
    ledger.settle(State.ACKED, ["s-0"], "a.json")
    ledger.settle(State.FAILED, ["s-1"], "")
    entries = read_ids(tmp_path / "ids.tsv")
    assert [entries[event.id].state for event in events] == [State.ACKED, State.FAILED, State.UNKNOWN]
    assert entries["s-0"] == Entry(events[0].kind, events[0].checksum, State.ACKED, "a.json")
