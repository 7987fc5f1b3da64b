from pathlib import Path

import pytest

from jobs.pipeline.bundle import Bundle
from jobs.pipeline.conf import load_all, load_pipelines, pipeline_names
from jobs.pipeline.errors import ConfError
from jobs.pipeline.model import OnFailure
from jobs.pipeline.option_values import value_fault

SHIPPED = Path(__file__).parents[2] / "conf"

# What to replace in a file that loads; the text on whose line the problem is reported; its path; what it must say.
BROKEN_ORDERS = {
    "unknown key": ("sink:", "sinc:", "sinc:", "sinc", ["did you mean 'sink'", "allowed: ", "trigger"]),
    "unknown nested key": ("  suite:", "  suit:", "suit:", "quality.suit", ["did you mean 'suite'", "halt_when"]),
    "unknown deep key": (
        "quarantined_share_above",
        "share_above",
        "halt_when",
        "quality.halt_when.share_above",
        ["allowed: quarantined_share_above"],
    ),
    "missing key": ("  path: ${lake}/orders\n", "", "sink:", "sink.path", ["missing"]),
    "wrong type": ("Orders of the shop", "[1, 2]", "description:", "description", ["string", "[1, 2]"]),
    "list for a mapping": (
        "options:\n    header: true\n    maxFilesPerTrigger: 8",
        "options: [header]",
        "options:",
        "source.options",
        ["dictionary"],
    ),
    "number out of range": (
        "0.05",
        "1.5",
        "halt_when",
        "quality.halt_when.quarantined_share_above",
        ["less than 1", "1.5"],
    ),
    "unknown source type": (
        "type: files",
        "type: fils",
        "source:",
        "source",
        ["'fils'", "did you mean 'files'", "allowed: files, kafka"],
    ),
    "missing source type": ("  type: files\n", "", "source:", "source", ["files or kafka"]),
    "unknown format": (
        "format: csv",
        "format: cvs",
        "format:",
        "source.format",
        ["did you mean 'csv'", "parquet", "json"],
    ),
    "unknown sink type": ("type: delta", "type: jdbc", "type: jdbc", "sink.type", ["'jdbc'", "allowed: delta"]),
    "unknown disposition": (
        "  suite: orders",
        "  on_failure: quarantine",
        "on_failure:",
        "quality.on_failure",
        ["did you mean 'expect_or_quarantine'", "allowed: ", "expect_or_fail"],
    ),
    "undefined variable": (
        "${lake}",
        "${lakes}",
        "${lakes}",
        "sink.path",
        ["${lakes}", "did you mean 'lake'", "defined: data, lake, landing", "--var lakes="],
    ),
    "variable that is not closed": (
        "${lake}/orders",
        "${lake/orders",
        "${lake/",
        "sink.path",
        ["${lake has no closing }", "${name}"],
    ),
    "empty path of a source": ("${landing}/orders", '""', "path:", "source.path", ["at least 1 character"]),
    "empty path of a sink": ("${lake}/orders", '""', 'path: ""', "sink.path", ["at least 1 character"]),
    "empty path of a quarantine": (
        "partition_by: [day]",
        'quarantine_path: ""',
        "quarantine_path:",
        "sink.quarantine_path",
        ["at least 1 character"],
    ),
    "option of no source": (
        "header: true",
        "heder: true",
        "heder:",
        "source.options.heder",
        ["did you mean 'header'", "allowed: ", "nullValue"],
    ),
    "option of another format": (
        "header: true",
        "rowTag: row",
        "rowTag:",
        "source.options.rowTag",
        ["allowed: ", "header"],
    ),
    "option that loses files": (
        "header: true",
        "ignoreMissingFiles: true",
        "ignoreMissingFiles:",
        "source.options.ignoreMissingFiles",
        ["not allowed", "rows"],
    ),
    "option that loses rows": (
        "header: true",
        "mode: DROPMALFORMED",
        "mode:",
        "source.options.mode",
        ["not allowed", "quarantine"],
    ),
    "both batch limits": (
        "header: true",
        "maxBytesPerTrigger: 10m",
        "options:",
        "source.options",
        ["maxFilesPerTrigger and maxBytesPerTrigger"],
    ),
    "no schema named": ("  schema: orders\n", "", "source:", "source.schema", ["missing", "conf/schemas/"]),
    "no truth value": ("header: true", "header: yes", "header:", "source.options.header", ["'yes'", "true or false"]),
    "no count": (
        "maxFilesPerTrigger: 8",
        "maxFilesPerTrigger: 1_000",
        "maxFilesPerTrigger:",
        "source.options.maxFilesPerTrigger",
        ["'1_000'", "whole number"],
    ),
    "files cleaned in a way that is none": (
        "header: true",
        "cleanSource: move",
        "cleanSource:",
        "source.options.cleanSource",
        ["'move'", "allowed: off, archive, delete"],
    ),
    "no place for an archive": (
        "header: true",
        "cleanSource: ARCHIVE",
        "options:",
        "source.options.sourceArchiveDir",
        ["missing", "directory"],
    ),
    "archive in the source": (
        "header: true",
        "cleanSource: archive\n    sourceArchiveDir: ${landing}/orders/read",
        "sourceArchiveDir:",
        "source.options.sourceArchiveDir",
        ["overlaps source.path", "folder of their own"],
    ),
    "archive in the target": (
        "header: true",
        "cleanSource: archive\n    sourceArchiveDir: ${lake}/orders/read",
        "sourceArchiveDir:",
        "source.options.sourceArchiveDir",
        ["overlaps sink.path", "folder of their own"],
    ),
    "archive in the quarantine": (
        "header: true",
        "cleanSource: archive\n    sourceArchiveDir: ${lake}/orders_quarantine/read",
        "sourceArchiveDir:",
        "source.options.sourceArchiveDir",
        ["overlaps the quarantine", "folder of their own"],
    ),
    "no such schema": (
        "schema: orders",
        "schema: order",
        "schema:",
        "source.schema",
        ["order.ddl", "did you mean 'orders'", "there are: clicks, orders"],
    ),
    "no such suite": (
        "suite: orders",
        "suite: order",
        "suite:",
        "quality.suite",
        ["order.json", "did you mean 'orders'", "there are: orders"],
    ),
    "both triggers": (
        "available_now: true",
        "{available_now: true, processing_time: 1 minute}",
        "trigger:",
        "trigger",
        ["exactly one of available_now", "processing_time"],
    ),
    "trigger that is off": (
        "available_now: true",
        "available_now: false",
        "available_now:",
        "trigger.available_now",
        ["allowed: True"],
    ),
    "bad duration": (
        "available_now: true",
        "processing_time: 10s",
        "processing_time:",
        "trigger.processing_time",
        ["'10s'", "'10 seconds'"],
    ),
    "partition and cluster": (
        "partition_by: [day]",
        "partition_by: [day]\n  cluster_by: [id]",
        "sink:",
        "sink",
        ["partition_by and cluster_by exclude each other"],
    ),
    "quarantine in the target": (
        "partition_by: [day]",
        "quarantine_path: ${lake}/./orders/",
        "quarantine_path:",
        "sink.quarantine_path",
        ["target's own path"],
    ),
    "transform with another key": (
        "- python: orders.clean",
        "- python: orders.clean\n    then: x",
        "then:",
        "transforms[1].then",
        ["unknown key", "allowed: python"],
    ),
    "transform of another type": (
        "sql: SELECT * FROM input",
        "sql: 5",
        "sql: 5",
        "transforms[0].sql",
        ["string", "5"],
    ),
    "short transaction memory": (
        "partition_by: [day]",
        "table_properties:\n    delta.setTransactionRetentionDuration: interval 1 day",
        "delta.setTransactionRetentionDuration:",
        "sink.table_properties.delta.setTransactionRetentionDuration",
        ["remove it"],
    ),
    "short transaction memory, as Delta also reads it": (
        "partition_by: [day]",
        "table_properties:\n    delta.settransactionretentionduration: interval 1 day",
        "delta.settransactionretentionduration:",
        "sink.table_properties.delta.settransactionretentionduration",
        ["remove it"],
    ),
    "no such transform module": (
        "orders.clean",
        "order.clean",
        "python:",
        "transforms[1].python",
        ["transforms/order.py"],
    ),
    "no such transform function": (
        "orders.clean",
        "orders.clen",
        "python:",
        "transforms[1].python",
        ["'clen'", "did you mean 'clean'", "it has: clean"],
    ),
    "transform of no kind": (
        "- python: orders.clean",
        "- pyton: orders.clean",
        "pyton:",
        "transforms[1]",
        ["sql (a SELECT over input) or python"],
    ),
    "secret in a path": ("${lake}/orders", "${secret:LAKE}/orders", "${secret", "sink.path", ["source.options"]),
    "secret in a table property": (
        "partition_by: [day]",
        "table_properties: {a: '${secret:KEY}'}",
        "table_properties:",
        "sink.table_properties.a",
        ["source.options"],
    ),
    "secret among options that nothing reveals": (
        "header: true",
        "nullValue: x${secret:KEY}",
        "nullValue:",
        "source.options.nullValue",
        ["${secret:KEY}", "kafka source"],
    ),
    "malformed secret among options": (
        "header: true",
        "nullValue: ${secret:my-key}",
        "nullValue:",
        "source.options.nullValue",
        ["${secret:my-key}", "letters, digits"],
    ),
    "malformed secret": ("${lake}/orders", "${secret:lake-url}", "${secret", "sink.path", ["secret"]),
    "duplicate key": (
        "  format: csv",
        "  format: csv\n  format: csv",
        "format: csv\n  path",
        "",
        ["'format'", "twice"],
    ),
    "bad syntax": ("partition_by: [day]", "partition_by: [day", "trigger:", "", ["not valid YAML"]),
    "python tag": ("Orders of the shop", "!!python/name:os.system", "description:", "", ["not allowed"]),
}
BROKEN_CLICKS = {
    "no servers": (
        "    kafka.bootstrap.servers: ${servers}\n",
        "",
        "options:",
        "source.options",
        ["kafka.bootstrap.servers", "host:port"],
    ),
    "server without a port": (
        "${servers}",
        "kafka.example, kafka.example:9092",
        "kafka.bootstrap.servers:",
        "source.options.kafka.bootstrap.servers",
        ["'kafka.example, kafka.example:9092'", "host:port"],
    ),
    "port too high": (
        "${servers}",
        "127.0.0.1:90921",
        "kafka.bootstrap.servers:",
        "source.options.kafka.bootstrap.servers",
        ["'127.0.0.1:90921'", "1 to 65535"],
    ),
    "no server": (
        "${servers}",
        "' , '",
        "kafka.bootstrap.servers:",
        "source.options.kafka.bootstrap.servers",
        ["host:port"],
    ),
    "no topic": ("    subscribe: clicks\n", "", "options:", "source.options", ["exactly one of subscribe", "none"]),
    "two topics": (
        "subscribe: clicks",
        "subscribe: clicks\n    subscribePattern: c.*",
        "options:",
        "source.options",
        ["exactly one of subscribe", "subscribePattern, assign"],
    ),
    "no schema for JSON": ("  schema: clicks\n", "", "source:", "source.schema", ["value_format json"]),
    "schema for text": (
        "type: kafka",
        "type: kafka\n  value_format: text",
        "schema:",
        "source.schema",
        ["value_format json"],
    ),
    "a wait as conf has it elsewhere": (
        "subscribe: clicks",
        "subscribe: clicks\n    maxTriggerDelay: 5 minutes",
        "maxTriggerDelay:",
        "source.options.maxTriggerDelay",
        ["'5 minutes'", "5m"],
    ),
    "isolation that Kafka does not have": (
        "subscribe: clicks",
        "subscribe: clicks\n    kafka.isolation.level: READ_COMMITTED",
        "kafka.isolation.level:",
        "source.options.kafka.isolation.level",
        ["read_committed"],
    ),
    "unknown value format": (
        "type: kafka",
        "type: kafka\n  value_format: jsn",
        "value_format:",
        "source.value_format",
        ["did you mean 'json'", "allowed: json, text, binary"],
    ),
    "option of a file": (
        "subscribe: clicks",
        "subscribe: clicks\n    header: true",
        "header:",
        "source.options.header",
        ["allowed: ", "startingOffsets"],
    ),
    "position of no kind": (
        "subscribe: clicks",
        "subscribe: clicks\n    startingOffsets: earlist",
        "startingOffsets:",
        "source.options.startingOffsets",
        ["'earlist'", "earliest, latest", "-2"],
    ),
    "partitions that are no JSON": (
        "subscribe: clicks",
        "assign: clicks",
        "assign:",
        "source.options.assign",
        ["'clicks'", '{"topic": [0, 1]}'],
    ),
    "time of no kind": (
        "subscribe: clicks",
        "subscribe: clicks\n    startingTimestamp: yesterday",
        "startingTimestamp:",
        "source.options.startingTimestamp",
        ["'yesterday'", "milliseconds"],
    ),
    "times of no kind": (
        "subscribe: clicks",
        "subscribe: clicks\n    startingOffsetsByTimestamp: 1735689600000",
        "startingOffsetsByTimestamp:",
        "source.options.startingOffsetsByTimestamp",
        ["'1735689600000'", '{"topic": {"0": '],
    ),
    "strategy of no kind": (
        "subscribe: clicks",
        "subscribe: clicks\n    startingOffsetsByTimestampStrategy: earliest",
        "startingOffsetsByTimestampStrategy:",
        "source.options.startingOffsetsByTimestampStrategy",
        ["'earliest'", "allowed: error, latest"],
    ),
    "option that loses records": (
        "subscribe: clicks",
        "subscribe: clicks\n    failOnDataLoss: false",
        "failOnDataLoss:",
        "source.options.failOnDataLoss",
        ["not allowed", "records"],
    ),
}
BROKEN_BESIDES = {
    "type in a schema": (
        "conf/schemas/orders.ddl",
        ("BIGINT", "BIGNIT"),
        "id BIG",
        "",
        ["BIGNIT", "did you mean BIGINT"],
    ),
    "column in a schema": ("conf/schemas/orders.ddl", ("day DATE", "id DATE"), "id DATE", "", ["id", "twice"]),
    "expectation in a suite": (
        "conf/suites/orders.json",
        ("to_not_be_null", "to_not_be_nul"),
        "    {\n",
        "expectations[0]",
        ["did you mean expect_column_values_to_not_be_null"],
    ),
    "syntax of a suite": ("conf/suites/orders.json", ('"column": "id"', '"column": id'), "kwargs", "", ["JSON"]),
    "key of a target": (
        "conf/targets/local.yml",
        ("spark:", "sparc:"),
        "sparc:",
        "sparc",
        ["did you mean 'spark'", "allowed: maintenance, maintenance_schedule, spark, state, variables"],
    ),
    "no state": ("conf/targets/local.yml", ("state: ${data}/state\n", ""), "variables:", "state", ["missing"]),
    "loss switch in a target": (
        "conf/targets/local.yml",
        ("spark.sql.shuffle.partitions: 2", "spark.sql.files.ignoreCorruptFiles: true"),
        "ignoreCorruptFiles",
        "spark.spark.sql.files.ignoreCorruptFiles",
        ["remove it"],
    ),
    "Delta's default for transaction memory in a target": (
        "conf/targets/local.yml",
        (
            "spark.sql.shuffle.partitions: 2",
            "spark.databricks.delta.properties.defaults.setTransactionRetentionDuration: interval 1 day",
        ),
        "setTransactionRetentionDuration",
        "spark.spark.databricks.delta.properties.defaults.setTransactionRetentionDuration",
        ["remove it"],
    ),
    "ANSI mode off in a target": (
        "conf/targets/local.yml",
        ("spark.sql.shuffle.partitions: 2", "spark.sql.ansi.enabled: false"),
        "ansi",
        "spark.spark.sql.ansi.enabled",
        ["must be true", "NULL", "remove it"],
    ),
    "another time zone in a target": (
        "conf/targets/local.yml",
        ("spark.sql.shuffle.partitions: 2", "spark.sql.session.timeZone: Europe/Rome"),
        "timeZone",
        "spark.spark.sql.session.timeZone",
        ["must be UTC", "another time", "remove it"],
    ),
    "other extensions in a target": (
        "conf/targets/local.yml",
        ("spark.sql.shuffle.partitions: 2", "spark.sql.extensions: a.First"),
        "extensions",
        "spark.spark.sql.extensions",
        ["must hold io.delta", "remove it"],
    ),
    "secret in a target": (
        "conf/targets/local.yml",
        ("spark.sql.shuffle.partitions: 2", "spark.a: ${secret:KEY}"),
        "spark.a",
        "spark.spark.a",
        ["source.options"],
    ),
    "malformed secret in a variable": (
        "conf/targets/local.yml",
        ("servers: 127.0.0.1:9092", "servers: ${secret:kafka-servers}"),
        "servers:",
        "variables.servers",
        ["${secret:kafka-servers}"],
    ),
    "variable that is not there": (
        "conf/targets/local.yml",
        ("data: ${root}/data", "data: ${roots}/data"),
        "data: ${roots}",
        "variables.data",
        ["did you mean 'root'"],
    ),
    "variable that is no text": (
        "conf/targets/local.yml",
        ("servers: 127.0.0.1:9092", "servers: [a]"),
        "servers:",
        "variables.servers",
        ["string"],
    ),
    "variable that is not closed in a target": (
        "conf/targets/local.yml",
        ("state: ${data}/state", "state: ${data/state"),
        "state:",
        "state",
        ["${data has no closing }"],
    ),
    "variable that is not closed in a variable": (
        "conf/targets/local.yml",
        ("lake: ${data}/lake", "lake: ${data}${data"),
        "lake:",
        "variables.lake",
        ["${data has no closing }"],
    ),
    "empty state": ("conf/targets/local.yml", ("state: ${data}/state", 'state: ""'), "state:", "state", ["at least 1"]),
    "quotes in a schema": ("conf/schemas/orders.ddl", ("amount", "`amount"), "day DATE", "", ["` is not closed"]),
    "variable that comes later": (
        "conf/targets/local.yml",
        ("data: ${root}/data", "data: ${lake}/data"),
        "data: ${lake}",
        "variables.data",
        ["${lake}"],
    ),
    "variable that is itself": (
        "conf/targets/local.yml",
        ("data: ${root}/data", "data: ${data}/data"),
        "data: ${data}",
        "variables.data",
        ["${data}"],
    ),
}


