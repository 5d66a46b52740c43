"""The start-up test passes on the pinned wheel, and names the wheel and what differs elsewhere."""

from __future__ import annotations

import ctypes
import os
from importlib.metadata import version

import pytest

from hypervisor.cpu import aarch64_selftest, library, native_exits, selftest
from hypervisor.cpu import riscv64_env as env
from hypervisor.cpu.library import EngineError


@pytest.fixture
def fresh():
    """The self-test as at the start of a process."""
    for module in (selftest, aarch64_selftest):
        module.verify.cache_clear()
    yield
    for module in (selftest, aarch64_selftest):
        module.verify.cache_clear()
        module.verify()


def test_wheel_passes(fresh):
    layout = selftest.verify()

    assert layout.exception_index % 4 == 0
    assert 0 < layout.exception_index < 0x10000


def test_it_runs_once_in_a_process(fresh):
    assert selftest.verify() is selftest.verify()


WRONG = {
    "where a register lies": ("_REGISTERS", {2: env.X0 + 16}, "offset of register 2"),
    "the causes": ("_CAUSES", 0x1234, "the causes delivered"),
    "the bytes retired": ("_UNITS", 1, "the bytes retired"),
}


@pytest.mark.parametrize("what", WRONG)
def test_difference_is_named_with_the_wheel(fresh, monkeypatch, what):
    name, value, sentence = WRONG[what]
    monkeypatch.setattr(selftest, name, value)

    with pytest.raises(EngineError) as caught:
        selftest.verify()

    assert sentence in str(caught.value)
    assert f"unicorn {version('unicorn')}" in str(caught.value)


@pytest.mark.parametrize("name", ["PC", "PMP_TABLE"])
def test_moved_state_is_noticed(fresh, monkeypatch, name):
    monkeypatch.setattr(env, name, getattr(env, name) + 8)

    with pytest.raises(EngineError, match="engine self-test failed"):
        selftest.verify()


@pytest.mark.parametrize("module", [selftest, aarch64_selftest])
def test_flag_that_is_not_the_one_for_exits_is_noticed(fresh, monkeypatch, module):
    monkeypatch.setattr(native_exits, "NO_EXIT_REQUEST", native_exits.NO_EXIT_REQUEST - 1)
    monkeypatch.setattr(native_exits, "is_known", lambda handle: True)

    with pytest.raises(EngineError, match="what is done before a stop is taken is"):
        module.verify()


def test_missing_function_is_named():
    with pytest.raises(EngineError, match=r"does not export no_such_function; .* unicorn 2\.1\.4"):
        library.declare("no_such_function", ctypes.c_int)


def test_missing_package_is_a_sentence(fresh, monkeypatch):
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    library.load.cache_clear()
    try:
        with pytest.raises(EngineError, match="unicorn is not installed"):
            library.load()
    finally:
        monkeypatch.undo()
        library.load.cache_clear()


def test_failing_self_test_leaves_no_descriptors_behind(fresh, monkeypatch):
    selftest.verify()
    selftest.verify.cache_clear()
    monkeypatch.setattr(selftest, "_UNITS", 1)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(EngineError):
            selftest.verify()

    assert len(os.listdir("/proc/self/fd")) == before
