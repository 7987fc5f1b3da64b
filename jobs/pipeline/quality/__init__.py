"""Checks: Great Expectations suites compiled to Spark Columns."""