def by_name(table):
    return [pytest.param(case, id=name) for name, case in table.items()]


def assert_reported(bundle, name, file, broken):
    at, path, says = broken
    problems = bundle.problems(name)
    found = [problem for problem in problems if (problem.file, problem.path) == (str(bundle.root / file), path)]
    assert len(found) == 1, problems
    assert found[0].line == bundle.line_of(file, at)
    assert [part for part in says if part not in found[0].message] == [], found[0].message


@pytest.mark.parametrize("case", by_name(BROKEN_ORDERS))
def test_a_broken_files_pipeline_is_refused(bundle, case):
    old, new, *broken = case
    bundle.edit("conf/pipelines/orders.yml", old, new)
    assert_reported(bundle, "orders", "conf/pipelines/orders.yml", broken)


@pytest.mark.fault("D7")
@pytest.mark.parametrize("case", by_name(BROKEN_CLICKS))
def test_a_broken_kafka_pipeline_is_refused(bundle, case):
    old, new, *broken = case
    bundle.edit("conf/pipelines/clicks.yml", old, new)
    assert_reported(bundle, "clicks", "conf/pipelines/clicks.yml", broken)


@pytest.mark.parametrize(
    "options",
    [
        "startingOffsets: LATEST",
        'startingOffsets: \' {"clicks": {"0": 23, "1": -1, "2": -2}}\'',
        "startingOffsets: ${secret:POSITION}",
        "startingOffsets: ${position}",
        "startingTimestamp: 1735689600000",
        'startingOffsetsByTimestamp: \'{"clicks": {"0": 1735689600000}}\'',
        "startingOffsetsByTimestampStrategy: Latest",
        "maxOffsetsPerTrigger: ${secret:LIMIT}",
    ],
)
def test_a_kafka_source_takes_what_spark_takes(bundle, options):
    bundle.edit("conf/targets/local.yml", "variables:", "variables:\n  position: earliest")
    bundle.edit("conf/pipelines/clicks.yml", "subscribe: clicks", f"subscribe: clicks\n    {options}")
    assert bundle.load("clicks")


