"""Checks x schema -> Gate: Columns that annotate rows, say where each goes, and count every check in the same scan.

The scan that inspects can be the scan that writes: the gate only adds columns and an observation to the plan. It is
built once a run, for building Columns costs more than a small batch does; and it is kept small, for Spark analyses
and compiles it anew for every batch: bad rows are gathered as they are, their messages are made on the driver.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DecimalType, StringType, StructField, StructType

from jobs.pipeline.columns import quote
from jobs.pipeline.model import Check, OnFailure, Quality, Scope
from jobs.pipeline.quality.expectations import LOOKS_AT_NULL, compile_row_check, list_columns, schema_fault
from jobs.pipeline.quality.gathering import USUAL, Gathering
from jobs.pipeline.quality.verdict import MALFORMED_CHECK, SHOWN_CHARACTERS, Row, Verdict, describe_rule, judge
from jobs.pipeline.record import (
    ERRORS_TYPE,
    JSON_OPTIONS,
    MALFORMED,
    RECORD,
    coordinates,
    envelope,
    raw_bytes,
    record_fields,
)

_TOLD = "array<struct<check: string, column: string, rule: string, values: array<int>>>"
SET_APART = "_esclusa_set_apart"
DROPPED = "_esclusa_dropped"
GATHER_KEY = "_esclusa_gather"


@dataclass(frozen=True, slots=True)
class Gate:
    """A suite compiled for one schema."""

    checks: tuple[Check, ...]
    quality: Quality
    schema: StructType
    record: set[str]
    """Names of the fields of `_record`."""
    flags: tuple[Column, ...]
    """TRUE or NULL: for each row check the rows that break it, and, where no column says it, those it looks at."""
    directions: tuple[Column, ...]
    """SET_APART and DROPPED, never NULL; GATHER_KEY, 1 for rows to bring to the driver."""
    source_counts: tuple[Column, ...]
    """To observe on parsed rows: rows read, and malformed rows."""
    source_gathered: tuple[Column, ...]
    """To observe on parsed rows: the malformed ones themselves."""
    gate_counts: tuple[Column, ...]
    """To observe on annotated rows: rows, the dropped, the set apart, and two counts a row check."""
    gate_gathered: tuple[Column, ...]
    """To observe on annotated rows: those set apart themselves."""
    others: dict[Gathering, "Gate"] = field(default_factory=dict, repr=False, compare=False)
    """What `gather` has built: Columns are built once a run."""

    def judge(self, source: Row, gated: Row) -> Verdict:
        """The verdict on what was observed; pure."""
        columns = dict(list_columns(self.schema))
        return judge(self.checks, self.quality, source, gated, lambda check: schema_fault(check, columns))


def compile_gate(checks: tuple[Check, ...], quality: Quality, df: DataFrame) -> Gate:
    """Compile the checks for rows like those of `df` (`_record` plus data columns); starts no Spark job."""
    schema = df.select(*map(quote, data_columns(df))).schema
    gate = Gate(
        checks=checks,
        quality=quality,
        schema=schema,
        record=record_fields(df.schema),
        flags=tuple(_flags(checks, schema)),
        directions=(),
        source_counts=(F.count(F.lit(1)).alias("rows"), F.count(F.col(MALFORMED)).alias("bad")),
        source_gathered=(),
        gate_counts=tuple(_gate_counts(checks)),
        gate_gathered=(),
    )
    return _with_gathered(gate, USUAL)


def drop_all(gate: Gate) -> Gate:
    """The gate that counts every check as before and drops every row, malformed ones too."""
    rows, _ = gate.source_counts
    nothing = F.lit(None).cast("int")
    directions = (F.lit(False).alias(SET_APART), F.lit(True).alias(DROPPED), nothing.alias(GATHER_KEY))
    return replace(gate, directions=directions, source_counts=(rows, F.count(nothing).alias("bad")), source_gathered=())


def gather(gate: Gate, gathering: Gathering) -> Gate:
    """The gate that judges as before and brings other rows to the driver; one that drops all rows brings none."""
    if not gate.source_gathered:
        return gate
    if gathering not in gate.others:
        gate.others[gathering] = _with_gathered(gate, gathering)
    return gate.others[gathering]


def _with_gathered(gate: Gate, gathering: Gathering) -> Gate:
    return replace(
        gate,
        directions=tuple(_directions(gate.checks, gate.record, gathering)),
        source_gathered=(_gather_malformed(gate.record, gathering),),
        gate_gathered=tuple(_gather_unfit(gate, gathering)),
    )


def annotate(df: DataFrame, gate: Gate) -> DataFrame:
    """The frame plus the gate's flags and directions."""
    return df.select("*", *gate.flags).select("*", *gate.directions)


