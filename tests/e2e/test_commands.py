import json
import os
import signal
import subprocess

import pytest
from deltalake import DeltaTable

from jobs.dev.produce import create_topic, produce

HEADER = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
HEADER += "origin,dest,air_time,distance,hour,minute,time_hour\n"
ROW = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z\n"
RECORD = {"year": 2013, "month": 1, "day": 1, "hour": 5, "minute": 15, "dep_time": 517, "dep_delay": 2, "carrier": "UA",
          "flight": 1545, "tailnum": "N14228", "origin": "EWR", "dest": "IAH", "air_time": 227, "distance": 1400}  # fmt: skip


def land(bundle, name, *lines):
    folder = bundle.folder / "data" / "landing" / "flights"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(HEADER + "".join(lines))


def edit(bundle, path, old, new):
    file = bundle.folder / "conf" / path
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_kafka_records_reach_the_table_with_their_coordinates(bundle, broker):
    create_topic(broker.servers, "e2e", 1)
    edit(bundle, "pipelines/flights_kafka.yml", "subscribe: flights", "subscribe: e2e")
    variable = f"kafka_servers={broker.servers}"
    bad = json.dumps(RECORD | {"origin": "XXX"}).encode()
    produce(broker.servers, "e2e", [json.dumps(RECORD).encode(), b"{broken", None, bad, b"\xff"])
    events = bundle.events("run", "flights_kafka", "--var", variable)
    [batch] = [event for event in events if event["event"] == "batch"]
    assert [batch[f"rows_{kind}"] for kind in ("read", "written", "quarantined", "dropped")] == [5, 1, 4, 0]
    assert batch["source_range"]["until"] == {"e2e": {"0": 5}}
    [row] = DeltaTable(bundle.table("flights_kafka")).to_pyarrow_table().to_pylist()
    assert (row["kafka_partition"], row["kafka_offset"], row["delay_band"]) == (0, 0, "on time")
    apart = DeltaTable(bundle.table("flights_kafka_quarantine")).to_pyarrow_table().to_pylist()
    found = {r["source"]["offset"]: (r["raw"], r["source"]["topic"], r["_errors"][0]["check"]) for r in apart}
    assert found == {
        1: (b"{broken", "e2e", "malformed"),
        2: (None, "e2e", "malformed"),
        3: (bad, "e2e", "origin_is_new_york"),
        4: (b"\xff", "e2e", "malformed"),
    }
    assert [e["event"] for e in bundle.events("run", "flights_kafka", "--var", variable)] == ["start", "end"]


def test_absent_broker_is_exit_4_at_once(bundle):
    text = bundle.esclusa("run", "flights_kafka", "--var", "kafka_servers=127.0.0.1:1", expect=4)
    assert "UNAVAILABLE: no Kafka broker answers at 127.0.0.1:1" in text


def test_held_batch_is_exit_3_and_shows_in_the_status(bundle):
    edit(bundle, "pipelines/flights.yml", "on_failure: expect_or_quarantine", "on_failure: expect_or_fail")
    land(bundle, "a.csv", ROW, ROW.replace("EWR", "XXX"))
    assert "BATCH_HELD" in bundle.esclusa("run", "flights", expect=3)
    assert "held" in bundle.esclusa("status", "flights")
    assert DeltaTable(bundle.table("flights")).to_pyarrow_table().num_rows == 0


def test_changed_table_is_exit_6(bundle):
    land(bundle, "a.csv", ROW)
    bundle.esclusa("run", "flights")
    edit(bundle, "pipelines/flights.yml", "SELECT *,", "SELECT *, 1 AS extra,")
    assert "STATE_MISMATCH" in bundle.esclusa("run", "flights", expect=6)


def test_wrong_conf_is_exit_2_with_every_problem(bundle):
    edit(bundle, "pipelines/flights.yml", "format: csv", "format: cvs")
    edit(bundle, "suites/flights.json", "expect_column_values_to_be_in_set", "expect_column_values_to_be_in_sett")
    text = bundle.esclusa("check", expect=2)
    assert "flights.yml:4: source.format" in text
    assert "did you mean 'csv'" in text
    assert "did you mean" in next(line for line in text.splitlines() if "in_sett" in line)


def test_plan_shows_everything_and_writes_nothing(bundle):
    land(bundle, "a.csv", ROW, ROW.replace("EWR", "XXX"), "broken\n")
    text = bundle.esclusa("plan", "flights", "--sample", "100")
    assert "origin_is_new_york: expect_column_values_to_be_in_set" in text
    assert "FAIL origin_is_new_york: 1 of 2 rows unexpected" in text
    assert "sample of 3 rows: 1 pass, 2 would be quarantined" in text
    assert not (bundle.folder / "data" / "lake").exists()
    assert not (bundle.folder / "data" / "state").exists()


def test_sigterm_ends_a_continuous_run_cleanly_and_a_second_run_is_turned_away(bundle):
    edit(bundle, "pipelines/flights.yml", "trigger: {available_now: true}", "trigger: {processing_time: 1 second}")
    edit(bundle, "pipelines/flights.yml", 'schedule: "@hourly"', "")  # which only a run that ends can have
    land(bundle, "a.csv", ROW)
    with subprocess.Popen(
        bundle.command("run", "flights"), stdout=subprocess.PIPE, text=True, cwd=bundle.folder
    ) as run:
        assert run.stdout is not None
        while '"batch"' not in run.stdout.readline():
            assert run.poll() is None
        assert "ALREADY_RUNNING" in bundle.esclusa("run", "flights", expect=5)
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0
    assert DeltaTable(bundle.table("flights")).to_pyarrow_table().num_rows == 1


@pytest.mark.fault("K7")
def test_kill_between_quarantine_and_target_doubles_and_loses_nothing(bundle, monkeypatch):
    land(bundle, "a.csv", ROW, ROW.replace("EWR", "XXX"))
    monkeypatch.setenv("ESCLUSA_FAILPOINT", "quarantine.after:1:kill9-both")
    done = subprocess.run(bundle.command("run", "flights"), capture_output=True, cwd=bundle.folder, check=False)
    assert done.returncode == -signal.SIGKILL
    assert DeltaTable(bundle.table("flights")).to_pyarrow_table().num_rows == 0
    assert DeltaTable(bundle.table("flights_quarantine")).to_pyarrow_table().num_rows == 1
    monkeypatch.delenv("ESCLUSA_FAILPOINT")
    bundle.esclusa("run", "flights")
    assert DeltaTable(bundle.table("flights")).to_pyarrow_table().num_rows == 1
    assert DeltaTable(bundle.table("flights_quarantine")).to_pyarrow_table().num_rows == 1
    [batch] = [json.loads(line) for line in bundle.esclusa("status", "flights", "--json").splitlines()]
    assert (batch["rows_read"], batch["rows_written"], batch["rows_quarantined"]) == (2, 1, 1)


def test_machine_without_java_is_told_the_command(bundle):
    environment = {key: value for key, value in os.environ.items() if key != "JAVA_HOME"} | {"PATH": "/nonexistent"}
    land(bundle, "a.csv", ROW)
    done = subprocess.run(
        bundle.command("run", "flights"),
        capture_output=True,
        text=True,
        cwd=bundle.folder,
        env=environment,
        check=False,
    )
    assert done.returncode == 4
    assert "apt-get install openjdk-17" in done.stderr