def test_records_are_not_held_back_for_a_batch_that_does_not_come(bundle):
    bundle.edit("conf/pipelines/clicks.yml", "subscribe: clicks", "subscribe: clicks\n    minOffsetsPerTrigger: 100")
    assert bundle.load("clicks")
    bundle.edit("conf/pipelines/clicks.yml", "trigger:\n  processing_time: 10 seconds\n", "")
    (problem,) = bundle.problems("clicks")
    assert problem.path == "source.options.minOffsetsPerTrigger"
    assert "with available_now none comes" in problem.message


@pytest.mark.parametrize(
    "servers", ["localhost:1", "a:9092 , b:65535,", "'[::1]:9092'", "SASL_SSL://a:9092", "a:9092,${secret:OTHER}"]
)
def test_servers_are_addresses_as_kafka_takes_them(bundle, servers):
    bundle.edit("conf/pipelines/clicks.yml", "${servers}", servers)
    assert bundle.load("clicks")


@pytest.mark.parametrize("partitions", ["'{\"clicks\": [0, 1]}'", "${secret:PARTITIONS}", "'{\"clicks\": [${one}]}'"])
def test_partitions_are_assigned(bundle, partitions):
    bundle.edit("conf/targets/local.yml", "variables:", "variables:\n  one: 1")
    bundle.edit("conf/pipelines/clicks.yml", "subscribe: clicks", f"assign: {partitions}")
    assert bundle.load("clicks")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("assign", value) for value in ("{}", '{"t": []}', '{"t": [-1]}', '{"t": ["0"]}', '{"t": 0}', '["t"]')],
        *[
            ("startingOffsets", value)
            for value in ('{"t": 5}', '{"t": {"0": -3}}', '{"t": {"a": 5}}', '{"t": {"0": 1.5}}')
        ],
        *[("startingOffsetsByTimestamp", value) for value in ("latest", '{"t": {"0": -1}}', '{"t": {"0": "2026"}}')],
        ("startingTimestamp", "-1"),
        ("cleanSource", "true"),
    ],
)
def test_a_value_that_spark_would_refuse_at_the_start_does_not_fit(key, value):
    assert value_fault(key, value).startswith(f"'{value}' ")


