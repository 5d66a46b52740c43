"""What a compiler that was taken over may answer: anything, and none of it harms."""

from __future__ import annotations

import json
from typing import Any, cast

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.core.answers import build_info, kernel_info, program_info
from gpu.host.builds import Build
from gpu.host.result import MAX_LOG, Built, Recipe, parse, plain
from gpu.opencl import Status
from tests.effort import effort

FAILURE = Status.BUILD_PROGRAM_FAILURE
BUILD: Recipe = ("build", b"source", b"")
GROUP: Recipe = ("group", "4-1-1", BUILD)
ARGUMENT = [0x119B, 0x11A3, 0, "uint*", "a"]
KERNEL: dict[str, Any] = {
    "name": "k", "count": 1, "arguments": [ARGUMENT], "compile_group": [0, 0, 0],
    "group": 64, "multiple": 1, "local": 0, "private": 0, "attributes": "",
}  # fmt: skip
RESULT: dict[str, Any] = {"status": 0, "log": "", "kernels": [KERNEL], "binary": "00ff"}


class DoneBuild:
    """Of gpu.host.builds.Build what an answer takes."""

    def __init__(self, built: Built) -> None:
        self.recipe = BUILD
        self._built = built

    def join(self) -> Built:
        return self._built


def answer_all(built: Built) -> None:
    """Everything that a guest can ask of a result."""
    build_info(cast(Build, DoneBuild(built))).pack()
    program_info(built).pack()
    for kernel in built.kernels:
        kernel_info(kernel).pack()


def changed(**fields: Any) -> dict[str, Any]:
    return {**RESULT, **fields}


def with_kernel(**fields: Any) -> dict[str, Any]:
    return changed(kernels=[{**KERNEL, **fields}])


def test_result_is_the_same_from_the_disk() -> None:
    built = parse(RESULT, FAILURE, "key", BUILD)

    kept = cbor2.loads(cbor2.dumps(plain(built)))

    assert parse(kept, FAILURE, "key", BUILD) == built
    assert built.status == Status.SUCCESS
    assert built.kernels[0].arguments is not None


def test_objects_are_the_same_from_the_disk() -> None:
    built = parse(changed(objects={"k": "0102"}), FAILURE, "key", GROUP)

    assert built.objects == (("k", b"\1\2"),)
    assert parse(plain(built), FAILURE, "key", GROUP) == built


@pytest.mark.parametrize(
    "result",
    [
        changed(status=float("inf")),
        changed(status=float("nan")),
        changed(status=0.5),
        changed(status=[0]),
        changed(status=1),
        changed(status=-(1 << 80)),
        changed(log=5),
        changed(kernels={}),
        changed(kernels=[[]]),
        changed(binary=[1, 2]),
        changed(binary="0"),
        with_kernel(name=None),
        with_kernel(name="n" * 600),
        with_kernel(name=""),
        with_kernel(name="k\n"),
        with_kernel(name="\x1b[2Jk"),
        with_kernel(name="k: 3 runs"),
        with_kernel(name="\u0430"),
        with_kernel(count=-1),
        with_kernel(count=2),
        with_kernel(count=float("inf")),
        with_kernel(arguments=[[*ARGUMENT, 1]]),
        with_kernel(arguments=[[-1, *ARGUMENT[1:]]]),
        with_kernel(arguments=[[1 << 32, *ARGUMENT[1:]]]),
        with_kernel(compile_group=[1 << 64, 0, 0]),
        with_kernel(compile_group=[-1, 0, 0]),
        with_kernel(compile_group=[0, 0]),
        with_kernel(group=1e30),
        with_kernel(local=-1),
        with_kernel(private=1 << 64),
    ],
    ids=str,
)
def test_result_that_makes_no_sense_is_a_failed_build(result: dict[str, Any]) -> None:
    built = parse(result, FAILURE, "key", BUILD)

    assert built.status == FAILURE
    answer_all(built)


@pytest.mark.parametrize(
    "result",
    [
        changed(log="\ud800"),
        changed(status=-11, log="\udfff"),
        changed(more="\ud800"),
        with_kernel(name="\ud800"),
        with_kernel(attributes="\ud800"),
        with_kernel(arguments=[[*ARGUMENT[:3], "\ud800", "\ud800"]]),
    ],
    ids=ascii,
)
def test_half_a_character_is_replaced(result: dict[str, Any]) -> None:
    built = parse(result, FAILURE, "key", BUILD)

    answer_all(built)
    assert cbor2.loads(cbor2.dumps(plain(built)))["log"] == built.log


def test_only_what_is_known_is_kept() -> None:
    built = parse(changed(more=[[[]]], objects={"k": "00"}), FAILURE, "key", BUILD)

    assert set(plain(built)) == {"status", "log", "kernels", "binary", "objects"}
    assert built.objects == ()


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_texts_have_bounds_and_are_counted(letter: str) -> None:
    long = letter * (1 << 20)
    many = with_kernel(attributes=long, arguments=[[0, 0, 0, long, long]])

    large = parse({**many, "log": long}, FAILURE, "key", BUILD)
    arguments = large.kernels[0].arguments or ()

    assert len(large.log.encode()) == MAX_LOG
    texts = [large.log, *(text for each in arguments for text in (each.type_name, each.name))]
    texts.append(large.kernels[0].attributes)
    assert large.size > sum(len(text.encode()) for text in texts)
    answer_all(large)


def test_size_counts_objects() -> None:
    assert parse(changed(objects={"k": "00" * 5000}), FAILURE, "key", GROUP).size > 5000


NUMBER = st.one_of(
    st.integers(-2, 3), st.integers(), st.floats(), st.sampled_from([1 << 32, 1 << 64, -1 << 63])
)
TEXT = st.text(st.characters(), max_size=6)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, ANYTHING)


ARGUMENTS = mostly(st.tuples(NUMBER, NUMBER, NUMBER, TEXT, TEXT).map(list))
KERNELS = st.fixed_dictionaries(
    {
        "name": mostly(TEXT),
        "count": mostly(st.integers(0, 3)),
        "arguments": mostly(st.none() | st.lists(ARGUMENTS, max_size=3)),
        "compile_group": mostly(st.lists(NUMBER, min_size=3, max_size=3)),
        "group": mostly(NUMBER),
        "multiple": mostly(NUMBER),
        "local": mostly(NUMBER),
        "private": mostly(NUMBER),
        "attributes": mostly(TEXT),
    }
)
HEX = st.binary(max_size=8).map(bytes.hex)
RESULTS = st.fixed_dictionaries(
    {
        "status": mostly(st.sampled_from([0, 0, 0, -11, 7])),
        "log": mostly(TEXT),
        "kernels": mostly(st.lists(mostly(KERNELS), max_size=3)),
        "binary": mostly(HEX),
    },
    optional={"objects": mostly(st.dictionaries(TEXT, HEX, max_size=3)), "more": ANYTHING},
)


@settings(max_examples=effort(400, 10_000), deadline=None)
@given(mostly(RESULTS), st.sampled_from([BUILD, GROUP]))
def test_whatever_a_compiler_says_can_be_answered_and_kept(result: Any, recipe: Recipe) -> None:
    said = json.loads(json.dumps(result))

    built = parse(said, FAILURE, "key", recipe)
    kept = parse(cbor2.loads(cbor2.dumps(plain(built))), FAILURE, "key", recipe)

    answer_all(built)
    assert kept.log == built.log
    assert kept.objects == built.objects
