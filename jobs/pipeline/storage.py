"""Small files through Hadoop's FileSystem, so that every store that Spark reaches is read and written the same way."""

from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.pipeline.jvm import jvm_class, jvm_session
from jobs.pipeline.path_text import LOCAL_SCHEMES, split_scheme


def local_path(path: str) -> str | None:
    """The path on the local (or a mounted) file system; None if it lies on an object store or HDFS."""
    scheme, rest = split_scheme(path)
    return rest if scheme in LOCAL_SCHEMES else None


def default_scheme(spark: SparkSession) -> str:
    """Of the file system that Hadoop takes a path without a scheme to lie on."""
    conf = jvm_session(spark).sessionState().newHadoopConf()
    return str(jvm_class(spark, "org.apache.hadoop.fs.FileSystem").getDefaultUri(conf).getScheme())


def require_spark(spark: SparkSession | None, path: str) -> SparkSession:
    """The session; ValueError without one, for then only local paths can be reached."""
    if spark is None:
        message = f"{path} is on a store that only Spark reaches"
        raise ValueError(message)
    return spark


def exists(spark: SparkSession | None, path: str) -> bool:
    """Whether a file or directory stands at the path; for local ones without Spark, too."""
    if spark is None:
        return _without_spark(path).exists()
    file_system, target = _open(spark, path)
    return bool(file_system.exists(target))


def matches(spark: SparkSession, pattern: str) -> bool:
    """Whether a path or glob pattern stands for at least one file or directory."""
    file_system, target = _open(spark, pattern)
    return bool(file_system.globStatus(target))


def read_text(spark: SparkSession | None, path: str) -> str:
    """The whole file as UTF-8 text; for small files only; for local ones without Spark, too.

    ValueError for one that is not what was written there.
    """
    if spark is None:
        return _without_spark(path).read_text(encoding="utf-8")
    file_system, target = _open(spark, path)
    stream = file_system.open(target)
    try:
        return str(jvm_class(spark, "org.apache.commons.io.IOUtils").toString(stream, "UTF-8"))
    except Py4JJavaError as error:
        if "ChecksumException" in str(error):
            message = f"{path} is not what its checksum says was written"
            raise ValueError(message) from error
        raise
    finally:
        stream.close()


def modified_ms(spark: SparkSession | None, path: str) -> int:
    """When the file was last written, in milliseconds since 1970; for local ones without Spark, too."""
    if spark is None:
        return _without_spark(path).stat().st_mtime_ns // 1_000_000
    file_system, target = _open(spark, path)
    return int(file_system.getFileStatus(target).getModificationTime())


def delete_file(spark: SparkSession, path: str) -> None:
    """Remove one file; nothing happens if it is not there."""
    file_system, target = _open(spark, path)
    file_system.delete(target, False)


def list_names(spark: SparkSession | None, path: str) -> list[str]:
    """Names in a directory; empty if there is none; for local ones without Spark, too."""
    if spark is None:
        folder = _without_spark(path)
        return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    file_system, target = _open(spark, path)
    return (
        [str(entry.getPath().getName()) for entry in file_system.listStatus(target)]
        if file_system.exists(target)
        else []
    )


def create_text(spark: SparkSession, path: str, text: str) -> None:
    """Write a small new file, and its directory; Py4JJavaError if there is one of that name.

    Two processes cannot both succeed on HDFS, ABFS and GCS; on S3 where it takes conditional writes, which the option
    asks for; not on a local disk.
    """
    file_system, target = _open(spark, path)
    builder = file_system.createFile(target).recursive().overwrite(False)
    _write(builder.opt("fs.option.create.conditional.overwrite", "true").build(), text)


def write_text(spark: SparkSession, path: str, text: str) -> None:
    """Write a small file, and its directory, over one that may be there."""
    file_system, target = _open(spark, path)
    _write(file_system.create(target, True), text)


def _write(stream: Any, text: str) -> None:
    try:
        stream.write(text.encode())
    finally:
        stream.close()


def rename(spark: SparkSession, path: str, new_path: str) -> bool:
    """Give a file or directory another name on the same store; False if the store did not."""
    file_system, target = _open(spark, path)
    return bool(file_system.rename(target, _open(spark, new_path)[1]))


def remove(spark: SparkSession, path: str) -> None:
    """Delete a file, or a directory with all that is in it; idempotent."""
    file_system, target = _open(spark, path)
    file_system.delete(target, True)


def _without_spark(path: str) -> Path:
    folder = local_path(path)
    if folder is None:
        message = f"{path} is on a store that only Spark reaches"
        raise ValueError(message)
    return Path(folder)


def _open(spark: SparkSession, path: str) -> tuple[Any, Any]:
    target = jvm_class(spark, "org.apache.hadoop.fs.Path")(path)
    return target.getFileSystem(jvm_session(spark).sessionState().newHadoopConf()), target
