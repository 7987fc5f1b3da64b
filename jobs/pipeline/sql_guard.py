"""What SQL in conf may say: row by row over `input`, nothing else. Looks at Spark's own parse tree, never at text.

Conf authors are semi-trusted: no files, tables or catalogs, no JVM reflection, no scripts, no subqueries.
"""

import json
from collections.abc import Iterator
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import ParseException
from pyspark.sql import DataFrame, SparkSession

from jobs.pipeline.jvm import jvm_class

ALLOWED_PLAN_NODES = frozenset(
    "Project Filter SubqueryAlias UnresolvedRelation UnresolvedWith Generate UnresolvedSubqueryColumnAliases "
    "OneRowRelation".split()
)
STATEFUL_PLAN_NODES = {
    "Aggregate": "it groups rows",
    "Distinct": "it removes duplicates",
    "Deduplicate": "it removes duplicates",
    "Sort": "it sorts",
    "GlobalLimit": "it limits rows",
    "LocalLimit": "it limits rows",
    "Window": "it uses a window",
    "WithWindowDefinition": "it uses a window",
    "Join": "it joins",
    "Union": "it unites",
}
_CHOICE = "it keeps some of several rows, and a replay may keep others"
_GROUPS = "it groups rows, and sees those of one batch only"
_TABLE = "it reads a table or files, which may hold other rows in a replay; a small lookup can stand in the code"
UNREPEATABLE_NODES = {
    **dict.fromkeys(["Deduplicate", "GlobalLimit", "LocalLimit", "Tail", "Offset", "Sample", "Window"], _CHOICE),
    **dict.fromkeys(
        "FlatMapGroupsInPandas FlatMapGroupsInArrow FlatMapCoGroupsInPandas FlatMapCoGroupsInArrow".split(), _GROUPS
    ),
    **dict.fromkeys(["LogicalRelation", "HiveTableRelation", "DataSourceV2Relation", "RelationV2"], _TABLE),
}
"""Of an analysed plan: what makes of the same rows other rows the next time. Python transforms can bring them in."""
DENIED_FUNCTIONS = frozenset(
    "reflect java_method try_reflect version current_user session_user user current_catalog current_database "
    "current_schema input_file_name input_file_block_start input_file_block_length spark_partition_id".split()
)
AGGREGATE_FUNCTIONS = frozenset(
    "count sum avg mean min max first last collect_list collect_set array_agg count_if any_value approx_count_distinct "
    "stddev variance median mode max_by min_by listagg string_agg percentile".split()
)
_FORM = "SELECT … FROM input [LATERAL VIEW …] [WHERE …]"


class UnsafeSqlError(ValueError):
    """SQL that conf may not hold; the message says what in it and why."""


def check_select(spark: SparkSession, sql: str) -> None:
    """Refuse all but row-wise SELECTs over `input`; nothing is resolved or run. Raises UnsafeSqlError."""
    nodes = _parse(spark, sql, "parsePlan")
    names = {"input"} | {_cte_name(node) for node in nodes if node.get("product-class") == "scala.Tuple3"}
    for node in nodes:
        _check_plan_node(node)
        _check_expression(node)
        if _class_of(node) == "UnresolvedRelation":
            _check_relation(_parts(node["multipartIdentifier"]), names)


def check_predicate(spark: SparkSession, sql: str) -> None:
    """Refuse a SQL predicate that is more than an expression over columns. Raises UnsafeSqlError."""
    for node in _parse(spark, sql, "parseExpression"):
        _check_expression(node)


def find_unrepeatable(df: DataFrame) -> str | None:
    """Why the frame would not have the same rows in a replay of its batch, or None; starts no Spark job."""
    plan = df._jdf.queryExecution().analyzed()  # noqa: SLF001 - PySpark does not show the plan's properties
    pattern = jvm_class(df.sparkSession, "org.apache.spark.sql.catalyst.trees.TreePattern")
    if plan.containsPattern(pattern.CURRENT_LIKE()):
        return "it looks at the clock or the session, which differ in a replay; the batch's own time is :batch_time"
    if not plan.deterministic():
        return "it uses a function whose result a replay would change (rand, uuid, monotonically_increasing_id, …)"
    return next((UNREPEATABLE_NODES[name] for name in _node_names(plan) if name in UNREPEATABLE_NODES), None)


