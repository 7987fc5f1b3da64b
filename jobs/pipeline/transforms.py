"""Transform list -> DataFrame, lazily: SQL over `input`, and Python functions from jobs/transforms/."""

import hashlib
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import cast

from py4j.protocol import Py4JError
from pyspark.cloudpickle import register_pickle_by_value
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession

import jobs.transforms
from jobs.pipeline.errors import ConfError, Problem
from jobs.pipeline.model import Pipeline, PythonTransform, SqlTransform, Transform
from jobs.pipeline.record import RECORD
from jobs.pipeline.sql_guard import UnsafeSqlError, check_select, find_unrepeatable

INPUT_VIEW = "input"
_INSTALLED = str(Path(jobs.__file__).parent / "transforms")
# Delta's SQL extension does not hand named parameters on to Spark's parser, so the literal is put in as text.
_CLOCK = re.compile(r":batch_time\b")
_FIRST_SELECT = re.compile(r"^((?:\s|--[^\n]*\n|/\*.*?\*/)*SELECT)\b(?!\s+DISTINCT\b)", re.IGNORECASE | re.DOTALL)


def apply_transforms(df: DataFrame, pipeline: Pipeline, batch_time: datetime) -> DataFrame:
    """Apply the transforms in order; starts no Spark job.

    In and out: `_record` plus data columns. A simple SELECT keeps `_record` by itself; others must select it.
    SQL reads the batch's clock as `:batch_time`. Raises ConfError, naming the transform, for SQL that Spark cannot
    analyse, for Python that fails or returns no DataFrame, and for a result that lost `_record`.
    """
    for _, shaped in _results(df, pipeline, batch_time):
        df = shaped
    return df


def vet_sql(spark: SparkSession, pipeline: Pipeline) -> None:
    """Refuse SQL outside what conf may say, before any of it is analysed; ConfError names the transform."""
    for index, transform in enumerate(pipeline.spec.transforms):
        if isinstance(transform, SqlTransform):
            try:
                check_select(spark, transform.sql)
            except UnsafeSqlError as error:
                raise _conf_error(pipeline, index, str(error)) from error


def vet_repeatable(df: DataFrame, pipeline: Pipeline, batch_time: datetime) -> None:
    """Refuse transforms whose result changes from one run to the next; ConfError names the transform."""
    for index, shaped in _results(df, pipeline, batch_time):
        reason = find_unrepeatable(shaped)
        if reason:
            raise _conf_error(pipeline, index, reason)


def hash_functions(pipeline: Pipeline) -> list[str]:
    """A hash of each Python transform's module, in order: an edit of the code is an edit of the rules."""
    return [
        hashlib.sha256(inspect.getsource(_load_module(transform.python, pipeline.root)).encode()).hexdigest()
        for transform in pipeline.spec.transforms
        if isinstance(transform, PythonTransform)
    ]


def _results(df: DataFrame, pipeline: Pipeline, batch_time: datetime) -> Iterator[tuple[int, DataFrame]]:
    for index, transform in enumerate(pipeline.spec.transforms):
        try:
            df = _apply(df, transform, pipeline.root, batch_time)
        except (Py4JError, OSError):  # the JVM is ill, or what the code reaches for is away: conf may be right
            raise
        except Exception as error:
            raise _conf_error(pipeline, index, _first_line(error)) from error
        names = df.columns
        if RECORD not in names:
            raise _conf_error(
                pipeline,
                index,
                f"its result has no {RECORD} column; keep it, for example SELECT *, or SELECT {RECORD}, …",
            )
        twice = ", ".join(_names_twice(names))
        if twice:
            message = f"its result has more than one column {twice} (case does not count); SELECT * EXCEPT ({twice}), …"
            raise _conf_error(pipeline, index, message)
        yield index, df


def _names_twice(names: list[str]) -> list[str]:
    counts = Counter(name.lower() for name in names)
    return [name for name, count in counts.items() if count > 1]


def _apply(df: DataFrame, transform: Transform, root: str, batch_time: datetime) -> DataFrame:
    match transform:
        case SqlTransform(sql=sql):
            return _select(df, sql, batch_time)
        case PythonTransform(python=name):
            return _call(name, root, df)


def _call(name: str, root: str, df: DataFrame) -> DataFrame:
    result: object = load_function(name, root)(df)
    if not isinstance(result, DataFrame):
        message = f"{name} returned {result!r:.100}, where a DataFrame is needed"
        raise TypeError(message)
    return result


def _select(df: DataFrame, sql: str, batch_time: datetime) -> DataFrame:
    df.createOrReplaceTempView(INPUT_VIEW)
    sql = _CLOCK.sub(f"TIMESTAMP '{batch_time.isoformat()}'", sql)
    result = df.sparkSession.sql(sql)
    if RECORD in result.columns:
        return result
    try:
        return df.sparkSession.sql(_FIRST_SELECT.sub(rf"\1 {RECORD},", sql, count=1))
    except AnalysisException:
        return result


def load_function(name: str, root: str) -> Callable[[DataFrame], DataFrame]:
    """The function `module.function` of jobs/transforms/, in the bundle at `root` or in the installed package."""
    function = name.rpartition(".")[2]
    return cast("Callable[[DataFrame], DataFrame]", getattr(_load_module(name, root), function))


def _load_module(name: str, root: str) -> ModuleType:
    own_folder = str(Path(root) / "jobs" / "transforms")
    if own_folder not in jobs.transforms.__path__:
        jobs.transforms.__path__.insert(0, own_folder)
    module = importlib.import_module(f"jobs.transforms.{name.rpartition('.')[0]}")
    if own_folder != _INSTALLED:  # no module of the workers that run its functions
        register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    return module


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return text if isinstance(error, PySparkException) else f"{type(error).__name__}: {text}"


def _conf_error(pipeline: Pipeline, index: int, message: str) -> ConfError:
    return ConfError([Problem(pipeline.file, pipeline.transform_lines[index], f"transforms[{index}]", message)])
