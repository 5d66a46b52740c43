from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core._pydantic_core import list_all_errors

from hypervisor.config.sentences import expectation, keys_at, partial, validate
from hypervisor.config.yaml_loader import parse_yaml


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    depth: int = 0


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = Field(default="", max_length=3)
    number: int | None = None
    odd: Annotated[int, Field(multiple_of=3)] = 3
    fraction: float = 0
    choice: int | Literal["host"] = 0
    items: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(), max_length=2)
    inner: Inner | None = None
    inners: list[Inner] = []
    named: dict[str, Inner] = {}
    either: Inner | int = 0

    @field_validator("number")
    @classmethod
    def _not_thirteen(cls, value: int) -> int:
        if value == 13:
            raise ValueError("13 is unlucky")
        return value


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("text: 1", ["f:1:7: m.text: must be text, not 1; write '1' in quotes"]),
        ("text: 1.50", ["f:1:7: m.text: must be text, not 1.50; write '1.50' in quotes"]),
        ("text: long", ["f:1:7: m.text: must be text of at most 3 characters, not 'long'"]),
        ("number: x", ["f:1:9: m.number: must be a whole number, not 'x'"]),
        ("number: 0x1.0", ["f:1:9: m.number: must be a whole number, not '0x1.0'"]),
        ("number: 13", ["f:1:9: m.number: 13 is unlucky"]),
        ("odd: 4", ["f:1:6: m.odd: must be a multiple of 3, not 4"]),
        ("fraction: x", ["f:1:11: m.fraction: must be a number, not 'x'"]),
        ("choice: x", ["f:1:9: m.choice: must be a whole number or 'host', not 'x'"]),
        ("items: 1", ["f:1:8: m.items: must be a list, not 1"]),
        ("items: [1, -1]", ["f:1:12: m.items.1: must be at least 0, not -1"]),
        ("items: [1, 2, 3]", ["f:1:8: m.items: must be a list of at most 2, not a list"]),
        ("inner: {deep: 1}", ["f:1:9: m.inner.deep: no such key; did you mean 'depth'?"]),
        ("inners: [{}, {x: 1}]", ["f:1:15: m.inners.1.x: no such key; valid are depth"]),
        ("named: {a: {deph: 1}}", ["f:1:13: m.named.a.deph: no such key; did you mean 'depth'?"]),
        ("inner: []", ["f:1:8: m.inner: must be a mapping of keys to values, not a list"]),
        (
            "either: x",
            ["f:1:9: m.either: must be a mapping of keys to values or a whole number, not 'x'"],
        ),
        (
            "txt: a\nnumbr: 1",
            [
                "f:1:1: m.txt: no such key; did you mean 'text'?",
                "f:2:1: m.numbr: no such key; did you mean 'number'?",
            ],
        ),
        (f"number: {'x' * 70}", [f"f:1:9: m.number: must be a whole number, not '{'x' * 57}...'"]),
    ],
)
def test_rejection_is_a_plain_sentence(text: str, sentences: list[str]) -> None:
    found, problems = validate(Model, parse_yaml(text, "f"), ("m",))
    assert found is None
    assert [str(problem) for problem in problems] == sentences


def test_right_document_is_a_model_without_problems() -> None:
    found, problems = validate(Model, parse_yaml("number: 7\nitems: [1]", "f"))
    assert (found, problems) == (Model(number=7, items=(1,)), [])


@pytest.mark.parametrize("error", list_all_errors(), ids=lambda error: error["type"])
def test_no_error_speaks_of_its_implementation(error: Any) -> None:
    words = expectation({"type": error["type"], "ctx": error.get("example_context")})
    assert not any(jargon in words for jargon in ("nput", "should", "dict", "instance", "pydantic"))


def test_partial_model_leaves_out_what_is_wrong() -> None:
    assert partial(Model, parse_yaml("number: x\ntext: ab\nother: 1", "f")) == Model(text="ab")


def test_partial_model_of_no_mapping_is_nothing() -> None:
    assert partial(Model, parse_yaml("[1]", "f")) is None


def test_keys_are_found_through_lists_mappings_and_unions() -> None:
    paths = [("inner",), ("inners", 0), ("named", "any"), ("either",)]
    assert [keys_at(Model, path) for path in paths] == [["depth"]] * 4
