"""checks x batch -> Verdict, in one scan: rows are annotated, counted, and the few bad ones gathered.

The scan that inspects can be the scan that writes: `annotate` and `gate_metrics` only add columns and an
observation to the plan. All decisions are made on the numbers that come back, once, in `judge`.
"""

import json
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.pipeline.model import Check, OnFailure, Quality, Scope
from jobs.pipeline.quality.expectations import (
    RowRule,
    column,
    compile_row_check,
    holds_for_count,
    holds_for_schema,
)
from jobs.pipeline.record import MALFORMED, RECORD, envelope, record_fields

MAX_GATHERED_ROWS = 50_000
MAX_GATHERED_ROW_BYTES = 2_048
"""Together they bound what one batch can bring to the driver to about 100 MB; beyond it a second scan writes."""

SET_APART = "_esclusa_set_apart"
DROPPED = "_esclusa_dropped"
_SHOWN_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one check came out for one batch; counts are rows, as Great Expectations counts them."""

    check: Check
    element_count: int
    unexpected_count: int
    success: bool


@dataclass(frozen=True, slots=True)
class SetApart:
    """Rows for the quarantine: how many, and the gathered ones (all of them, unless a limit was passed)."""

    count: int
    rows: tuple[dict[str, Any], ...]

    @property
    def is_complete(self) -> bool:
        """Whether every row set apart has been gathered."""
        return len(self.rows) == self.count


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of one batch: computed once, read by sink, ledger, report and error message."""

    rows_read: int
    malformed: SetApart
    rows_shaped: int
    """Rows that came out of the transforms."""
    unfit: SetApart
    """Well-formed rows that a check sets apart."""
    rows_dropped: int
    """Rows that a check drops."""
    results: tuple[CheckResult, ...]
    held_because: tuple[str, ...]

    @property
    def rows_quarantined(self) -> int:
        """Malformed rows plus rows that checks set apart."""
        return self.malformed.count + self.unfit.count

    @property
    def rows_passed(self) -> int:
        """Rows for the target."""
        return self.rows_shaped - self.unfit.count - self.rows_dropped

    @property
    def rows_filtered(self) -> int:
        """Rows that transforms left out; negative where they made several out of one."""
        return self.rows_read - self.malformed.count - self.rows_shaped


@dataclass(frozen=True, slots=True)
class Gate:
    """A suite compiled for one schema; holds Columns, no data."""

    checks: tuple[Check, ...]
    rules: dict[str, RowRule]
    schema: StructType
    quality: Quality

    @property
    def can_hold(self) -> bool:
        """Whether some outcome would keep the batch from the target, so that the verdict must come first."""
        return self.quality.halt_when is not None or any(c.on_failure is OnFailure.FAIL for c in self.checks)

    def failed(self, *dispositions: OnFailure) -> Column:
        """Rows that break a row check of one of these dispositions; never NULL."""
        broken = [
            F.col(_flag(index))
            for index, check in enumerate(self.checks)
            if check.scope is Scope.ROW and check.on_failure in dispositions
        ]
        return reduce(or_, broken, F.lit(False)) if len(broken) != 1 else broken[0]


def compile_gate(checks: tuple[Check, ...], quality: Quality, schema: StructType) -> Gate:
    """Compile the checks for a frame of this schema (`_record` plus data columns); starts no Spark job."""
    rules = {check.name: compile_row_check(check) for check in checks if check.scope is Scope.ROW}
    return Gate(checks, rules, schema, quality)


def annotate(df: DataFrame, gate: Gate) -> DataFrame:
    """The frame plus one Boolean column a row check, and the two that say where a row goes."""
    flags = [
        gate.rules[check.name].failed.alias(_flag(index))
        for index, check in enumerate(gate.checks)
        if check.scope is Scope.ROW
    ]
    flagged = df.select("*", *flags)
    set_apart = gate.failed(OnFailure.QUARANTINE, OnFailure.FAIL)
    dropped = gate.failed(OnFailure.DROP) & ~set_apart
    return flagged.select("*", set_apart.alias(SET_APART), dropped.alias(DROPPED))


def passed(annotated: DataFrame, names: list[str]) -> DataFrame:
    """Rows for the target, with these columns only."""
    return annotated.where(~F.col(SET_APART) & ~F.col(DROPPED)).select(*(column(name) for name in names))


def malformed_rows(parsed: DataFrame) -> DataFrame:
    """Envelopes (raw, source, _errors) of the malformed rows."""
    return parsed.where(F.col(MALFORMED).isNotNull()).select(_malformed_envelope(parsed).alias("row")).select("row.*")


def unfit_rows(annotated: DataFrame, gate: Gate) -> DataFrame:
    """Envelopes (raw, source, _errors) of the rows that checks set apart."""
    return annotated.where(F.col(SET_APART)).select(_unfit_envelope(annotated, gate).alias("row")).select("row.*")


def source_metrics(parsed: DataFrame) -> list[Column]:
    """What to observe on parsed rows: rows read, malformed rows, and those gathered."""
    is_malformed = F.col(MALFORMED).isNotNull()
    return [
        F.count(F.lit(1)).alias("rows"),
        F.count_if(is_malformed).alias("bad"),
        _gather(is_malformed, _malformed_envelope(parsed)).alias("gathered"),
    ]


