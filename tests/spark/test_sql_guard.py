import pytest

from jobs.pipeline.sql_guard import UnsafeSqlError, check_predicate, check_select


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM input",
        "select a, upper(b) AS c from INPUT where a > 1",
        "SELECT a, explode(b) AS c FROM input",
        "SELECT id, part FROM input LATERAL VIEW OUTER explode(parts) AS part",
        "WITH x AS (SELECT * FROM input WHERE a > 0) SELECT * FROM x",
        "SELECT i.a FROM input AS i",
        "SELECT transform(a, x -> x + 1) AS b, CASE WHEN a IS NULL THEN 1 ELSE 2 END AS c FROM input",
    ],
)
def test_row_wise_select_over_input_is_allowed(spark, sql):
    check_select(spark, sql)


@pytest.mark.fault("D3", "D4")
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT reflect('java.lang.Runtime', 'getRuntime') FROM input",
        "SELECT `reflect`('a', 'b') FROM input",
        "SELECT /* c */ REFLECT ('a', 'b') FROM input",
        "SELECT java_method('a', 'b') FROM input",
        "SELECT system.builtin.try_reflect('a', 'b') FROM input",
        "SELECT transform(a, x -> reflect('a', x)) FROM input",
        "SELECT my_catalog.db.f(a) FROM input",
        "SELECT TRANSFORM (a) USING 'cat' AS (b) FROM input",
        "SELECT * FROM delta.`/etc`",
        "SELECT * FROM csv.`/etc/passwd`",
        "SELECT * FROM other",
        "SELECT * FROM spark_catalog.default.input",
        "SELECT * FROM input, other",
        "SELECT * FROM input WHERE a IN (SELECT b FROM other)",
        "SELECT (SELECT max(a) FROM input) FROM input",
        "SELECT * FROM input WHERE EXISTS (SELECT 1 FROM csv.`/etc/passwd`)",
        "SELECT * FROM range(10)",
        "SELECT a, count(*) FROM input GROUP BY a",
        "SELECT sum(a) FROM input",
        "SELECT DISTINCT a FROM input",
        "SELECT * FROM input ORDER BY a",
        "SELECT * FROM input LIMIT 1",
        "SELECT * FROM input UNION ALL SELECT * FROM input",
        "SELECT * FROM input a JOIN input b ON a.x = b.x",
        "WITH x AS (SELECT * FROM json.`/etc/passwd`) SELECT * FROM x",
        "DROP TABLE x",
        "CREATE TABLE x (a INT)",
        "INSERT INTO x SELECT * FROM input",
        "SET spark.master = evil",
        "ADD JAR 'evil.jar'",
        "CREATE FUNCTION f AS 'evil.F' USING JAR 'evil.jar'",
        "SHOW TABLES",
        "SELECT 1; DROP TABLE x",
        "SELEC * FROM input",
        "",
    ],
)
def test_anything_else_is_refused(spark, sql):
    with pytest.raises(UnsafeSqlError):
        check_select(spark, sql)


@pytest.mark.parametrize("sql", ["a > 1", "a IS NOT NULL AND b LIKE 'x%'", "length(a) BETWEEN 1 AND 3"])
def test_predicate_over_columns_is_allowed(spark, sql):
    check_predicate(spark, sql)


@pytest.mark.fault("D3")
@pytest.mark.parametrize(
    "sql", ["reflect('a', 'b') = 'c'", "a IN (SELECT 1)", "EXISTS (SELECT 1)", "a >", "sum(a) > 1"]
)
def test_predicate_that_reaches_further_is_refused(spark, sql):
    with pytest.raises(UnsafeSqlError):
        check_predicate(spark, sql)
