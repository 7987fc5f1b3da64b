from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from jobs.cli import main
from jobs.orchestration.accounts import backfill_extra, held_batch
from jobs.pipeline.backfill import derive_interval, name_interval
from jobs.pipeline.dated_path import Interval
from jobs.pipeline.errors import ConfError
from jobs.pipeline.manifest import Manifest

ORDERS = "conf/pipelines/orders.yml"
ARCHIVE = 'schedule: "@daily"\nbackfill:\n  path: ${data}/archive/orders/%Y-%m-%d\n'
DAYS = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC))


@pytest.fixture
def archived(bundle):
    """The bundle, whose orders have an archive."""
    bundle.edit(ORDERS, "quality:\n", f"{ARCHIVE}maintenance: {{}}\nquality:\n")
    bundle.edit(ORDERS, "    header: true\n", "    header: true\n    cleanSource: delete\n")
    return bundle


def esclusa(bundle, *words):
    return CliRunner().invoke(main, [*words, "--conf", str(bundle.conf)])


def test_a_folder_is_a_pipeline_of_its_own_with_the_live_ones_rules_and_tables(archived):
    live, one = archived.load("orders"), archived.load("orders@2026-01-01")
    assert (one.name, one.live_name, live.live_name) == ("orders@2026-01-01", "orders", "orders")
    assert one.spec.source.path == f"{archived.root}/data/archive/orders/2026-01-01"
    for place in ("checkpoint", "ledger_path", "lease_path"):
        assert getattr(one, place) == f"{getattr(live, place)}@2026-01-01"
    assert (one.spec.sink, one.quarantine_path) == (live.spec.sink, live.quarantine_path)
    assert (one.checks, one.spec.transforms, one.schema_ddl) == (live.checks, live.spec.transforms, live.schema_ddl)


def test_an_archive_is_only_read_and_nobody_maintains_the_tables_for_it(archived):
    one = archived.load("orders@2026-01-01")
    assert one.spec.source.options == {"header": "true", "maxFilesPerTrigger": "8"}
    assert (one.maintenance, one.spec.schedule, one.spec.backfill) == (None, None, None)


def test_a_manifest_keeps_it_whole(archived):
    one = archived.load("orders@2026-01-01")
    pinned = Manifest(batch_id=0, batch_time=datetime.now(UTC), fingerprint="f", pipeline=one)
    assert Manifest.model_validate_json(pinned.model_dump_json(by_alias=True)).pipeline == one


def test_an_interval_is_its_folders_oldest_first(archived):
    live = archived.load("orders")
    found = [one.name for one in derive_interval(live, DAYS)]
    assert found == ["orders@2026-01-01", "orders@2026-01-02"]
    assert name_interval("orders", live.spec.backfill.path, DAYS) == found


@pytest.mark.parametrize("stamp", ["2026-01", "", "2026-01-01T00", "../../x"])
def test_a_name_that_is_no_folders_is_refused_with_an_example(archived, stamp):
    [problem] = archived.problems(f"orders@{stamp}")
    assert (problem.file.endswith(ORDERS), problem.path) == (True, "backfill.path")
    assert "write it as 2026-01-31" in problem.message


