"""Which test shows which fault of the catalogue happening, and what became of it: the map, and its gaps.

A test that proves a fault carries `@pytest.mark.fault("K7", …)`.
"""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

FAULTS = {
    # kills of a driver, in the order of a batch; `make torture` meets each with every set of victims
    "K0": "files listed, range not fixed",
    "K1": "range being written",
    "K2": "range written, batch not begun",
    "K3": "batch pinned, nothing written",
    "K4": "data file begun",
    "K5": "data files written, not committed",
    "K6": "target being committed",
    "K7": "between the first write and the second",
    "K8": "quarantine being written",
    "K9": "target and quarantine written, ledger not",
    "K10": "all written, Spark has not marked it",
    "K11": "Spark has marked the batch",
    "K12": "table's log being summed up",
    "K13": "source's log being summed up",
    "K14": "tables being created",
    "K15": "commit that changes the schema",
    "K16": "table maintenance",
    "K17": "killed again in its recovery, twice",
    "K18": "Python alone; its JVM goes on",
    "K19": "asked to end, then killed",
    # what could decide otherwise in a replay
    "D1": "the clock",
    "D2": "chance",
    "D3": "another table",
    "D4": "which of two equal rows",
    "D5": "edited rules",
    "D6": "an overwritten file",
    "D7": "records gone from the topic",
    "D8": "a verdict on the batch as a whole",
    # drivers
    "E4": "paused, and resumed behind another",
    "E10": "overlapping retry",
    # tables and checkpoints
    "T3": "checkpoint lost, whole or in part",
    "T5": "checkpoint from an older copy",
    "T6": "table set back",
    "T7": "table made anew",
    "T9": "two writers of one local table",
    "T10": "OPTIMIZE beside appends",
    "T11": "VACUUM beside readers and batches in flight",
    "T12": "columns or constraints altered",
    "T13": "transactions forgotten",
    "T17": "one query's options seen by another",
    # Kafka
    "R1": "broker restarts",
    "R2": "broker down at the start",
    "R3": "retention passed by",
    "R4": "topic made anew",
    "R5": "partitions added",
    "R6": "aborted and open transactions, compaction",
    "R7": "log cut short",
    "R8": "bad network",
    "R9": "other source, same checkpoint",
    # files
    "R12": "seen while it is written",
    "R13": "corrupt, truncated",
    "R14": "empty, odd encoding",
    "R15": "overwritten after it was read",
    "R16": "older than what was read before it",
    "R17": "odd names, links",
    "R18": "gone before it is read",
    # records
    "P1": "malformed JSON",
    "P2": "truncated JSON",
    "P3": "JSON of another shape",
    "P4": "not UTF-8",
    "P5": "NUL, surrogates, control characters",
    "P6": "no value, no key",
    "P7": "nothing in it",
    "P8": "huge",
    "P9": "deep",
    "P10": "many fields, long names",
    "P11": "a field twice",
    "P12": "numbers and times that do not fit",
    "P13": "fields missing or too many",
    "P14": "other types inside",
    "P15": "quotes, separators, columns of CSV",
    "P16": "columnar files of another schema",
    "P17": "what another system might run",
    "P18": "makes a transform or check fail",
    "P19": "nothing but bad rows",
    "P20": "odd partition values",
    # what must hold
    "I1": "every id in its one place",
    "I2": "batches whole",
    "I3": "tables agree",
    "I4": "versions contiguous, written once",
    "I5": "ranges cover the source",
    "I6": "readers see no row twice, and none vanish",
    "I7": "files are there, with their rows",
    "I8": "loud, and nothing committed behind it",
    "I9": "every run ends",
    "I10": "bounded memory, files, threads",
    "I11": "one effective writer",
    "I12": "no secret anywhere",
}

GAPS: dict[str, str] = {}
"""Not proven, and why."""


def read_map():
    """Fault -> the tests that carry its mark."""
    found = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            for fault in _marks(node) if isinstance(node, ast.FunctionDef) else ():
                found.setdefault(fault, []).append(f"{file.relative_to(TESTS)}::{node.name}")
    return found


def _marks(function):
    calls = [one for one in function.decorator_list if isinstance(one, ast.Call)]
    marks = [one for one in calls if isinstance(one.func, ast.Attribute) and one.func.attr == "fault"]
    return [argument.value for mark in marks for argument in mark.args]


PROVEN = read_map()


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_shown_by_a_test_or_named_as_a_gap(fault):
    assert (fault in PROVEN) != (fault in GAPS), PROVEN.get(fault)


def test_no_mark_and_no_gap_names_a_fault_that_is_not_there():
    assert set(PROVEN) | set(GAPS) <= set(FAULTS)