def test_where_a_variable_has_no_value_that_alone_is_reported(bundle):
    bundle.edit("conf/pipelines/orders.yml", "header: true", "header: ${nowhere}")
    (problem,) = bundle.problems("orders")
    assert "not defined" in problem.message


@pytest.mark.parametrize(
    "options",
    [
        "cleanSource: off",
        "cleanSource: DELETE",
        "cleanSource: archive\n    sourceArchiveDir: /read",
        "cleanSource: archive\n    sourceArchiveDir: ${lake}",
    ],
)
def test_files_that_were_read_are_kept_moved_or_removed(bundle, options):
    bundle.edit("conf/pipelines/orders.yml", "header: true", options)
    assert bundle.load("orders")


@pytest.mark.parametrize("case", by_name(BROKEN_BESIDES))
def test_a_broken_file_beside_the_pipeline_is_refused(bundle, case):
    file, edit, *broken = case
    bundle.edit(file, *edit)
    assert_reported(bundle, "orders", file, broken)


def test_a_transform_that_is_not_python_is_refused(bundle):
    file = "conf/pipelines/orders.yml"
    bundle.edit("jobs/transforms/orders.py", "clean(df)", "clean(df")
    assert_reported(bundle, "orders", file, ("python:", "transforms[1].python", ["orders.py:1"]))


@pytest.mark.parametrize(
    ("place", "key"), [("", "kafka"), ("", "1"), ("source", "files"), ("quality", "1"), ("sink", "kafka")]
)
def test_an_unknown_key_is_refused_whatever_it_is_called(bundle, place, key):
    line = f"{place}:\n  {key}: 1" if place else f"{key}: 1\nsink:"
    bundle.edit("conf/pipelines/orders.yml", f"{place or 'sink'}:", line)
    path = f"{place}.{key}".removeprefix(".")
    assert_reported(bundle, "orders", "conf/pipelines/orders.yml", (f"{key}: 1", path, ["unknown key", "allowed: "]))


