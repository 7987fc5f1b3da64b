"""The conf language: frozen types that say which keys a pipeline may have. No Spark, no I/O."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from jobs.pipeline.dated_path import check_dated_path
from jobs.pipeline.schedule_model import After, Cron, Schedule, Trigger
from jobs.pipeline.source_model import Source
from jobs.pipeline.strict import Location, Option, Strict, Wait
from jobs.pipeline.table_model import DeltaSink, Maintenance

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
ARCHIVED = "@"
"""In the name of a pipeline over a folder of an archive: behind the live pipeline's name, before the folder's time."""
_ANY_NAME_PATTERN = rf"^[a-z][a-z0-9_]{{0,62}}({ARCHIVED}[0-9T-]{{4,15}})?$"


def live_name(name: str) -> str:
    """Of a pipeline over a folder of an archive, the name of the pipeline whose archive it is; else the name itself."""
    return name.partition(ARCHIVED)[0]


class SqlTransform(Strict):
    """One SELECT over `input`; its result is the next transform's `input`."""

    sql: Annotated[str, Field(min_length=1, max_length=100_000)]


class PythonTransform(Strict):
    """A function `module.function` in jobs/transforms/: DataFrame -> DataFrame."""

    python: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")]


def _transform_kind(value: Any) -> str | None:
    """The one key that a transform has, or None: then pydantic reports one fault instead of one for each kind."""
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    kinds = [kind for kind in ("sql", "python") if kind in keys]
    return kinds[0] if len(kinds) == 1 else None


Transform = Annotated[
    Annotated[SqlTransform, Tag("sql")] | Annotated[PythonTransform, Tag("python")],
    Discriminator(
        _transform_kind,
        custom_error_type="transform_kind",
        custom_error_message="a transform has one key: sql (a SELECT over input) or python (module.function)",
    ),
]


class OnFailure(StrEnum):
    """What happens to a row that breaks a check, or to its batch."""

    EXPECT = "expect"
    DROP = "expect_or_drop"
    QUARANTINE = "expect_or_quarantine"
    FAIL = "expect_or_fail"


class Backfill(Strict):
    """An archive of the source's past, with a folder for each stretch of time, which the live pipeline never reads."""

    path: Annotated[Location, AfterValidator(check_dated_path)]
    """The folders, with their time in strftime's directives, in UTC; format, schema and options are the source's."""


class HaltWhen(Strict):
    """Limits that hold a whole batch."""

    quarantined_share_above: float = Field(ge=0, lt=1, strict=False)
    """Share of the batch's rows, 0 to 1; above it nothing of the batch is written."""


class Quality(Strict):
    """Which checks guard the pipeline, and what breaking one means."""

    suite: str | None = None
    """Name of `conf/suites/<name>.json`; by default the pipeline's own name, if that file exists."""
    on_failure: OnFailure = Field(default=OnFailure.QUARANTINE, strict=False)
    halt_when: HaltWhen | None = None


class Scope(StrEnum):
    """What a check looks at: each row, the batch as a whole, or the columns' names and types."""

    ROW = "row"
    BATCH = "batch"
    SCHEMA = "schema"


class Check(Strict):
    """One expectation of a suite, bound: what to test, on which rows, and what breaking it means."""

    name: str
    """Unique in its suite; stands in the ledger and in `_errors`."""
    type: str
    """Great Expectations' own name, such as expect_column_values_to_be_between."""
    scope: Scope
    columns: tuple[str, ...]
    kwargs: dict[str, Any]
    """The expectation's own parameters, validated; without column, mostly and row_condition."""
    mostly: float = 1.0
    row_condition: str | dict[str, Any] | None = None
    on_failure: OnFailure
    file: str
    line: int


class WhenHeld(StrEnum):
    """What the orchestrator does about a batch that the gate holds."""

    ASK = "ask"
    """It asks a person."""
    FAIL = "fail"
    """The run fails."""


