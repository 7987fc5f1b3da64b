"""Transform list -> DataFrame, lazily: SQL over `input`, and Python functions from jobs/transforms/."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession

import jobs.transforms
from jobs.pipeline.errors import ConfError, Problem
from jobs.pipeline.model import Pipeline, PythonTransform, SqlTransform, Transform
from jobs.pipeline.record import RECORD
from jobs.pipeline.sql_guard import UnsafeSqlError, check_select

INPUT_VIEW = "input"
_FIRST_SELECT = re.compile(r"^((?:\s|--[^\n]*\n|/\*.*?\*/)*SELECT)\b(?!\s+DISTINCT\b)", re.IGNORECASE | re.DOTALL)


def apply_transforms(df: DataFrame, pipeline: Pipeline) -> DataFrame:
    """Apply the transforms in order; starts no Spark job.

    In and out: `_record` plus data columns. A simple SELECT keeps `_record` by itself; others must select it.
    Raises ConfError, naming the transform, for SQL that Spark cannot analyse or that loses `_record`.
    """
    for index, transform in enumerate(pipeline.spec.transforms):
        try:
            df = _apply(df, transform, pipeline.root)
        except (PySparkException, ValueError) as error:
            raise _conf_error(pipeline, index, _first_line(error)) from error
        if RECORD not in df.columns:
            raise _conf_error(
                pipeline,
                index,
                f"its result has no {RECORD} column; keep it, for example SELECT *, or SELECT {RECORD}, …",
            )
    return df


def vet_transforms(spark: SparkSession, pipeline: Pipeline) -> None:
    """Refuse SQL outside what conf may say, before any of it is analysed; ConfError names the transform."""
    for index, transform in enumerate(pipeline.spec.transforms):
        if isinstance(transform, SqlTransform):
            try:
                check_select(spark, transform.sql)
            except UnsafeSqlError as error:
                raise _conf_error(pipeline, index, str(error)) from error


def _apply(df: DataFrame, transform: Transform, root: str) -> DataFrame:
    match transform:
        case SqlTransform(sql=sql):
            return _select(df, sql)
        case PythonTransform(python=name):
            return load_function(name, root)(df)


def _select(df: DataFrame, sql: str) -> DataFrame:
    df.createOrReplaceTempView(INPUT_VIEW)
    result = df.sparkSession.sql(sql)
    if RECORD in result.columns:
        return result
    try:
        return df.sparkSession.sql(_FIRST_SELECT.sub(rf"\1 {RECORD},", sql, count=1))
    except AnalysisException:
        return result


def load_function(name: str, root: str) -> Callable[[DataFrame], DataFrame]:
    """The function `module.function` of jobs/transforms/, in the bundle at `root` or in the installed package."""
    own_folder = str(Path(root) / "jobs" / "transforms")
    if own_folder not in jobs.transforms.__path__:
        jobs.transforms.__path__.insert(0, own_folder)
    module, _, function = name.rpartition(".")
    found = importlib.import_module(f"jobs.transforms.{module}")
    return cast("Callable[[DataFrame], DataFrame]", getattr(found, function))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _conf_error(pipeline: Pipeline, index: int, message: str) -> ConfError:
    return ConfError([Problem(pipeline.file, pipeline.transform_lines[index], f"transforms[{index}]", message)])