@pytest.mark.parametrize(
    ("name", "old", "new", "allowed"),
    [
        ("orders", "  format: csv", "  format: csv\n  value_format: json", "format, options, path, schema, type"),
        ("clicks", "  type: kafka", "  type: kafka\n  path: /data", "options, schema, type, value_format"),
    ],
)
def test_the_keys_allowed_are_those_of_the_sources_own_kind(bundle, name, old, new, allowed):
    bundle.edit(f"conf/pipelines/{name}.yml", old, new)
    (problem,) = bundle.problems(name)
    assert problem.message.endswith(f"allowed: {allowed}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  - sql: SELECT * FROM input", "  - 5"),
        ("  - sql: SELECT * FROM input", "  - sql: 5"),
        ("  - python: orders.clean", "  - python: Orders"),
        ("  - python: orders.clean", "  - {sql: SELECT 1, python: orders.clean}"),
        ("source:", "source: []\nsink_:"),
        ("  type: files", "  type: [files]"),
        ("trigger:\n  available_now: true", "trigger: soon"),
    ],
)
def test_a_value_of_another_shape_is_a_problem_not_a_crash(bundle, old, new):
    bundle.edit("conf/pipelines/orders.yml", old, new)
    assert bundle.problems("orders")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("conf/pipelines/orders.yml", "- python: orders.clean", "- pyton: orders.clean"),
        ("conf/pipelines/orders.yml", "- sql: SELECT * FROM input", "- sql: 5"),
        ("conf/pipelines/orders.yml", "- sql: SELECT * FROM input", "- 5"),
        ("conf/pipelines/orders.yml", "type: files", "type: [files]"),
        ("conf/pipelines/orders.yml", "${lake}/orders", "${secret:lake-url}/orders"),
        ("conf/targets/local.yml", "data: ${root}/data", "data: ${lake}/data"),
        ("conf/targets/local.yml", "data: ${root}/data", "data: ${data}/data"),
        ("conf/targets/local.yml", "data: ${root}/data", "data: ${nowhere}/data"),
        ("conf/targets/local.yml", "spark:", "sparc:"),
        ("conf/schemas/orders.ddl", "DECIMAL(10, 2)", "DECIMAL(10, 2"),
    ],
)
def test_one_fault_is_one_problem(bundle, file, old, new):
    bundle.edit(file, old, new)
    (problem,) = bundle.problems("orders")
    assert problem.file == str(bundle.root / file)


@pytest.mark.parametrize("name", ["Orders", "1orders", "or-ders", "o" * 64])
def test_a_pipelines_name_is_a_plain_word(bundle, name):
    bundle.write(f"conf/pipelines/{name}.yml", (bundle.conf / "pipelines/orders.yml").read_text())
    (problem,) = bundle.problems(name)
    assert problem.file.endswith(f"/{name}.yml")
    assert "lower-case" in problem.message


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_a_file_that_is_no_mapping_of_keys_is_refused(bundle, text):
    bundle.write("conf/pipelines/orders.yml", text)
    assert {(p.file, p.line) for p in bundle.problems("orders")} == {(str(bundle.conf / "pipelines/orders.yml"), 1)}


@pytest.mark.parametrize("file", ["pipelines/orders.yml", "schemas/orders.ddl", "suites/orders.json"])
def test_a_file_that_is_not_utf_8_is_refused(bundle, file):
    (bundle.conf / file).write_bytes(b"a: \xff\xfe")
    assert str(bundle.conf / file) in {problem.file for problem in bundle.problems("orders")}


@pytest.mark.parametrize("more", ["  suite: orders", ""])
@pytest.mark.parametrize("file", ["targets/local.yml", "schemas/orders.ddl", "suites/orders.json"])
def test_a_directory_in_place_of_a_file_is_called_one(bundle, file, more):
    bundle.edit("conf/pipelines/orders.yml", "  suite: orders", more)
    (bundle.conf / file).unlink()
    (bundle.conf / file).mkdir()
    (problem,) = bundle.problems("orders")
    assert problem.file == str(bundle.conf / file)
    assert "Is a directory" in problem.message


@pytest.mark.parametrize(
    "file", ["targets/local.yml", "pipelines/orders.yml", "schemas/orders.ddl", "suites/orders.json"]
)
def test_a_byte_order_mark_is_no_part_of_a_file(bundle, file):
    expected = bundle.load("orders")
    path = bundle.conf / file
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert bundle.load("orders") == expected


@pytest.mark.parametrize("content", [b"a = '\xff'", b"a = '\0'"])
def test_a_transform_that_is_no_text_is_refused(bundle, content):
    (bundle.root / "jobs/transforms/orders.py").write_bytes(content)
    (problem,) = bundle.problems("orders")
    assert problem.path == "transforms[1].python"


def test_a_target_that_does_not_exist_is_refused_with_those_that_do(bundle):
    problems = bundle.problems("orders", target="locl")
    assert problems[0].file == str(bundle.conf / "targets")
    assert "did you mean 'local'; there are: local" in problems[0].message


def test_a_target_that_does_not_exist_is_the_only_problem(bundle):
    assert len(bundle.problems("orders", "clicks", target="locl")) == 1


def test_a_pipeline_that_does_not_exist_is_refused_with_those_that_do(bundle):
    (problem,) = bundle.problems("order")
    assert "did you mean 'orders'; there are: clicks, orders" in problem.message


@pytest.mark.parametrize("names", [[], ["more"]])
def test_a_pipeline_whose_file_ends_in_yaml_is_to_be_renamed(bundle, names):
    bundle.write("conf/pipelines/more.yaml", "")
    (problem,) = bundle.problems(*names)
    assert problem.file == str(bundle.conf / "pipelines/more.yaml")
    assert "more.yml" in problem.message


def test_a_pipeline_in_two_files_is_to_keep_one_of_them(bundle):
    bundle.write("conf/pipelines/orders.yaml", "")
    (problem,) = bundle.problems()
    assert problem.file == str(bundle.conf / "pipelines/orders.yaml")
    assert "but orders.yml; remove one" in problem.message
    assert bundle.load("orders").name == "orders"


def test_a_file_to_be_renamed_stops_no_other_pipeline(bundle):
    bundle.write("conf/pipelines/more.yaml", "")
    assert [pipeline.name for pipeline in load_pipelines(Bundle(bundle.conf), ["orders"])] == ["orders"]


@pytest.mark.parametrize(
    "more",
    [
        "maintenance: {log: 9999999999999 days}",
        "maintenance: {vacuum: 9999999999999 days}",
        "maintenance: {quarantine: {any: 9999999999999 days}}",
        "maintenance: {}\nsink: {type: delta, path: /t, table_properties: {delta.logRetentionDuration: interval 9999999999999 days}}",
        "decision_timeout: 9999999999999 days",
        "trigger: {processing_time: 9999999999999 days}",
        "fleet: ${lake}",
        "fleet: ${name}",
        "fleet: [small]",
        "fleet: {small: 1}",
        "schedule: [small]",
    ],
)
def test_a_broken_pipeline_stops_no_other(bundle, more):
    bundle.edit("conf/targets/local.yml", "variables:", "variables:\n  name: small")
    sink = "" if "sink:" in more else "\nsink: {type: delta, path: /t}"
    bundle.write("conf/pipelines/bad.yml", f"source: {{type: files, format: text, path: /s}}{sink}\n{more}\n")
    assert bundle.load("orders").name == "orders"
    (problem,) = bundle.problems()
    assert problem.file == str(bundle.conf / "pipelines/bad.yml")