def _node_names(plan: Any) -> Iterator[str]:
    """Of a plan of Spark's, and of the subqueries in its expressions, from the top down."""
    yield str(plan.nodeName())
    for below in (plan.children(), plan.subqueries()):
        for index in range(below.size()):
            yield from _node_names(below.apply(index))


def _parse(spark: SparkSession, sql: str, method: str) -> list[dict[str, Any]]:
    parser = spark._jsparkSession.sessionState().sqlParser()  # noqa: SLF001 - PySpark shows no parser of its own
    try:
        tree = getattr(parser, method)(sql)
        return list(_objects(json.loads(tree.toJSON())))
    except ParseException as error:
        raise UnsafeSqlError(str(error).strip().splitlines()[0]) from error
    except Py4JJavaError as error:
        message = "it uses a construct that cannot be checked"
        raise UnsafeSqlError(message) from error


def _objects(value: Any) -> Any:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _class_of(node: dict[str, Any]) -> str:
    return str(node.get("class", "")).rpartition(".")[2]


def _check_relation(parts: list[str], names: set[str]) -> None:
    if len(parts) != 1 or parts[0].lower() not in names:
        message = f"it reads {'.'.join(parts)}; only `input` can be read"
        raise UnsafeSqlError(message)


def _check_plan_node(node: dict[str, Any]) -> None:
    name, package = _class_of(node), str(node.get("class", ""))
    is_plan = ".plans.logical." in package or ".execution." in package or name == "UnresolvedTableValuedFunction"
    if not is_plan:
        return
    if name in STATEFUL_PLAN_NODES:
        message = (
            f"{STATEFUL_PLAN_NODES[name]}, which over a stream needs state; transforms work row by row for now: {_FORM}"
        )
        raise UnsafeSqlError(message)
    if name not in ALLOWED_PLAN_NODES:
        message = f"{name} is not allowed; write {_FORM}"
        raise UnsafeSqlError(message)


def _check_expression(node: dict[str, Any]) -> None:
    name = _class_of(node)
    if name in {"ListQuery", "ScalarSubquery", "Exists", "InSubquery", "LateralSubquery", "FunctionTableSubquery"}:
        message = "subqueries are not allowed"
        raise UnsafeSqlError(message)
    if name in {"UnresolvedFunction", "UnresolvedGenerator"}:
        _check_function(node)


def _check_function(node: dict[str, Any]) -> None:
    parts = [part.lower() for part in _function_name(node)]
    if not parts:
        return
    if len(parts) > 1 and parts[:-1] not in (["builtin"], ["system", "builtin"]):
        message = f"function {'.'.join(parts)} is not one of Spark's own"
        raise UnsafeSqlError(message)
    if parts[-1] in DENIED_FUNCTIONS:
        message = f"function {parts[-1]} is not allowed"
        raise UnsafeSqlError(message)
    if parts[-1] in AGGREGATE_FUNCTIONS:
        message = f"{parts[-1]}() groups rows, which over a stream needs state; transforms work row by row for now"
        raise UnsafeSqlError(message)


def _function_name(node: dict[str, Any]) -> list[str]:
    """A function has name parts; a generator (LATERAL VIEW) an identifier with optional database and catalog."""
    name = node.get("name")
    if not isinstance(name, dict):
        return _parts(node.get("nameParts", ""))
    return [str(name[key]) for key in ("catalog", "database", "funcName") if isinstance(name.get(key), str)]


def _cte_name(node: dict[str, Any]) -> str:
    return str(node.get("_1", "")).lower()


def _parts(text: Any) -> list[str]:
    """Spark prints a name's parts as `[a, b]`."""
    return [part.strip() for part in str(text).strip("[]").split(",") if part.strip()]
