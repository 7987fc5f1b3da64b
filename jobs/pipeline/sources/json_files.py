"""Whole text of a JSON file -> the texts of its records, not a sign of them changed; for `multiLine`."""

from pyspark.sql import Column
from pyspark.sql import functions as F

_MOST_DEPTH = 100
"""Brackets within brackets that a record may have; the pattern grows with it."""
_STRING = r"""(?:"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+')"""
_COMMENT = r"(?:/\*(?:[^*]|\*(?!/))*+\*/|//[^\r\n]*+)"
_BYTE_ORDER_MARK = "^\ufeff"


def allows_comments(options: dict[str, str]) -> bool:
    """Whether the options let `//` and `/* */` stand in JSON."""
    return options.get("allowComments", "false").lower() == "true"


def holds_nothing(text: Column, options: dict[str, str]) -> Column:
    """Whether the text is white space, and comments where they are allowed: no row to Spark."""
    return text.rlike(rf"(?s)^{_gap(options)}$")


def split_records(text: Column, options: dict[str, str]) -> Column:
    """An array of texts: the elements of a top-level array, else the text itself; without a byte order mark.

    A text that is not valid stays whole, and so does one with more than 100 brackets within brackets. Where the pattern
    spans the whole text, and Spark's parser takes it for an array, the two agree on where its elements end.
    """
    gap, element = _gap(options), _element(options)
    array = rf"(?s)^{gap}\[({gap}(?:{element}(?:{gap},{gap}{element})*+)?{gap})\]{gap}$"
    whole = F.regexp_replace(text, _BYTE_ORDER_MARK, "")
    elements = F.regexp_extract_all(F.regexp_extract(whole, array, 1), F.lit(rf"(?s)\G{gap},?{gap}({element})"), 1)
    is_array = whole.rlike(array) & F.from_json(whole, "array<string>", options).isNotNull()
    return (
        F.when(~F.is_valid_utf8(text), F.array(text))
        .when(is_array, elements)
        .when(holds_nothing(whole, options), F.array().cast("array<string>"))
        .otherwise(F.array(whole))
    )


def _gap(options: dict[str, str]) -> str:
    """What may stand between two elements. Nothing is tried twice, here and in the others: all is possessive."""
    return rf"(?:\s|{_COMMENT})*+" if allows_comments(options) else r"\s*+"


def _element(options: dict[str, str]) -> str:
    inside = rf"[^\[\]{{}}\"'/]++|{_STRING}" + (f"|{_COMMENT}" if allows_comments(options) else "")
    nested = rf"[\[{{](?:{inside})*+[\]}}]"
    for _ in range(_MOST_DEPTH - 1):
        nested = rf"[\[{{](?:{inside}|{nested})*+[\]}}]"
    return rf"(?:{nested}|{_STRING}|[^\s\[\]{{}},\"'/]++)"