def test_a_target_may_say_what_every_session_says(bundle):
    bundle.edit("conf/targets/local.yml", "spark:", "spark:\n  spark.sql.ansi.enabled: true")
    assert bundle.load("orders").spark["spark.sql.ansi.enabled"] == "true"


@pytest.mark.parametrize(
    ("path", "quarantine", "key", "says"),
    [
        ("/t/a", "/t/a/q", "quarantine_path", "overlaps sink.path (/t/a)"),
        ("/t/a/b/", "/t/a", "quarantine_path", "overlaps sink.path (/t/a/b/)"),
        ("file:///t/a", "/t/a/q", "quarantine_path", "overlaps sink.path"),
        ("${landing}/orders/", "/q", "path", "overlaps source.path"),
        ("${landing}/orders/out", "/q", "path", "overlaps source.path"),
        ("${landing}", "/q", "path", "overlaps source.path"),
        ("/t/a", "${landing}/orders/bad", "quarantine_path", "overlaps source.path"),
        ("${data}/state", "/q", "path", "overlaps the target's state"),
        ("${data}//state/ledger/a", "/q", "path", "overlaps the target's state"),
        ("/t/a", "${data}/state/leases", "quarantine_path", "overlaps the target's state"),
    ],
)
def test_tables_lie_apart(bundle, path, quarantine, key, says):
    bundle.edit("conf/pipelines/orders.yml", "${lake}/orders", f"{path}\n  quarantine_path: {quarantine}")
    (problem,) = bundle.problems("orders")
    assert problem.path == f"sink.{key}"
    assert problem.line == bundle.line_of("conf/pipelines/orders.yml", "quarantine_path:") - (key == "path")
    assert says in problem.message


@pytest.mark.parametrize("scheme", ["", "file:", "file://"])
@pytest.mark.parametrize(
    ("written", "sign"),
    [("[", "["), ("]", "]"), ("|", "|"), ("^", "^"), ("\\\\", "\\"), ("%20", "%20"), ("\\t", "\t")],
)
def test_tables_lie_where_delta_rs_opens_them(bundle, scheme, written, sign):
    table, quarantine, state = (f'"{scheme}/{name}/a{written}b"' for name in "tqs")
    bundle.edit("conf/pipelines/orders.yml", "${lake}/orders", f"{table}\n  quarantine_path: {quarantine}")
    bundle.edit("conf/targets/local.yml", "state: ${data}/state", f"state: {state}")
    problems = bundle.problems("orders")
    assert [problem.path for problem in problems] == ["state", "sink.path", "sink.quarantine_path"]
    assert all(f" has {sign!r}: " in problem.message for problem in problems)


@pytest.mark.parametrize("place", ["/t/a b", "/t/a#b?c", "/t/100%", "/t/a{b}", "file:/t/é:b", "s3a://t/a[b]%20"])
def test_other_names_of_tables_are_taken(bundle, place):
    bundle.edit("conf/pipelines/orders.yml", "${lake}/orders", f"'{place}'")
    assert bundle.load("orders").spec.sink.path == place


def test_a_table_that_holds_state_and_source_is_refused_for_both(bundle):
    bundle.edit("conf/pipelines/orders.yml", "${lake}/orders", "${data}")
    assert [problem.path for problem in bundle.problems("orders")] == ["sink.path", "sink.path"]


@pytest.mark.parametrize("quarantine", ["/t/orders_q", "/t/order", "/t/q/orders", "s3a://t/orders/q"])
def test_tables_may_lie_beside_each_other(bundle, quarantine):
    bundle.edit("conf/pipelines/orders.yml", "${lake}/orders", f"/t/orders\n  quarantine_path: {quarantine}")
    assert bundle.load("orders").quarantine_path == quarantine


def test_a_pipeline_named_twice_is_loaded_once(bundle):
    names = ["orders", "clicks", "orders"]
    assert [pipeline.name for pipeline in load_pipelines(Bundle(bundle.conf), names)] == ["orders", "clicks"]


def test_without_a_target_the_pipelines_other_problems_are_reported(bundle):
    bundle.edit("conf/pipelines/orders.yml", "header:", "heder:")
    assert [p.path for p in bundle.problems("orders", target="locl")] == ["", "source.options.heder"]


def test_a_directory_without_pipelines_is_refused(tmp_path):
    with pytest.raises(ConfError) as caught:
        pipeline_names(Bundle(tmp_path / "nowhere"))
    assert caught.value.problems[0].file == str(tmp_path / "nowhere" / "pipelines")


def test_every_problem_of_every_file_is_reported_at_once(bundle):
    bundle.edit("conf/pipelines/orders.yml", "header:", "heder:")
    bundle.edit("conf/pipelines/orders.yml", "orders.clean", "orders.clen")
    bundle.edit("conf/pipelines/clicks.yml", "10 seconds", "10s")
    bundle.edit("conf/pipelines/clicks.yml", "${lake}", "${lakes}")
    bundle.edit("conf/schemas/orders.ddl", "BIGINT", "BIGNIT")
    bundle.edit("conf/suites/orders.json", "not_be_null", "not_be_nul")
    assert [(Path(p.file).name, p.line, p.path) for p in bundle.problems()] == [
        ("clicks.yml", 10, "sink.path"),
        ("clicks.yml", 12, "trigger.processing_time"),
        ("orders.yml", 8, "source.options.heder"),
        ("orders.yml", 12, "transforms[1].python"),
        ("orders.ddl", 2, ""),
        ("orders.json", 4, "expectations[0]"),
    ]


@pytest.mark.parametrize(
    ("file", "text", "at", "path", "says"),
    [
        ("suites/more.json", '{"expectations": [', 1, "", "not valid JSON"),
        (
            "suites/more.json",
            '{"expectations": [\n{"type": "expect_nothing"}]}',
            2,
            "expectations[0]",
            "'expect_nothing'",
        ),
        ("schemas/more.ddl", "id BIGINT,\nday DAT", 2, "", "did you mean DATE"),
        ("schemas/more.ddl", "", 1, "", "no columns"),
    ],
)
def test_a_file_that_no_pipeline_uses_is_looked_at_with_all_of_conf(bundle, file, text, at, path, says):
    bundle.write(f"conf/{file}", text)
    (problem,) = bundle.all_problems()
    assert (problem.file, problem.line, problem.path) == (str(bundle.conf / file), at, path)
    assert says in problem.message
    assert load_pipelines(Bundle(bundle.conf))


