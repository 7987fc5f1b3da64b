"""`make bundle`: the deployable archive. The same sources make the same bytes; only what is listed here gets in."""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jobs import __version__

NAME = f"esclusa-bundle-{__version__}"
MANIFEST = "MANIFEST.sha256"
"""One line a file, as `sha256sum --check` reads it."""

_TREES = {"dags": {".py"}, "conf": {".yml", ".json", ".ddl", ".conf"}, "jobs/transforms": {".py"}}
"""Folder -> endings of the files that are taken from it: no data, no caches, no stray files."""
_FILES = {
    "jobs/run_pipeline.py": "jobs/run_pipeline.py",
    "jobs/dev/jars.lock": "jars.lock",
    "requirements-run.lock": "requirements.lock",
    "requirements-airflow-run.lock": "requirements-airflow.lock",
    "LICENSE": "LICENSE",
}
_BUILT_FROM = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "jobs")
_EPOCH = 315532800
"""1980, the first year that a zip file can name."""
_INSTALL = f"""\
{NAME}: what Airflow and Spark need to run these pipelines.

    sha256sum --check --quiet {MANIFEST}

Spark's environment (Java 17 or 21, Python 3.11 to 3.13), on each machine that runs tasks:

    python3 -m venv .venv
    .venv/bin/pip install --no-deps --require-hashes -r requirements.lock
    .venv/bin/pip install --no-deps wheel/*.whl
    .venv/bin/esclusa setup        # the JVM jars of jars.lock
    .venv/bin/esclusa check

Airflow's environment, unless you have one: there the last line is enough.

    python3 -m venv .venv-airflow
    .venv-airflow/bin/pip install --no-deps --require-hashes -r requirements-airflow.lock
    .venv-airflow/bin/pip install --no-deps wheel/*.whl

In Airflow: point a DAG bundle at dags/, add a connection spark_default of type Spark whose host is the master, and set
ESCLUSA_TARGET for another target than local. Without Airflow:

    .venv/bin/spark-submit --properties-file conf/spark-defaults.conf jobs/run_pipeline.py NAME
"""


def make_bundle(root: Path, folder: Path) -> Path:
    """Build the wheel and write the archive into the folder; returns its path."""
    files = dict(sorted(_read_files(root)))
    manifest = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{NAME}.tar.gz"
    archive.write_bytes(_pack(files | {MANIFEST: manifest.encode()}))
    return archive


def _read_files(root: Path) -> Iterator[tuple[str, bytes]]:
    for tree, endings in _TREES.items():
        for file in (root / tree).rglob("*"):
            name = file.relative_to(root)
            if file.suffix in endings and not any(part.startswith((".", "__pycache__")) for part in name.parts):
                yield name.as_posix(), file.read_bytes()
    for source, packed in _FILES.items():
        yield packed, (root / source).read_bytes()
    yield "INSTALL", _INSTALL.encode()
    yield from _build_wheel(root)


def _build_wheel(root: Path) -> Iterator[tuple[str, bytes]]:
    """From a copy with plain file modes: neither what an earlier build left nor a umask reaches the wheel."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in _BUILT_FROM:
            _copy(root / name, Path(scratch) / name)
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(_EPOCH)}
        subprocess.run(command, cwd=scratch, env=environment, check=True, capture_output=True)  # noqa: S603 - fixed words
        for wheel in (Path(scratch) / "dist").glob("*.whl"):
            yield f"wheel/{wheel.name}", wheel.read_bytes()


def _copy(source: Path, copy: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"), copy_function=_copy_file)
    else:
        _copy_file(source, copy)


def _copy_file(source: str | Path, copy: str | Path) -> None:
    shutil.copyfile(source, copy)
    Path(copy).chmod(0o644)


def _pack(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.TarFile(fileobj=zipped, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"{NAME}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), _EPOCH, 0o644
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


if __name__ == "__main__":
    print(make_bundle(Path.cwd(), Path("dist")))  # noqa: T201 - what `make bundle` says