def passed(annotated: DataFrame, names: list[str]) -> DataFrame:
    """Rows for the target, with these columns only."""
    return annotated.where(~F.col(SET_APART) & ~F.col(DROPPED)).select(*map(quote, names))


def malformed_rows(parsed: DataFrame) -> DataFrame:
    """Envelopes (raw, source, _errors) of the malformed rows, by a scan of their own."""
    errors = F.array(malformed_error())
    return parsed.where(F.col(MALFORMED).isNotNull()).select(*envelope(record_fields(parsed.schema), errors))


def unfit_rows(annotated: DataFrame, gate: Gate) -> DataFrame:
    """Envelopes (raw, source, _errors) of the rows that checks set apart, by a scan of their own."""
    return annotated.where(F.col(SET_APART)).select(*envelope(record_fields(annotated.schema), row_errors(gate)))


def malformed_error() -> Column:
    """Struct (check, column, message) of a malformed row."""
    return F.struct(F.lit(MALFORMED_CHECK), F.lit(None).cast("string"), F.col(MALFORMED))


def row_errors(gate: Gate) -> Column:
    """Array of (check, column, message) for the checks that an annotated row breaks.

    The messages are those that the driver makes of a gathered row: values as JSON shows them. They are looked up by the
    place of the check, for an expression of its own for each of many checks takes Spark longer than the rows do.
    """
    checks, columns = dict(_row_checks(gate.checks)), _columns_of(gate.checks)
    if not checks:
        return F.array().cast(ERRORS_TYPE)
    told = [
        {
            "check": check.name,
            "column": ", ".join(check.columns),
            "rule": describe_rule(check),
            "values": [columns.index(name) for name in check.columns],
        }
        for check in checks.values()
    ]
    texts = F.from_json(F.lit(json.dumps(told)), _TOLD)
    numbered = _values(gate.schema, columns, map(str, range(len(columns))))
    values = F.from_json(F.to_json(numbered, JSON_OPTIONS), "map<string, string>")

    def shown(place: Column) -> Column:
        value = F.try_element_at(values, place.cast("string"))
        return F.coalesce(F.left(value, F.lit(SHOWN_CHARACTERS)), F.lit("NULL"))

    def error(place: Column) -> Column:
        text = F.get(texts, place)
        message = F.concat(F.concat_ws(", ", F.transform(text["values"], shown)), F.lit(": "), text["rule"])
        return F.struct(text["check"], text["column"], message)

    flags = F.array(*map(_broken, checks))
    broken = F.array_compact(F.transform(flags, F.when))  # the place of each flag that is TRUE
    return F.transform(broken, error).cast(ERRORS_TYPE)


def data_columns(df: DataFrame) -> list[str]:
    """Names of the columns that reach the target: all but `_record`."""
    return [name for name in df.columns if name != RECORD]


def _row_checks(checks: tuple[Check, ...]) -> Iterator[tuple[int, Check]]:
    return ((index, check) for index, check in enumerate(checks) if check.scope is Scope.ROW)


def _columns_of(checks: tuple[Check, ...]) -> list[str]:
    """Names of all columns that row checks look at."""
    return sorted({name for _, check in _row_checks(checks) for name in check.columns})


