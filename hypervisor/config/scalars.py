"""What a scalar means: the core schema of YAML 1.2.2 (section 10.3.2), with `_` between digits.

Only null, true/false, integers and floats are special; `off`, `yes`, `12:30` and dates are text.
"""

from __future__ import annotations

import math
import re
from typing import Any

CORE_TAG = "tag:yaml.org,2002:"
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLS = dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(
    ("false", "False", "FALSE"), False
)
_INT = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*")
_OCTAL = re.compile(r"0o[0-7]+(?:_[0-7]+)*")
_HEX = re.compile(r"0x[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST_NUMBER = 80


class ScalarError(ValueError):
    """A scalar that means nothing; the message is a sentence's end."""


def resolve(text: str, tag: str | None, plain: bool) -> Any:
    """The value of a scalar written as `text`, `plain` when it was not quoted.

    Raises ScalarError for a tag that is not known or does not fit, and for absurd numbers.
    """
    if tag is None:
        return plain_value(text) if plain else text
    if tag in ("!", f"{CORE_TAG}str"):
        return text
    kinds: dict[str, Any] = {"int": int, "float": float, "bool": bool, "null": type(None)}
    kind = kinds.get(tag.removeprefix(CORE_TAG)) if tag.startswith(CORE_TAG) else None
    if kind is None:
        raise ScalarError(f"the tag '{shown_tag(tag)}' is not known here")
    value = plain_value(text)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ScalarError(f"'{text}' does not fit its tag '{shown_tag(tag)}'")
    return value


def plain_value(text: str) -> Any:
    """The value of an unquoted scalar."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if text[0] not in "+-.0123456789":
        return text
    return _number(text)


def shown_tag(tag: str) -> str:
    """A tag as one writes it."""
    return f"!!{tag.removeprefix(CORE_TAG)}" if tag.startswith(CORE_TAG) else tag


def _number(text: str) -> Any:
    for pattern, base in ((_INT, 10), (_HEX, 16), (_OCTAL, 8)):
        if pattern.fullmatch(text):
            if len(text) > _LONGEST_NUMBER:
                raise ScalarError(f"a number of {len(text)} digits is too large")
            return int(text, base)
    number = float(text) if _FLOAT.fullmatch(text) else None
    if number in (math.inf, -math.inf) or _SPECIAL.fullmatch(text):
        # Nothing in a machine is infinite, and JSON could not carry it.
        raise ScalarError(f"'{text}' is not a finite number")
    return text if number is None else number
