import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.yaml_text import MAX_BYTES, MAX_DEPTH, Document, YamlError, parse_yaml

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.dates()
PLAIN = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


def refusal(text: str) -> YamlError:
    with pytest.raises(YamlError) as caught:
        parse_yaml(text)
    return caught.value


@given(st.dictionaries(st.text(), PLAIN, max_size=5))
def test_plain_data_round_trips(data):
    assert parse_yaml(yaml.safe_dump(data)).data == data


@pytest.mark.parametrize(
    "text", ["NO", "no", "yes", "on", "Off", "061", "1_000", "0x1F", "0b11", "1:30", "1:30.5", "+012"]
)
def test_text_that_only_yaml_1_1_takes_for_something_else_stays_text(text):
    assert parse_yaml(f"a: {text}\n").data == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-7", -7),
        ("61", 61),
        ("0.5", 0.5),
        ("-.5", -0.5),
        ("1.0e+3", 1000.0),
    ],
)
def test_truth_values_and_numbers_are_read(text, value):
    assert parse_yaml(f"a: {text}\n").data == {"a": value}


@pytest.mark.parametrize("text", ["-999.00", "+5", "1.10", "-0", ".5", "1.0e+3", ".inf", "12345678901234567.890"])
def test_a_number_is_text_as_it_is_written(text):
    number = parse_yaml(f"a: {text}\n").data["a"]
    assert isinstance(number, int | float)
    assert str(number) == text


def test_every_key_and_item_knows_its_line():
    document = parse_yaml("a: 1\nb:\n  c:\n    - x\n    - d: 2\n\n# a comment\ne: {f: 3,\n  g: 4}\n")
    assert {path: document.line_of(path) for path in document.lines} == {
        (): 1,
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "c", 0): 4,
        ("b", "c", 1): 5,
        ("b", "c", 1, "d"): 5,
        ("e",): 8,
        ("e", "f"): 8,
        ("e", "g"): 9,
    }


@pytest.mark.parametrize(
    ("path", "line"),
    [(("b", "missing"), 2), (("b", "c", 0, "deeper", 7), 3), (("missing",), 1), ((), 1)],
)
def test_a_path_that_is_not_there_has_its_ancestors_line(path, line):
    assert parse_yaml("a: 1\nb:\n  c: [x]\n").line_of(path) == line


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_an_empty_document_is_an_empty_mapping(text):
    assert parse_yaml(text) == Document({}, {})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", 3),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4),
        ("- {a: 1,\n   a: 2}\n", 2),
        ("1: x\n'1': y\n", 2),
    ],
)
def test_a_key_that_stands_twice_is_refused_where_it_stands_again(text, line):
    assert refusal(text).line == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: [1, 2\n", 3),
        ("a: 1\n\tb: 2\n", 2),
        ("a: 'open\n", 2),
        ("a: 1\n---\nb: 2\n", 2),
        ("a: *nowhere\n", 1),
        ("a: 1\nb: c: d\n", 2),
        ("a: \x00\n", 1),
    ],
)
def test_bad_syntax_is_refused_with_its_line(text, line):
    assert refusal(text).line == line


@pytest.mark.parametrize(
    "value",
    [
        "!!python/name:os.system",
        "!!python/object/apply:os.mkdir [{folder}]",
        "!!python/object/new:os.mkdir [{folder}]",
        "!!python/object:pathlib.Path {{a: 1}}",
        "!custom text",
        "!custom {{a: 1}}",
        "!custom [1]",
        "!!set {{a, b}}",
        "!!seq text",
        "!!omap [a: 1]",
        "{{!custom a: 1}}",
    ],
)
def test_custom_tags_are_refused_and_not_executed(value, tmp_path):
    folder = tmp_path / "made"
    assert refusal("a: 1\nb: " + value.format(folder=folder)).line == 2
    assert not folder.exists()


@pytest.mark.parametrize(
    "value",
    [
        "2020-99-99",
        "!!int x",
        "!!int ''",
        "!!float ''",
        "!!bool maybe",
        "!!timestamp soon",
        "9" * 5000,
        "!!float " + "1:" * 200 + "1.5",
    ],
)
def test_a_value_that_does_not_fit_its_tag_is_refused(value):
    assert refusal(f"a: 1\nb: {value}\n").line == 2


@pytest.mark.parametrize("key", ["[a, b]", "{a: 1}", "? [a]\n"])
def test_a_key_that_is_no_text_is_refused(key):
    assert refusal(f"a: 1\n{key}: 2\n").line == 2


@pytest.mark.parametrize("sign", ["=", "<<"])
def test_a_bare_sign_is_text(sign):
    assert parse_yaml(f"sep: {sign}").data == {"sep": sign}


def test_an_alias_bomb_stops_early():
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    start = time.perf_counter()
    refusal("\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *levels]))
    assert time.perf_counter() - start < 2


def test_an_alias_to_itself_is_refused():
    assert refusal("a: 1\nb: &b [*b]\n").line == 2


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 400, 5_000, 200_000])
def test_deep_nesting_is_refused(depth):
    refusal("a: " + "[" * depth + "]" * depth)
    refusal("a: " + "{a: " * depth + "}" * depth)
    refusal("- " * depth)


def test_nesting_up_to_the_limit_is_read():
    depth = MAX_DEPTH - 1
    assert parse_yaml("a: " + "[" * depth + "]" * depth).data["a"]


def test_a_file_over_the_size_limit_is_refused():
    assert parse_yaml("a: " + "x" * (MAX_BYTES - 3)).data
    assert refusal("a: " + "x" * (MAX_BYTES - 2)).line == 1
