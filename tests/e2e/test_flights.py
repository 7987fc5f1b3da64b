"""`make run` on the whole of the real data, recomputed by another engine."""

import duckdb
import pytest
from deltalake import DeltaTable

from jobs.dev import flights

IN_PLAIN_SQL = {
    "aircraft_known": "tailnum IS NULL",
    "aircraft_registered_in_us": "NOT regexp_matches(tailnum, '^N[0-9A-Z]{1,5}$')",
    "arrived_if_departed": "dep_time IS NOT NULL AND air_time IS NULL",
    "delay_is_plausible": "dep_delay NOT BETWEEN -30 AND 600",
    "distance_is_plausible": "distance NOT BETWEEN 80 AND 5000",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package's own CSV in DuckDB: nothing of this project has touched it."""
    file = tmp_path_factory.mktemp("csv") / "flights.csv"
    file.write_text("".join(flights.read_lines()))
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE flights AS FROM read_csv('{file}', nullstr='NA')")
    return connection


def one(connection, sql):
    return connection.execute(sql).fetchone()[0]


def test_demo_counts_are_those_of_another_engine(bundle, package):
    text = bundle.esclusa("demo")
    any_bad = " OR ".join(f"coalesce({condition}, false)" for condition in IN_PLAIN_SQL.values())
    bad = one(package, f"SELECT count(*) FROM flights WHERE {any_bad}")
    assert f"read 336,776 rows in 6 batches: {336_776 - bad:,} written, {bad:,} quarantined, 0 dropped" in text
    for check, condition in IN_PLAIN_SQL.items():
        [line] = [line for line in text.splitlines() if line.split()[:1] == [check]]
        assert line.split()[1] == f"{one(package, f'SELECT count(*) FROM flights WHERE {condition}'):,}"

    lake = duckdb.connect()
    lake.register("target", DeltaTable(bundle.table("flights")).to_pyarrow_dataset())
    lake.register("apart", DeltaTable(bundle.table("flights_quarantine")).to_pyarrow_dataset())
    assert one(lake, "SELECT count(*) FROM target") == 336_776 - bad
    assert one(lake, "SELECT count(*) FROM apart") == bad
    expected = package.execute(
        "SELECT origin, count(*), sum(dep_delay), sum(distance), count(arr_delay) FROM flights "
        f"WHERE NOT ({any_bad}) GROUP BY origin ORDER BY origin"
    ).fetchall()
    found = lake.execute(
        "SELECT origin, count(*), sum(dep_delay), sum(distance), count(arr_delay) FROM target "
        "GROUP BY origin ORDER BY origin"
    ).fetchall()
    assert found == expected
    raw = {row[0] for row in lake.execute("SELECT decode(raw) FROM apart").fetchall()}
    lines = {line.rstrip("\n") for line in flights.read_lines()}
    assert raw <= lines

    again = bundle.esclusa("demo")
    assert "flights: nothing new" in again

    status = bundle.esclusa("status", "flights")
    assert "55,901" in status
