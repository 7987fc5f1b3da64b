"""Lets Delta's own commands (OPTIMIZE, MERGE, VACUUM) take the lock of a local table, for no longer than they commit.

Such a command reads and writes for minutes and commits in its last moment. A lock around all of it would starve the
streams that append to the table. Delta tells an observer of its thread when a commit begins and when it is over.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, ClassVar

from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

from jobs.pipeline.errors import EsclusaError
from jobs.pipeline.failpoints import Point, reach
from jobs.pipeline.file_lock import hold_table_for_spark
from jobs.pipeline.jvm import jvm_class, scala_none
from jobs.pipeline.storage import local_path


@contextmanager
def hold_table_at_commits(spark: SparkSession, path: str) -> Iterator[None]:
    """While the body runs, what this thread lets Delta commit to the table keeps other writers out.

    Without effect on tables that are not local; Delta needs no lock there. UnavailableError, with nothing committed,
    if the table is not free within a minute.
    """
    if local_path(path) is None:
        yield
        return
    ensure_callback_server_started(spark.sparkContext._gateway)  # type: ignore[no-untyped-call] # noqa: SLF001
    observers = jvm_class(spark, "org.apache.spark.sql.delta.TransactionExecutionObserver")
    before = observers.getObserver()
    with ExitStack() as held:
        observer = _Observer(scala_none(spark), lambda: hold_table_for_spark(spark, path), held)
        observers.setObserver(observer)
        try:
            yield
        except Exception as error:
            if observer.failure is None:
                raise
            raise observer.failure from error
        finally:
            observers.setObserver(before)


class _Observer:
    """Delta's TransactionExecutionObserver; the JVM calls it back in the order in which a transaction goes."""

    def __init__(self, none: Any, hold: Callable[[], AbstractContextManager[None]], held: ExitStack) -> None:
        self._none = none
        self._hold = hold
        self._held = held
        self.failure: EsclusaError | None = None
        """Why a commit was not made; the JVM passes its text on, and not its kind."""

    def startingTransaction(self, start: Any) -> Any:  # noqa: N802
        return start.apply()

    def preparingCommit(self, prepare: Any) -> Any:  # noqa: N802
        return prepare.apply()

    def beginDoCommit(self) -> None:  # noqa: N802
        try:
            self._held.enter_context(self._hold())
        except EsclusaError as error:
            self.failure = error
            raise
        reach(Point.MAINTENANCE_COMMITS)

    def beginPostCommit(self) -> None:  # noqa: N802
        self._held.close()

    def transactionCommitted(self) -> None:  # noqa: N802
        self._held.close()

    def transactionAborted(self) -> None:  # noqa: N802
        self._held.close()

    def beginBackfill(self) -> None:  # noqa: N802
        """Of no concern: only tables with a commit coordinator have it."""

    def createChild(self) -> "_Observer":  # noqa: N802
        return self

    def setNextObserver(self, observer: Any) -> None:  # noqa: N802
        """Nobody follows."""

    def getNextObserver(self) -> Any:  # noqa: N802
        return self._none

    def advanceToNextThreadObserver(self) -> None:  # noqa: N802
        """Nobody follows: this one stays for the command's further transactions."""

    class Java:
        """What py4j asks for."""

        implements: ClassVar[list[str]] = ["org.apache.spark.sql.delta.TransactionExecutionObserver"]
