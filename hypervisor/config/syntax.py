"""Plain sentences for what a YAML parser rejects."""

from __future__ import annotations

from typing import Any

# First match wins: part of the parser's words, then ours. True: blame where the construct began.
_SENTENCES: tuple[tuple[str, str, bool], ...] = (
    ("mapping values are not allowed", "':' is not allowed here; put the value in quotes", False),
    ("could not find expected ':'", "expected ':' after this key", True),
    ("invalid Unicode character escape", "this escape is not a Unicode character", False),
    ("unknown escape character", "this is no escape of YAML; write '\\\\' for a backslash", False),
    ("hexdecimal", "this escape needs more hexadecimal digits", False),
    ("hexadecimal", "this escape needs more hexadecimal digits", False),
    ("undefined tag handle", "this tag is not known here", False),
    ("incompatible YAML document", "this YAML version is not known; 1.2 is", False),
    ("violates indentation", "a tab indents this line; YAML wants spaces", False),
    ("flow sequence", "this '[' needs ',' between its values and a closing ']'", True),
    ("flow mapping", "this '{' needs ',' between its entries and a closing '}'", True),
    ("flow node", "a value is missing after '[', '{' or ','", False),
    ("quoted scalar", "this quoted text has no closing quote", True),
    ("block scalar", "after '|' or '>' only '+', '-' or a digit may follow", False),
    ("anchor", "after '&' a name of letters and digits must follow", False),
    ("alias", "after '*' a name of letters and digits must follow", False),
    (
        "directive",
        "a line that begins with '%' is a directive of YAML, and this one is wrong",
        False,
    ),
    ("document start", "a line that begins with '%' needs '---' after it", False),
    ("block mapping", "expected a 'key: value' in line with the ones above", False),
    ("block collection", "expected '- value' in line with the ones above", False),
    ("block sequence", "expected '- value' in line with the ones above", False),
    ("sequence entries are not allowed", "'- ' is not allowed here", False),
    ("mapping keys are not allowed", "a key is not allowed here", False),
    ("tag", "this tag is not known here", False),
)


def syntax_problem(error: Any, text: str) -> tuple[int, int, str]:
    """Line and column (from 0) and a sentence for a yaml.MarkedYAMLError about `text`."""
    mark = error.problem_mark or error.context_mark
    words = f"{error.problem or ''} {error.context or ''}"
    if "cannot start any token" in words:
        return mark.line, mark.column, _bad_start(_character(text, mark.line, mark.column))
    for part, sentence, blame_start in _SENTENCES:
        if part in words:
            if blame_start and error.context_mark is not None:
                mark = error.context_mark
            return mark.line, mark.column, sentence
    return mark.line, mark.column, "this is not YAML"


def _bad_start(character: str) -> str:
    if character == "\t":
        return "a tab indents this line; YAML wants spaces"
    return f"a value cannot begin with '{character}'; put it in quotes"


def _character(text: str, line: int, column: int) -> str:
    lines = text.splitlines()
    rest = lines[line][column:] if line < len(lines) else ""
    return rest[:1]
