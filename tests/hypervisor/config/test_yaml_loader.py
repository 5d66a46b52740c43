from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.config import yaml_loader
from hypervisor.config.problem import DescriptionError
from hypervisor.config.yaml_loader import MAX_BYTES, parse_yaml
from tests.effort import effort


def value_of(text: str) -> Any:
    return parse_yaml(f"key: {text}\n", "f.yaml").plain()["key"]


def error_of(data: bytes | str) -> str:
    with pytest.raises(DescriptionError) as caught:
        parse_yaml(data, "f.yaml")
    return str(caught.value)


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of PyYAML's parsers: which one there is depends on the build."""
    monkeypatch.setattr(yaml_loader, "_Parser", getattr(yaml, request.param))


@pytest.mark.parametrize(
    "text",
    """off yes No on y 52:54:00:12:34:56 12:30 2024-01-01 1__0 0x _1 0b1 1e + . -x 1.2.3 0o8 = 0X10
    1_ true_ truE .INf""".split(),  # noqa: SIM905
)
def test_plain_text_outside_the_core_schema_stays_text(text: str) -> None:
    assert value_of(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("10", 10),
        ("-7", -7),
        ("010", 10),
        ("0o17", 15),
        ("0x8000_0000", 0x8000_0000),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("'10'", "10"),
        ('"true"', "true"),
        ("!!str 10", "10"),
        ("! 10", "10"),
        ("!!int '10'", 10),
        ("!!float 1", 1.0),
        ("!!map {a: 1}", {"a": 1}),
        ("[1, [2]]", [1, [2]]),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: Any) -> None:
    found = value_of(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", [".inf", "-.INF", ".NaN", "1e999"])
def test_infinite_numbers_are_refused(text: str) -> None:
    assert error_of(text) == f"f.yaml:1:1: '{text}' is not a finite number"


def test_every_value_keeps_its_place_and_its_text() -> None:
    node = parse_yaml("a:\n  b: [x, 0x1_0]\n", "f.yaml")
    item = node.get("a", "b", 1)
    assert item is not None
    assert (str(item.mark), item.text) == ("f.yaml:2:10", "0x1_0")
    assert str(node.value["a"].value["b"].key_mark) == "f.yaml:2:3"


def test_alias_is_the_anchored_value() -> None:
    assert parse_yaml("a: &x {n: 1}\nb: *x\n", "f").plain() == {"a": {"n": 1}, "b": {"n": 1}}


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"---\n", b"\xef\xbb\xbf"])
def test_empty_document_is_null(data: bytes) -> None:
    assert parse_yaml(data, "f").plain() is None


