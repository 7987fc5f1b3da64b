"""Options and exit codes that every command shares. Imports nothing heavy."""

import functools
import re
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from jobs.pipeline import lifeline
from jobs.pipeline.bundle import Bundle
from jobs.pipeline.dated_path import Interval
from jobs.pipeline.errors import ConfError, EsclusaError, Problem, UnavailableError

_COLOUR = re.compile(r"\x1b\[\d+m")
"""Which delta-rs puts into what it says of files."""


class _Variable(click.ParamType[tuple[str, str]]):
    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, separator, text = str(value).partition("=")
        if not separator or not key:
            self.fail(f"'{value}' is not key=value", param, ctx)
        return key, text


class _Time(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            time = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"'{value}' is no time of ISO 8601, such as 2026-01-31 or 2026-01-31T12:00:00Z", param, ctx)
        return time if time.tzinfo else time.replace(tzinfo=UTC)


def interval_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --interval-start and --interval-end; the command receives an `interval`, or None if neither is given.

    To be put under `bundle_options`: ConfError for one without the other, and for an interval that is empty.
    """

    @click.option("--interval-start", type=_Time(), metavar="TIME", help="Of the archive, what begins from then on.")
    @click.option(
        "--interval-end", type=_Time(), metavar="TIME", help="And before then. ISO 8601; UTC if it says none."
    )
    @functools.wraps(command)
    def with_interval(interval_start: datetime | None, interval_end: datetime | None, **rest: Any) -> Any:
        return command(interval=_as_interval(interval_start, interval_end), **rest)

    return with_interval


def _as_interval(start: datetime | None, end: datetime | None) -> Interval | None:
    if start is None and end is None:
        return None
    if start is None or end is None:
        raise ConfError([Problem("--interval-start", None, "", "it and --interval-end need each other")])
    if start >= end:
        raise ConfError([Problem("--interval-end", None, "", f"{end} is not behind the start, {start}")])
    return Interval(start, end)


def bundle_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --conf, --target and --var; the command receives a `bundle`. EsclusaErrors become exit codes."""
    folder = click.Path(path_type=Path)

    @click.option("--conf", type=folder, default=Path("conf"), show_default=True, help="Conf directory.")
    @click.option("--target", default="local", show_default=True, help="Environment: a file in conf/targets/.")
    @click.option("--var", "variables", type=_Variable(), multiple=True, help="Overrides a variable of the target.")
    @functools.wraps(command)
    def with_bundle(conf: Path, target: str, variables: tuple[tuple[str, str], ...], **rest: Any) -> None:
        lifeline.follow_environment()
        exit_code = run_guarded(lambda: command(bundle=Bundle(conf, target, dict(variables)), **rest))
        if exit_code:
            sys.exit(exit_code)

    return with_bundle


def run_guarded(action: Callable[[], int | None]) -> int:
    """Run an action; failures are printed once, and returned as their exit code.

    What the operating system refuses, such as a file of another user, is an UnavailableError.
    """
    try:
        return action() or 0
    except EsclusaError as error:
        print_error(error)
        return error.exit_code
    except OSError as error:
        unavailable = UnavailableError(" ".join(_COLOUR.sub("", str(error)).split()))
        print_error(unavailable)
        return unavailable.exit_code
    except Exception:  # noqa: BLE001 - the last resort of a command: whatever it is, it has exit code 1
        traceback.print_exc()
        return 1


def print_error(error: EsclusaError) -> None:
    """What went wrong, on standard error, behind its stable code."""
    if isinstance(error, ConfError):
        click.echo(str(error), err=True)
        count = len(error.problems)
        click.echo(f"{error.code}: {count} problem{'s' if count != 1 else ''}; nothing was started", err=True)
    else:
        hint = " (trying again later can help)" if error.is_retryable else ""
        click.echo(f"{error.code}: {error}{hint}", err=True)
