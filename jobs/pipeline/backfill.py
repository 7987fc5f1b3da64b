"""Backfill: each folder of a dated archive is a pipeline of its own, beside the live one. No Spark, no I/O.

It has the live pipeline's transforms, checks and tables, and its own name, checkpoint, lease and ledger: what it reads
it reads once, whichever interval asks for it, and nothing of it touches the live pipeline's progress.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from fnmatch import fnmatchcase

from jobs.pipeline.dated_path import Interval, find_times, name_folder, read_stamp, stamp_time
from jobs.pipeline.errors import ConfError, Problem
from jobs.pipeline.model import ARCHIVED, Pipeline, PipelineSpec
from jobs.pipeline.path_text import folders_of
from jobs.pipeline.schedule_model import Cron
from jobs.pipeline.source_model import FilesSource

_CLEANING = frozenset({"cleanSource", "sourceArchiveDir", "retentionDuration"})
"""Options by which Spark removes what it has read: an archive stays."""
_DIRECTIVE = re.compile("%[A-Za-z]")


def find_faults(spec: PipelineSpec) -> Iterator[tuple[tuple[str, ...], str]]:
    """Why a pipeline that names an archive cannot be backfilled: paths of keys, and messages."""
    if spec.backfill is None:
        return
    key = ("backfill",)
    if not isinstance(spec.source, FilesSource):
        message = f"only files sources can be backfilled, from folders by date; a {spec.source.type} source cannot"
        yield key, f"{message}: a stream reads it on from where it is, and knows no end"
    elif _overlap(spec.source.path, spec.backfill.path):
        message = f"overlaps source.path ({spec.source.path}): the live run would read the same files again"
        yield ("backfill", "path"), message
    if not spec.trigger.available_now:
        yield key, "a pipeline with processing_time runs until stopped; only runs that end can be those of an interval"
    elif not isinstance(spec.schedule, Cron):
        yield key, "needs a schedule by time (cron or a preset): intervals lie between its times"
    if spec.fleet is not None:
        yield key, "pipelines of a fleet share their runs, and an interval is one pipeline's; remove one of the two"


def name_interval(live: str, archive: str, interval: Interval) -> list[str]:
    """Names of the pipelines over those folders of an archive whose time begins within the interval, oldest first."""
    return [f"{live}{ARCHIVED}{stamp_time(archive, time)}" for time in find_times(archive, interval)]


def derive(live: Pipeline, stamp: str) -> Pipeline:
    """The pipeline over one folder of a live pipeline's archive; ConfError if there is no such folder to be named."""
    archive = _require_archive(live)
    try:
        return _derive(live, archive, read_stamp(archive, stamp))
    except ValueError as error:
        raise ConfError([Problem(live.file, 1, "backfill.path", str(error))]) from error


def derive_interval(live: Pipeline, interval: Interval) -> list[Pipeline]:
    """As `derive`, for all folders whose time begins within the interval, whether they are there or not."""
    archive = _require_archive(live)
    return [_derive(live, archive, time) for time in find_times(archive, interval)]


def _require_archive(live: Pipeline) -> str:
    if live.spec.backfill is None:
        message = "missing: it names the archive, a folder of which is asked for"
        raise ConfError([Problem(live.file, 1, "backfill", message)])
    return live.spec.backfill.path


def _derive(live: Pipeline, archive: str, time: datetime) -> Pipeline:
    suffix = f"{ARCHIVED}{stamp_time(archive, time)}"
    return live.model_copy(
        update={
            "name": f"{live.name}{suffix}",
            "spec": _derive_spec(live.spec, name_folder(archive, time)),
            "checkpoint": f"{live.checkpoint}{suffix}",
            "ledger_path": f"{live.ledger_path}{suffix}",
            "lease_path": f"{live.lease_path}{suffix}",
            "maintenance": None,
        }
    )


def _derive_spec(spec: PipelineSpec, folder: str) -> PipelineSpec:
    options = {key: value for key, value in spec.source.options.items() if key not in _CLEANING}
    source = spec.source.model_copy(update={"path": folder, "options": options})
    return spec.model_copy(update={"source": source, "schedule": None, "backfill": None, "maintenance": None})


def _overlap(live: str, archive: str) -> bool:
    """Whether one may lie in the other, or be it. What cannot be told, of globs and dates, counts as being so."""
    return all(map(_may_be_one, folders_of(live), folders_of(archive)))


def _may_be_one(live: str, archived: str) -> bool:
    if _DIRECTIVE.search(archived):
        is_glob = not set("*?[{").isdisjoint(live)
        return is_glob or re.fullmatch(_DIRECTIVE.sub("[0-9]+", re.escape(archived)), live) is not None
    return "{" in live or fnmatchcase(archived, live)