class PipelineSpec(Strict):
    """One file of conf/pipelines, as its author writes it."""

    description: str = ""
    source: Source
    transforms: list[Transform] = []
    quality: Quality = Quality()
    sink: DeltaSink
    trigger: Trigger = Trigger(available_now=True)
    schedule: Schedule | None = None
    """When the orchestrator starts a run; None: never by itself. A run started by hand does not look at it."""
    backfill: Backfill | None = None
    """What a run of a past interval reads in place of the source; None: the past cannot be read."""
    fleet: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    """Pipelines that share this name run in one Spark application, on one schedule."""
    maintenance: Maintenance | None = None
    """None: the target's, if it has one; else nobody maintains the tables."""
    when_held: WhenHeld = Field(default=WhenHeld.ASK, strict=False)
    """What the orchestrator does about a held batch; the batch is held either way."""
    decision_timeout: Wait = "1 day"
    """How long the orchestrator waits for an answer; without one the batch stays held and the run fails."""

    @model_validator(mode="after")
    def _only_a_question_has_a_timeout(self) -> "PipelineSpec":
        if self.when_held is WhenHeld.FAIL and "decision_timeout" in self.model_fields_set:
            raise ValueError("decision_timeout: with when_held: fail nobody is asked; remove one of the two")
        return self

    @model_validator(mode="after")
    def _only_runs_that_end_are_scheduled(self) -> "PipelineSpec":
        for key, value in (("schedule", self.schedule), ("fleet", self.fleet)):
            if value is not None and not self.trigger.available_now:
                message = f"{key}: a pipeline with processing_time runs until stopped; remove it, or set available_now"
                raise ValueError(message)
        return self

    @property
    def upstream(self) -> list[str]:
        """Names of the pipelines that this one runs after."""
        return self.schedule.after if isinstance(self.schedule, After) else []


class TargetSpec(Strict):
    """One file of conf/targets: an environment."""

    variables: dict[str, Option] = {}
    state: Location
    """Directory for checkpoints, ledgers and leases; every driver that may run a pipeline must reach it."""
    spark: dict[str, Option] = {}
    """Spark options for `esclusa run`; under spark-submit its own --conf and --properties-file decide."""
    maintenance: Maintenance | None = None
    """For pipelines that have none of their own."""
    maintenance_schedule: Cron = Cron("@weekly")
    """When the orchestrator maintains the tables of all pipelines that have a policy."""


class Pipeline(Strict):
    """Everything that a run needs to know, validated and resolved; what every stage receives a piece of."""

    name: str = Field(pattern=_ANY_NAME_PATTERN)
    spec: PipelineSpec
    file: str
    """The pipeline's own file, as messages name it; `transform_lines` are the lines of its transforms."""
    transform_lines: tuple[int, ...]
    schema_ddl: str | None
    """Text of the schema file; None where the format carries its own schema."""
    checks: tuple[Check, ...]
    """The suite's expectations, in file order; empty if the pipeline has no suite."""
    root: str
    """Directory that holds conf/ and, if there is one, jobs/transforms/."""
    checkpoint: str
    ledger_path: str
    quarantine_path: str
    lease_path: str
    spark: dict[str, str]
    maintenance: Maintenance | None = None
    """The pipeline's own, or the target's."""

    @property
    def live_name(self) -> str:
        """The pipeline's own name; of one over a folder of an archive, that of the pipeline whose archive it is."""
        return live_name(self.name)

    @property
    def can_be_held(self) -> bool:
        """Whether any check or limit can hold a batch."""
        fails = any(check.on_failure is OnFailure.FAIL for check in self.checks)
        return fails or self.spec.quality.halt_when is not None

    @property
    def asks_when_held(self) -> bool:
        """Whether the orchestrator may have to ask a person about a held batch."""
        return self.can_be_held and self.spec.when_held is WhenHeld.ASK
