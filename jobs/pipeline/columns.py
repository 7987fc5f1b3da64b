"""Column names as Spark takes them literally, dots, spaces and back quotes included."""

from typing import cast

from pyspark.sql.types import StructType


def quote(name: str) -> str:
    """A name in back quotes, for F.col and SQL."""
    return "`" + name.replace("`", "``") + "`"


def read_ddl(ddl: str) -> StructType:
    """Columns of DDL text; needs a running JVM, starts no Spark job."""
    return cast("StructType", StructType.fromDDL(ddl))


def column_list(schema: StructType) -> str:
    """A schema as DDL text, without NOT NULL: missing values are for checks to judge."""
    return ", ".join(f"{quote(field.name)} {field.dataType.simpleString()}" for field in schema.fields)