def test_byte_order_mark_is_no_part_of_the_text() -> None:
    assert parse_yaml(b"\xef\xbb\xbfa: 1", "f").plain() == {"a": 1}


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: 'a' is said twice; the first is on line 1"),
        ("1: x\n'1': y\n", "f.yaml:2:1: '1' is said twice; the first is on line 1"),
        ("a: [1, 2\n", "f.yaml:1:4: this '[' needs ',' between its values and a closing ']'"),
        ("{a: 1]", "f.yaml:1:1: this '{' needs ',' between its entries and a closing '}'"),
        ("a:\n\tb: 1", "f.yaml:2:1: a tab indents this line; YAML wants spaces"),
        ("a: 'x", "f.yaml:1:4: this quoted text has no closing quote"),
        ("a: b: c", "f.yaml:1:5: ':' is not allowed here; put the value in quotes"),
        ("a: @x", "f.yaml:1:4: a value cannot begin with '@'; put it in quotes"),
        ("a:\n  b: 1\n c: 2", "f.yaml:3:2: expected a 'key: value' in line with the ones above"),
        ("- a\nb: 1", "f.yaml:2:1: expected '- value' in line with the ones above"),
        ("a: 1\nb", "f.yaml:2:1: expected ':' after this key"),
        ("a: *x", "f.yaml:1:4: no anchor '&x' comes before this alias"),
        ("a: &x [*x]", "f.yaml:1:8: the alias '*x' stands inside its own anchor"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: a second document begins here; a description is one"),
        ("a: !!python/x {}", "f.yaml:1:4: the tag '!!python/x' is not known here"),
        ("a: !mine 1", "f.yaml:1:4: the tag '!mine' is not known here"),
        ("a: !x!y 1", "f.yaml:1:4: this tag is not known here"),
        ("a: !!int x", "f.yaml:1:4: 'x' does not fit its tag '!!int'"),
        ("? [a]\n: b", "f.yaml:1:3: a key must be a name, not a list or a mapping"),
        ("'': b", "f.yaml:1:1: a key is missing before ':'"),
        (
            "<<: {}",
            "f.yaml:1:1: merge keys ('<<') are not part of YAML 1.2; use 'base: FILE' to inherit",
        ),
        ("%YAML 3.0\n---\na: 1", "f.yaml:1:1: this YAML version is not known; 1.2 is"),
        ("a: " + "1" * 90, "f.yaml:1:4: a number of 90 digits is too large"),
        ("[" * 50, "f.yaml:1:34: values nested more than 32 deep are not allowed"),
        ("a: \x01", "f.yaml:1:4: the character U+0001 is not allowed in YAML"),
        (b"a: 1\nb: \xff\n", "f.yaml:2:4: byte 0xff is not UTF-8 text"),
        (b"\xff\xfea\0", "f.yaml:1:1: byte 0xff is not UTF-8 text"),
        (b"\xef\xbb\xbfa: \xfe", "f.yaml:1:4: byte 0xfe is not UTF-8 text"),
    ],
)
def test_error_is_one_sentence_at_its_place(data: bytes | str, message: str) -> None:
    assert error_of(data) == message


@pytest.mark.usefixtures("parser")
def test_lone_surrogate_is_refused() -> None:
    assert error_of('a: "\\ud800"').endswith("this escape is not a Unicode character")


def test_all_duplicate_keys_are_reported() -> None:
    assert error_of("a: 1\na: 2\nb: {c: 1, c: 2}\n").count("is said twice") == 2


def test_aliases_of_aliases_are_refused_before_they_grow() -> None:
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    assert error_of("\n".join(lines)).endswith("aliases repeat more than 20000 values")


def test_long_list_is_refused() -> None:
    assert "more than 20000 values" in error_of("[" + "1," * 30_000 + "]")


def test_large_file_is_refused() -> None:
    assert error_of(b" " * (MAX_BYTES + 1)) == (
        "f.yaml:0:0: is larger than 1 MiB, too large for a description"
    ).replace(":0:0", "")


def test_override_reports_itself_as_the_place() -> None:
    with pytest.raises(DescriptionError) as caught:
        parse_yaml("[", "--set a", override=True)
    assert str(caught.value) == "--set a: a value is missing after '[', '{' or ','"


YAML_PIECES = st.sampled_from(
    [
        *("a", "b: ", ": ", "- ", "\n", "  ", "\t", "[", "]", "{", "}", ",", "&x ", "*x", "!!int "),
        *(
            "'",
            '"',
            "|",
            ">",
            "#",
            "%",
            "---\n",
            "...",
            "0x1",
            "~",
            "?",
            "\\u12",
            "<<",
            "é",
            "\r\n",
        ),
    ]
)


@settings(max_examples=effort(60, 50_000))
@given(
    st.one_of(st.lists(YAML_PIECES, max_size=40).map(lambda p: "".join(p).encode()), st.binary())
)
def test_any_bytes_parse_or_are_a_description_error(data: bytes) -> None:
    with suppress(DescriptionError):
        parse_yaml(data, "f.yaml").plain()


PRINTABLE = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="\ufeff")
)
# The parser ends lines as YAML 1.1 does, and a key has one line.
KEYS = PRINTABLE.filter(lambda key: key not in ("", "<<") and key.splitlines() == [key])
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | PRINTABLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_json_reads_back_as_it_was_written(data: Any) -> None:
    assert parse_yaml(json.dumps(data, ensure_ascii=False), "f").plain() == data