def gate_metrics(annotated: DataFrame, gate: Gate) -> list[Column]:
    """What to observe on annotated rows: rows, the dropped, the set apart, and two counts a row check."""
    metrics = [F.count(F.lit(1)).alias("rows"), F.count_if(F.col(DROPPED)).alias("dropped")]
    for index, check in enumerate(gate.checks):
        if check.scope is Scope.ROW:
            metrics.append(F.count_if(F.col(_flag(index))).alias(f"unexpected_{index}"))
            metrics.append(F.count_if(gate.rules[check.name].considered).alias(f"considered_{index}"))
    if gate.rules:
        bad = F.col(SET_APART)
        metrics.append(F.count_if(bad).alias("bad"))
        metrics.append(_gather(bad, _unfit_envelope(annotated, gate)).alias("gathered"))
    return metrics


def judge(gate: Gate, source: dict[str, Any], gated: dict[str, Any]) -> Verdict:
    """Observed numbers -> Verdict; pure. Rules: `mostly` sets when a check fails for the batch."""
    results = tuple(_result(gate, index, check, gated) for index, check in enumerate(gate.checks))
    malformed = SetApart(source["bad"], _gathered(source))
    unfit = SetApart(gated.get("bad", 0), _gathered(gated))
    return Verdict(
        rows_read=source["rows"],
        malformed=malformed,
        rows_shaped=gated["rows"],
        unfit=unfit,
        rows_dropped=gated["dropped"],
        results=results,
        held_because=_reasons_to_hold(gate.quality, results, source["rows"], malformed.count + unfit.count),
    )


def _flag(index: int) -> str:
    return f"_esclusa_failed_{index}"


def _gather(is_bad: Column, row: Column) -> Column:
    """JSON text of the bad rows; `max_by` with a limit keeps the aggregate's state bounded, collect_list does not."""
    small = F.octet_length(F.coalesce(row["raw"], F.lit(b""))) <= MAX_GATHERED_ROW_BYTES
    key = F.when(is_bad, F.when(small, F.lit(1)))
    kept = F.max_by(F.when(is_bad, row), key, MAX_GATHERED_ROWS)
    return F.to_json(kept, {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"})


def _gathered(metrics: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    text = metrics.get("gathered")
    return tuple(json.loads(text)) if text else ()


def _malformed_envelope(parsed: DataFrame) -> Column:
    error = F.struct(
        F.lit("malformed").alias("check"), F.lit(None).cast("string").alias("column"), F.col(MALFORMED).alias("message")
    )
    return envelope(record_fields(parsed.schema), F.array(error))


def _unfit_envelope(annotated: DataFrame, gate: Gate) -> Column:
    errors = [
        F.when(F.col(_flag(index)), _error(check))
        for index, check in enumerate(gate.checks)
        if check.scope is Scope.ROW
    ]
    return envelope(record_fields(annotated.schema), F.array_compact(F.array(*errors)))


def _error(check: Check) -> Column:
    values = [
        F.coalesce(F.left(column(name).cast("string"), F.lit(_SHOWN_CHARACTERS)), F.lit("NULL"))
        for name in check.columns
    ]
    rule = ", ".join(f"{key}={value}" for key, value in check.kwargs.items() if value not in (None, False))
    shown = F.concat_ws(", ", *values)
    return F.struct(
        F.lit(check.name).alias("check"),
        F.lit(", ".join(check.columns)).alias("column"),
        F.concat(shown, F.lit(f": {check.type}{f' ({rule})' if rule else ''}")).alias("message"),
    )


def _result(gate: Gate, index: int, check: Check, gated: dict[str, Any]) -> CheckResult:
    rows = gated["rows"]
    match check.scope:
        case Scope.SCHEMA:
            return CheckResult(check, rows, 0, holds_for_schema(check, gate.schema))
        case Scope.BATCH:
            return CheckResult(check, rows, 0, holds_for_count(check, rows))
        case Scope.ROW:
            considered, unexpected = gated[f"considered_{index}"], gated[f"unexpected_{index}"]
            success = considered == 0 or (considered - unexpected) / considered >= check.mostly
            return CheckResult(check, considered, unexpected, success)


def _reasons_to_hold(
    quality: Quality, results: tuple[CheckResult, ...], rows_read: int, rows_bad: int
) -> tuple[str, ...]:
    reasons = [
        f"check {result.check.name} failed: {result.unexpected_count:,} of {result.element_count:,} rows"
        for result in results
        if not result.success and result.check.on_failure is OnFailure.FAIL
    ]
    share = rows_bad / rows_read if rows_read else 0.0
    if quality.halt_when and share > quality.halt_when.quarantined_share_above:
        limit = quality.halt_when.quarantined_share_above
        reasons.append(f"{share:.2%} of the rows would be quarantined, above the limit of {limit:.2%}")
    return tuple(reasons)


def data_columns(df: DataFrame) -> list[str]:
    """Names of the columns that reach the target: all but `_record`."""
    return [name for name in df.columns if name != RECORD]