def _values(schema: StructType, columns: list[str], names: Iterable[str]) -> Column:
    """Struct of these columns' values, under these names; a DECIMAL as text, for JSON makes powers of ten of some."""
    types = [schema[column].dataType for column in columns]
    shown = [StringType() if isinstance(type_, DecimalType) else type_ for type_ in types]
    return F.struct(*map(quote, columns)).cast(StructType(list(map(StructField, names, shown))))


def _broken(index: int) -> str:
    return f"_esclusa_broken_{index}"


def _looked_at(index: int, check: Check) -> str | None:
    """The column that is not NULL exactly in the rows the check looks at; None if it looks at all."""
    if check.row_condition is None:
        if check.type in LOOKS_AT_NULL or check.kwargs.get("ignore_row_if") == "neither":
            return None
        if len(check.columns) == 1:
            return quote(check.columns[0])
    return f"_esclusa_looked_at_{index}"


def _flags(checks: tuple[Check, ...], schema: StructType) -> Iterator[Column]:
    is_so = F.lit(True)
    for index, check in _row_checks(checks):
        rule = compile_row_check(check, schema)
        yield F.when(rule.failed, is_so).alias(_broken(index))
        looked_at = _looked_at(index, check)
        if looked_at and not looked_at.startswith("`"):
            yield F.when(rule.considered, is_so).alias(looked_at)


def _directions(checks: tuple[Check, ...], record: set[str], gathering: Gathering) -> Iterator[Column]:
    set_apart = _any_broken(checks, OnFailure.QUARANTINE, OnFailure.FAIL)
    yield set_apart.alias(SET_APART)
    yield (_any_broken(checks, OnFailure.DROP) & ~set_apart).alias(DROPPED)
    yield _gather_key(set_apart, record, gathering).alias(GATHER_KEY)


def _any_broken(checks: tuple[Check, ...], *dispositions: OnFailure) -> Column:
    broken = [F.col(_broken(index)) for index, check in _row_checks(checks) if check.on_failure in dispositions]
    return F.coalesce(*broken, F.lit(False))


def _gather_key(is_bad: Column, record: set[str], gathering: Gathering) -> Column:
    size = F.coalesce(F.octet_length(raw_bytes(record)), F.lit(0))
    return F.when(is_bad, F.when(size <= gathering.row_bytes, F.lit(1)))


def _gather_malformed(record: set[str], gathering: Gathering) -> Column:
    is_malformed = F.col(MALFORMED).isNotNull()
    row = F.struct(
        raw_bytes(record).alias("raw"), coordinates(record).alias("source"), F.col(MALFORMED).alias("reason")
    )
    return _gather(row, is_malformed, _gather_key(is_malformed, record, gathering), gathering.rows)


def _gate_counts(checks: tuple[Check, ...]) -> Iterator[Column]:
    yield F.count(F.lit(1)).alias("rows")
    yield F.count_if(F.col(DROPPED)).alias("dropped")
    yield F.count_if(F.col(SET_APART)).alias("bad")
    for index, check in _row_checks(checks):
        yield F.count(_broken(index)).alias(f"unexpected_{index}")
        looked_at = _looked_at(index, check)
        if looked_at:
            yield F.count(looked_at).alias(f"considered_{index}")


def _gather_unfit(gate: Gate, gathering: Gathering) -> Iterator[Column]:
    broken, columns = [F.col(_broken(index)) for index, _ in _row_checks(gate.checks)], _columns_of(gate.checks)
    if broken:
        row = F.struct(
            raw_bytes(gate.record).alias("raw"),
            coordinates(gate.record).alias("source"),
            F.struct(*broken).alias("failed"),
            _values(gate.schema, columns, columns).alias("values"),
        )
        yield _gather(row, F.col(GATHER_KEY).isNotNull(), F.col(GATHER_KEY), gathering.rows)


def _gather(row: Column, is_bad: Column, key: Column, limit: int) -> Column:
    """JSON text of the bad rows; `max_by` with a limit keeps the aggregate's state bounded, collect_list does not.

    `max_by` evaluates the row before it looks at the key: the `when` spares good rows that.
    """
    kept = F.max_by(F.when(is_bad, row), key, limit)
    return F.to_json(kept, JSON_OPTIONS).alias("gathered")
