"""What all types of the conf language share: unknown keys are errors, values are as Spark reads them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from jobs.pipeline.durations import check_duration, check_wait
from jobs.pipeline.path_text import check_absolute


def as_option(value: Any) -> Any:
    """Spark reads options as text: true and false as Spark spells them, numbers as they are written; all else stays."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Option = Annotated[str, BeforeValidator(as_option)]
Duration = Annotated[str, AfterValidator(check_duration)]
Wait = Annotated[str, AfterValidator(check_wait)]
"""A duration that somebody can wait for: not nothing, at most a year."""
Location = Annotated[str, Field(min_length=1), AfterValidator(check_absolute)]
"""Where a directory or table lies, never relative to a working directory, as which Spark takes an empty one too."""
ColumnName = Annotated[str, Field(min_length=1, max_length=255)]


class Strict(BaseModel):
    """Base of every conf type: unknown keys are errors, instances never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