def test_a_pipeline_without_an_archive_has_no_intervals(bundle):
    [problem] = bundle.problems("orders@2026-01-01")
    assert (problem.path, problem.message.startswith("missing")) == ("backfill", True)
    with pytest.raises(ConfError, match="missing"):
        derive_interval(bundle.load("orders"), DAYS)


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "expected"),
    [
        ("%Y-%m-%d", "", "  path: ${data}", "backfill.path", "has no date in it"),
        ("%Y-%m-%d", "%m-%d", "  path: ${data}", "backfill.path", "lacks %Y"),
        ("path: ${data}/arch", "from: x\n  path: ${data}/arch", "from:", "backfill.from", "allowed: path"),
        ('schedule: "@daily"\n', "", "backfill:", "backfill", "needs a schedule by time"),
        ('"@daily"', "{after: [clicks]}", "backfill:", "backfill", "needs a schedule by time"),
        ("maintenance: {}", "fleet: small", "backfill:", "backfill", "pipelines of a fleet share their runs"),
        *(
            ("${data}/archive/orders/%Y-%m-%d", inside, "  path: " + inside, "backfill.path", "overlaps source.path")
            for inside in ("${landing}/orders/%Y-%m-%d", "${landing}/%Y", "file:${landing}/orders/%Y", "${landing}/../landing/orders/x/%Y")
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_backfilled_is_refused_where_it_stands(archived, old, new, line, path, expected):
    archived.edit(ORDERS, old, new)
    if "${landing}/%Y" in new:
        archived.edit(ORDERS, "${landing}/orders", "${landing}/2026")
    [problem] = archived.problems("orders")
    assert (problem.line, problem.path) == (archived.line_of(ORDERS, line), path)
    assert expected in problem.message


@pytest.mark.parametrize(
    ("live", "overlaps"),
    [
        ("${data}/in/*", False),
        ("${data}/*", True),
        ("${data}/arch*/orders", True),
        ("${data}/{in,archive}", True),
        ("${data}/archive/orders/????-*", True),
        ("${data}/archive/orders/2026-01-01/now", True),
        ("${data}/archive/orders/live", False),
        ("s3a://archive/orders", False),
    ],
)
def test_a_glob_that_could_meet_the_archive_is_refused(archived, live, overlaps):
    archived.edit(ORDERS, "${landing}/orders", live)
    if overlaps:
        assert ["overlaps" in problem.message for problem in archived.problems("orders")] == [True]
    else:
        archived.load("orders")


def test_only_files_that_are_read_to_an_end_have_a_past(bundle):
    bundle.edit("conf/pipelines/clicks.yml", "sink:\n", "backfill: {path: '${data}/clicks/%Y'}\nsink:\n")
    kafka, endless = bundle.problems("clicks")
    assert {problem.line for problem in (kafka, endless)} == {bundle.line_of("conf/pipelines/clicks.yml", "backfill:")}
    assert kafka.message.startswith("only files sources can be backfilled, from folders by date; a kafka source cannot")
    assert "runs until stopped" in endless.message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--interval-start", "2026-01-01"], "--interval-start: it and --interval-end need each other"),
        (["--interval-start", "2026-01-02", "--interval-end", "2026-01-02T00:00Z"], "is not behind the start"),
        (["--interval-start", "monday", "--interval-end", "2026-01-02"], "'monday' is no time of ISO 8601"),
    ],
)
def test_an_interval_has_two_ends_in_their_order(archived, words, expected):
    for command in ("run", "status"):
        done = esclusa(archived, command, "orders", *words)
        assert (done.exit_code, expected in done.stderr) == (2, True)


def test_an_interval_in_which_no_folder_begins_is_done_without_spark(archived):
    done = esclusa(
        archived, "run", "orders", "--interval-start", "2026-01-01T01:00", "--interval-end", "2026-01-01T02:00"
    )
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no folder begins between 2026-01-01 01:00:00+00:00 and 2026-01-01 02:00:00+00:00" in done.stderr


def test_an_interval_is_that_of_named_pipelines(archived):
    done = esclusa(
        archived, "run", "--fleet", "small", "--interval-start", "2026-01-01", "--interval-end", "2026-01-02"
    )
    assert (done.exit_code, "name a pipeline" in done.stderr) == (2, True)


def test_the_status_of_an_interval_is_that_of_its_folders(archived):
    done = esclusa(archived, "status", "orders", "--interval-start", "2026-01-01", "--interval-end", "2026-01-03")
    assert done.stdout.splitlines() == ["orders@2026-01-01: no batch yet", "orders@2026-01-02: no batch yet"]
    assert esclusa(archived, "status", "orders@2026-01-02").stdout == "orders@2026-01-02: no batch yet\n"


def batch(name, number, status="done", rows=10):
    counts = {"rows_written": rows, "rows_quarantined": 1, "target_version": number}
    return {"pipeline": f"orders@{name}", "query_id": name, "batch_id": number, "status": status, **counts}


def test_an_event_of_an_interval_names_what_no_event_has_named():
    batches = [batch("a", 0), batch("a", 1), batch("b", 0, rows=5), batch("c", 0, "held", rows=0)]
    first = backfill_extra(batches[:2], [])
    assert first == {
        "rows": 20,
        "quarantined": 2,
        "target_version": 1,
        "pipelines": ["orders@a"],
        "batches": [["a", 0], ["a", 1]],
    }
    live = {"rows": 1, "query_id": "b", "batch_ids": [0]}
    assert backfill_extra(batches, iter([live, first]))["batches"] == [["b", 0]]
    assert backfill_extra(batches[:2], [first]) is None
    assert backfill_extra([batch("a", 0, rows=0)], []) is None


def test_of_several_folders_the_first_held_batch_is_asked_about():
    held = [batch("a", 0), batch("b", 0, "held"), batch("c", 0, "held")]
    assert held_batch(held)["pipeline"] == "orders@b"
    assert held_batch([*held[:2], batch("b", 0, "released"), *held[2:]])["pipeline"] == "orders@c"
