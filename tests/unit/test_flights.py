import json
from itertools import islice

import pytest

from jobs.dev.flights import ROWS, land_files, read_lines, read_records

ROWS_OF_NEW_YEAR = 842


@pytest.fixture(scope="module")
def landed(tmp_path_factory):
    """A directory with all files, and how many of them were placed."""
    folder = tmp_path_factory.mktemp("flights") / "landing"
    return folder, land_files(folder)


def test_all_departures_of_2013_are_read():
    lines = list(read_lines())
    assert len(lines) - 1 == ROWS == 336_776
    assert lines[0].startswith("year,month,day,dep_time,")


def test_a_file_a_day_is_placed(landed):
    folder, placed = landed
    assert placed == len(list(folder.iterdir())) == 365


def test_every_row_lands_in_exactly_one_file_of_its_own_day(landed):
    folder, _ = landed
    header, *lines = read_lines()
    landed_lines = []
    for file in sorted(folder.iterdir()):
        first, *rows = file.read_text().splitlines(keepends=True)
        assert first == header
        assert {f"flights-{y}-{int(m):02}-{int(d):02}.csv" for y, m, d, _ in (row.split(",", 3) for row in rows)} == {
            file.name
        }
        landed_lines += rows
    assert sorted(landed_lines) == sorted(lines)


def test_landing_again_places_only_what_is_missing(landed):
    folder, _ = landed
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    missing = folder / "flights-2013-07-04.csv"
    content = missing.read_bytes()
    missing.unlink()
    assert land_files(folder) == 1
    assert missing.read_bytes() == content
    after = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert {file for file in before if before[file] != after[file]} == {missing}
    assert land_files(folder) == 0


def test_a_file_appears_whole_over_the_rest_of_a_broken_attempt(landed):
    folder, _ = landed
    file, rest = folder / "flights-2013-07-04.csv", folder / ".flights-2013-07-04.csv.tmp"
    content = file.read_bytes()
    file.unlink()
    rest.write_text("year,mon")
    land_files(folder)
    assert file.read_bytes() == content
    assert not rest.exists()


def test_a_record_has_numbers_as_numbers_and_gaps_as_null():
    records = [json.loads(record) for record in islice(read_records(), ROWS_OF_NEW_YEAR)]
    assert records[0] == {
        "year": 2013,
        "month": 1,
        "day": 1,
        "dep_time": 517,
        "sched_dep_time": 515,
        "dep_delay": 2,
        "arr_time": 830,
        "sched_arr_time": 819,
        "arr_delay": 11,
        "carrier": "UA",
        "flight": 1545,
        "tailnum": "N14228",
        "origin": "EWR",
        "dest": "IAH",
        "air_time": 227,
        "distance": 1400,
        "hour": 5,
        "minute": 15,
        "time_hour": "2013-01-01T10:00:00Z",
    }
    assert sum(record["dep_time"] is None for record in records) == 4
    assert not any("NA" in record.values() for record in records)
