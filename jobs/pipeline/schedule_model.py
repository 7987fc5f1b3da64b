"""The conf language of time: when batches start, and when runs do."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, RootModel, Tag, model_validator

from jobs.pipeline.cron import check_cron
from jobs.pipeline.strict import Duration, Strict


class Trigger(Strict):
    """When batches start: once through what is there, or at an interval until stopped."""

    available_now: Literal[True] | None = None
    processing_time: Duration | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Trigger":
        if (self.available_now is None) == (self.processing_time is None):
            message = "exactly one of available_now: true, processing_time: <duration>"
            raise ValueError(message)
        return self


class Cron(RootModel[Annotated[str, AfterValidator(check_cron)]]):
    """Runs at times: five fields of cron, in UTC, or a preset such as @hourly."""

    model_config = ConfigDict(frozen=True, strict=True)


class After(Strict):
    """Runs when other pipelines have committed rows."""

    after: Annotated[list[str], Field(min_length=1)]
    """Names of pipelines; a run starts once each of them has committed rows since the last one."""


def _schedule_kind(value: Any) -> str | None:
    if isinstance(value, str | Cron):
        return "cron"
    return "after" if isinstance(value, dict | After) else None


Schedule = Annotated[
    Annotated[Cron, Tag("cron")] | Annotated[After, Tag("after")],
    Discriminator(
        _schedule_kind,
        custom_error_type="schedule_kind",
        custom_error_message="a schedule is a cron expression, a preset such as '@hourly', or {after: [pipelines]}",
    ),
]