@pytest.mark.parametrize(
    "file",
    [
        *("suites/.#orders.json", "suites/._orders.json", "schemas/._orders.ddl"),
        *("pipelines/.#orders.yml", "pipelines/._orders.yml", "pipelines/._orders.yaml"),
    ],
)
def test_what_editors_leave_beside_conf_is_not_conf(bundle, file):
    bundle.write(f"conf/{file}", "\0")
    assert [pipeline.name for pipeline in load_all(Bundle(bundle.conf))] == ["clicks", "orders"]


def test_what_editors_leave_beside_conf_is_neither_a_target_nor_a_place_where_variables_are_used(bundle):
    bundle.write("conf/targets/._local.yml", "\0")
    bundle.write("conf/pipelines/._orders.yml", "path: ${wharehouse}")
    (problem,) = bundle.problems("orders", target="nowhere")
    assert problem.message.endswith("there are: local")
    (problem,) = bundle.problems("orders", wharehouse="/w")
    assert (problem.file, problem.path) == ("--var", "wharehouse")


@pytest.mark.parametrize(
    ("clicks", "key", "says"),
    [
        (
            "/t/orders_quarantine/",
            "path",
            "the target (/t/orders_quarantine/) overlaps the quarantine (/t/orders_quarantine)",
        ),
        (
            "file:/t/orders/clicks",
            "path",
            "the target (file:/t/orders/clicks) overlaps the target (/t/orders) of orders",
        ),
        ("/t/orders_quarantine/c", "path", "overlaps the quarantine"),
        (
            "/c\n  quarantine_path: /t/orders/bad",
            "quarantine_path",
            "the quarantine (/t/orders/bad) overlaps the target",
        ),
        ("/c\n  quarantine_path: /t/orders_quarantine/c", "quarantine_path", "overlaps the quarantine"),
    ],
)
def test_tables_of_pipelines_lie_apart(bundle, clicks, key, says):
    bundle.edit("conf/pipelines/orders.yml", "${lake}/orders", "/t/orders")
    bundle.edit("conf/pipelines/clicks.yml", "${lake}/clicks", clicks)
    (problem,) = bundle.all_problems()
    assert (problem.file, problem.path) == (str(bundle.conf / "pipelines/clicks.yml"), f"sink.{key}")
    assert problem.line == bundle.line_of("conf/pipelines/clicks.yml", f"{key}:")
    assert says in problem.message
    assert "of orders" in problem.message


def test_a_quarantine_that_is_anothers_target_is_said_of_the_target(bundle):
    bundle.edit("conf/pipelines/clicks.yml", "${lake}/clicks", "${lake}/clicks\n  quarantine_path: ${lake}/orders")
    (problem,) = bundle.all_problems()
    assert (problem.file, problem.path) == (str(bundle.conf / "pipelines/orders.yml"), "sink.path")
    assert "of clicks" in problem.message


@pytest.mark.parametrize(
    "clicks",
    [
        "${lake}/orders",
        "${lake}/orders\n  quarantine_path: /q",
        "/c\n  quarantine_path: ${lake}/orders_quarantine",
        "${lake}/orders_2",
    ],
)
def test_pipelines_may_share_a_target_or_a_quarantine(bundle, clicks):
    bundle.edit("conf/pipelines/clicks.yml", "${lake}/clicks", clicks)
    assert len(load_all(Bundle(bundle.conf))) == 2


def test_a_problem_of_a_file_that_is_used_is_reported_once_with_all_of_conf(bundle):
    bundle.edit("conf/schemas/orders.ddl", "BIGINT", "BIGNIT")
    bundle.edit("conf/suites/orders.json", "not_be_null", "not_be_nul")
    bundle.edit("conf/pipelines/clicks.yml", "sink:", "sinc:")
    assert bundle.all_problems() == bundle.problems()


def test_all_of_conf_is_all_its_pipelines(bundle):
    assert load_all(Bundle(bundle.conf)) == load_pipelines(Bundle(bundle.conf))


def test_a_problem_of_a_shared_file_is_reported_once(bundle):
    bundle.edit("conf/targets/local.yml", "spark:", "sparc:")
    targets = [p for p in bundle.problems() if p.file.endswith("local.yml")]
    assert len(targets) == 1


def test_the_shipped_conf_loads():
    names = pipeline_names(Bundle(SHIPPED))
    assert [pipeline.name for pipeline in load_pipelines(Bundle(SHIPPED))] == names
    assert "flights" in names


def test_a_pipeline_is_resolved(bundle):
    pipeline = bundle.load("orders")
    data = f"{bundle.root}/data"
    assert pipeline.spec.source.path == f"{data}/landing/orders"
    assert pipeline.spec.source.options == {"header": "true", "maxFilesPerTrigger": "8"}
    assert pipeline.checkpoint == f"{data}/state/checkpoints/orders"
    assert pipeline.ledger_path == f"{data}/state/ledger/orders"
    assert pipeline.lease_path == f"{data}/state/leases/orders"
    assert pipeline.quarantine_path == f"{data}/lake/orders_quarantine"
    assert pipeline.schema_ddl == "id BIGINT, day DATE, amount DECIMAL(10, 2)"
    assert pipeline.transform_lines == (11, 12)
    assert pipeline.spark == {"spark.sql.shuffle.partitions": "2"}
    assert [(check.name, check.on_failure) for check in pipeline.checks] == [
        ("column_values_to_not_be_null:id", OnFailure.QUARANTINE)
    ]


def test_a_pipeline_is_data_that_can_be_written_and_read(bundle):
    pipeline = bundle.load("orders")
    assert [transform.model_dump() for transform in pipeline.spec.transforms] == [
        {"sql": "SELECT * FROM input"},
        {"python": "orders.clean"},
    ]
    assert type(pipeline).model_validate_json(pipeline.model_dump_json(by_alias=True)) == pipeline


def test_the_suite_of_the_pipelines_own_name_is_the_default(bundle):
    bundle.edit("conf/pipelines/orders.yml", "  suite: orders\n", "")
    assert len(bundle.load("orders").checks) == 1
    assert bundle.load("clicks").checks == ()


