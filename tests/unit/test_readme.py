"""What README.md, ARCHITECTURE.md and CHANGELOG.md point at is there; tests that `make test` leaves out are said to be so."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)")
SLOW = "(slow)"


def links(page):
    """Text, target and what follows of each link, outside of code blocks."""
    prose = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [
        (found["text"], found["target"], prose[found.end() :].lstrip()[: len(SLOW)]) for found in LINK.finditer(prose)
    ]


@cache
def anchors(page):
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def slowness(file):
    """Name -> whether `make test` leaves it out."""
    functions = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    return {
        function.name: any(ast.unparse(mark) == "pytest.mark.slow" for mark in function.decorator_list)
        for function in functions
        if function.name.startswith("test_")
    }


@pytest.mark.parametrize("page", PAGES)
def test_each_link_leads_somewhere(page):
    for _, target, _ in links(page):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            assert (ROOT / path).exists(), target
            assert not anchor or anchor in anchors(path or page), target


@pytest.mark.parametrize("page", PAGES)
def test_each_test_that_is_named_is_there_and_is_marked_if_it_is_slow(page):
    named = [
        (text, ROOT / target, behind) for text, target, behind in links(page) if "test_" in text.rpartition("/")[2]
    ]
    assert named or page != "README.md"
    for text, file, behind in named:
        name = text.rpartition("::")[2]
        tests = slowness(file)
        if name.endswith(".py"):
            is_slow = all(tests.values())
        else:
            assert name in tests, text
            is_slow = tests[name]
        assert is_slow == (behind == SLOW), text
