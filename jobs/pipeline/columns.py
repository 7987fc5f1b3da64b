"""Column names as Spark takes them literally, dots, spaces and back quotes included."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from pyspark.sql import Column
from pyspark.sql.types import ArrayType, DataType, MapType, StructType

Instead = Mapping[type[DataType], str]


def quote(name: str) -> str:
    """A name in back quotes, for F.col and SQL."""
    return "`" + name.replace("`", "``") + "`"


def combine(operator: Callable[[Column, Column], Column], terms: Sequence[Column]) -> Column:
    """One or more terms joined by `and_` or `or_`, as a balanced tree: Spark walks down hundreds by recursion."""
    if len(terms) < 2:  # noqa: PLR2004 - nothing to join
        (only,) = terms
        return only
    middle = len(terms) // 2
    return operator(combine(operator, terms[:middle]), combine(operator, terms[middle:]))


def read_ddl(ddl: str) -> StructType:
    """Columns of DDL text; needs a running JVM, starts no Spark job."""
    return cast("StructType", StructType.fromDDL(ddl))


def column_list(schema: StructType, instead: Instead | None = None) -> str:
    """A schema as DDL text, without NOT NULL: missing values are for checks to judge.

    `instead` gives the type to write for all leaves of a type, such as `{DecimalType: "string"}`.
    """
    return ", ".join(f"{quote(field.name)} {type_text(field.dataType, instead or {})}" for field in schema.fields)


def type_text(type_: DataType, instead: Instead) -> str:
    """A type as DDL text, the same way."""
    match type_:
        case StructType():
            return f"struct<{', '.join(f'{quote(f.name)}: {type_text(f.dataType, instead)}' for f in type_.fields)}>"
        case ArrayType():
            return f"array<{type_text(type_.elementType, instead)}>"
        case MapType():
            return f"map<{type_text(type_.keyType, instead)}, {type_text(type_.valueType, instead)}>"
        case _:
            return instead.get(type(type_), type_.simpleString())