def test_the_pipelines_on_failure_holds_for_checks_that_say_nothing(bundle):
    bundle.edit("conf/pipelines/orders.yml", "suite: orders", "on_failure: expect_or_fail")
    assert bundle.load("orders").checks[0].on_failure is OnFailure.FAIL


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({}, "{root}/data/landing/orders"),
        ({"landing": "s3a://raw"}, "s3a://raw/orders"),
        ({"data": "/mnt"}, "/mnt/landing/orders"),
        ({"data": "/mnt", "landing": "/raw"}, "/raw/orders"),
        ({"landing": "${data}/raw"}, "{root}/data/raw/orders"),
        ({"landing": "${data}/raw", "data": "/mnt"}, "/mnt/raw/orders"),
        ({"data": "${root}/d"}, "{root}/d/landing/orders"),
    ],
)
def test_a_variable_of_the_command_line_wins(bundle, variables, path):
    assert bundle.load("orders", **variables).spec.source.path == path.format(root=bundle.root)


def test_a_variable_may_come_from_the_command_line_alone(bundle):
    bundle.edit("conf/pipelines/orders.yml", "${lake}", "${warehouse}")
    assert bundle.problems("orders")
    assert bundle.load("orders", warehouse="/w").spec.sink.path == "/w/orders"


def test_target_and_pipeline_see_the_same_variables(bundle):
    pipeline = bundle.load("orders", data="${root}/d", lake="${data}/l")
    assert pipeline.checkpoint == f"{bundle.root}/d/state/checkpoints/orders"
    assert pipeline.spec.sink.path == f"{bundle.root}/d/l/orders"


@pytest.mark.parametrize(("value", "says"), [("${nowhere}", "defined: "), ("${data}", "itself"), ("${lake}", "later")])
def test_a_variable_of_the_command_line_is_checked(bundle, value, says):
    (problem,) = bundle.problems("orders", "clicks", data=value)
    assert (problem.file, problem.path) == ("--var", "data")
    assert says in problem.message


def test_the_bundles_own_directory_is_no_variable_to_be_set(bundle):
    (problem,) = bundle.problems("orders", root="/elsewhere")
    assert (problem.file, problem.path) == ("--var", "root")
    bundle.edit("conf/targets/local.yml", "variables:", "variables:\n  root: /elsewhere")
    (problem,) = bundle.problems("orders")
    assert (problem.line, problem.path) == (2, "variables.root")


@pytest.mark.parametrize("value", ["${data", "x${", "a} ${data/lake"])
def test_a_variable_of_the_command_line_that_is_not_closed_is_refused(bundle, value):
    (problem,) = bundle.problems("orders", lake=value)
    assert (problem.file, problem.path) == ("--var", "lake")
    assert "no closing }" in problem.message


@pytest.mark.parametrize(
    ("file", "old", "path"),
    [
        ("conf/targets/local.yml", "state: ${data}/state", "state"),
        ("conf/pipelines/orders.yml", "path: ${lake}/orders", "sink.path"),
        ("conf/pipelines/orders.yml", "path: ${landing}/orders", "source.path"),
    ],
)
def test_a_place_that_depends_on_the_working_directory_is_refused(bundle, file, old, path):
    key = old.partition(":")[0]
    bundle.edit(file, old, f"{key}: data/x")
    (problem,) = bundle.problems("orders")
    assert problem.path == path
    assert problem.message.endswith("write ${root}/data/x")


def test_a_variable_of_the_command_line_alone_comes_behind_the_targets(bundle):
    bundle.edit("conf/pipelines/orders.yml", "${lake}", "${warehouse}")
    assert bundle.load("orders", warehouse="${lake}/w").spec.sink.path == f"{bundle.root}/data/lake/w/orders"
    bundle.edit("conf/targets/local.yml", "${data}/lake", "${warehouse}")
    (problem,) = bundle.problems("orders", warehouse="/w")
    assert problem.path == "variables.lake"
    assert "only --var gives" in problem.message


@pytest.mark.parametrize("file", ["conf/targets/local.yml", "conf/pipelines/clicks.yml"])
def test_a_variable_is_used_wherever_it_stands(bundle, file):
    bundle.edit(file, "${data}/state" if "targets" in file else "${lake}/clicks", "${place}/x")
    assert load_pipelines(Bundle(bundle.conf, variables={"deep": "/p", "place": "${deep}"}), ["orders"])


def test_a_variable_that_nothing_uses_is_refused_once(bundle):
    (problem,) = bundle.problems("orders", "clicks", wharehouse="/w")
    assert (problem.file, problem.path) == ("--var", "wharehouse")


def test_a_variable_is_written_as_spark_writes_it(bundle):
    bundle.edit("conf/targets/local.yml", "  servers:", "  has_header: true\n  servers:")
    bundle.edit("conf/pipelines/orders.yml", "header: true", "header: ${has_header}")
    assert bundle.load("orders").spec.source.options["header"] == "true"


@pytest.mark.parametrize(
    ("written", "text"), [("-999.00", "-999.00"), ("+5", "+5"), ("1.10", "1.10"), ("TRUE", "true")]
)
def test_a_number_is_text_as_it_is_written_and_a_truth_value_as_spark_writes_it(bundle, written, text):
    bundle.edit("conf/targets/local.yml", "  servers:", f"  missing: {written}\n  servers:")
    bundle.edit("conf/pipelines/orders.yml", "header: true", f"nullValue: {written}\n    emptyValue: ${{missing}}")
    options = bundle.load("orders").spec.source.options
    assert (options["nullValue"], options["emptyValue"]) == (text, text)


def test_a_variable_may_hold_a_secret_for_an_option(bundle):
    bundle.edit("conf/targets/local.yml", "127.0.0.1:9092", "${secret:SERVERS}")
    assert bundle.load("clicks").spec.source.options["kafka.bootstrap.servers"] == "${secret:SERVERS}"


def test_quoted_text_of_a_schema_is_kept(bundle):
    bundle.write("conf/schemas/orders.ddl", "`a  b` INT, -- one\nb INT\n  COMMENT 'x -- y'")
    assert bundle.load("orders").schema_ddl == "`a  b` INT, b INT COMMENT 'x -- y'"


def test_a_secret_stays_a_reference(bundle, monkeypatch):
    monkeypatch.setenv("CLICKS_LOGIN", "hunter2")
    pipeline = bundle.load("clicks")
    assert pipeline.spec.source.options["kafka.sasl.jaas.config"] == "${secret:CLICKS_LOGIN}"
    assert "hunter2" not in repr(pipeline) + str(pipeline.model_dump()) + pipeline.model_dump_json()


def test_the_environment_is_no_source_of_variables(bundle, monkeypatch):
    monkeypatch.setenv("warehouse", "/w")
    bundle.edit("conf/pipelines/orders.yml", "${lake}", "${warehouse}")
    assert [problem.path for problem in bundle.problems("orders")] == ["sink.path"]
