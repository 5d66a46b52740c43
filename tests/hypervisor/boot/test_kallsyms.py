"""Symbols found in a kernel image, from tables built here by the kernel's layout."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.boot.kallsyms import KernelSymbols
from hypervisor.boot.loader import load_bytes
from tests.effort import effort

BASE = 0xFFFF_FFFF_8000_0000
LONG = "a_name_of_more_than_127_tokens_" * 6
NAMES = ["_start", *(f"function_{number}" for number in range(600)), LONG, "_end"]
TOKENS = [b"function_" if code == 1 else bytes([code]) * (code >= 32) for code in range(256)]


def packed(name: str) -> bytes:
    tokens = b"T" + name.encode().replace(b"function_", b"\1")
    length = len(tokens)
    head = bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
    return head + tokens


def aligned(data: bytes, alignment: int) -> bytes:
    return data + bytes(-len(data) % alignment)


def image(alignment: int, relative: bool, names: list[str] = NAMES, space: int = 64) -> bytes:
    """A kernel with `names` at multiples of `space` bytes."""
    marks, text = [], b""
    for index, name in enumerate(names):
        marks += [len(text)] * (index % 256 == 0)
        text += packed(name)
    tokens, index = b"", b""
    for token in TOKENS:
        index += struct.pack("<H", len(tokens))
        tokens += token + b"\0"
    data = aligned(b"code" * 100, 8) + aligned(struct.pack("<I", len(names)), alignment)
    data += aligned(text, alignment)
    data += aligned(struct.pack(f"<{len(marks)}I", *marks), alignment)
    data = aligned(data + tokens, alignment) + index
    for number in range(len(names)):
        place = len(data) + 0x20000 if relative else 0
        data += struct.pack("<i", number * space - place)
    return data + b"more" * 100


@pytest.fixture(scope="module", params=[(8, False), (4, True), (4, False)])
def symbols(request) -> KernelSymbols:
    return KernelSymbols(image(*request.param), BASE)


@pytest.mark.parametrize("index", [0, 1, 255, 256, 257, 600, 601])
def test_an_address_within_a_function_has_its_name_and_offset(symbols, index):
    assert symbols.lookup(BASE + 64 * index) == (NAMES[index], 0)
    assert symbols.lookup(BASE + 64 * index + 63) == (NAMES[index], 63)


@pytest.mark.parametrize("address", [0, BASE - 1, BASE + 64 * 602, (1 << 64) - 1])
def test_an_address_outside_the_kernel_has_no_name(symbols, address):
    assert symbols.lookup(address) is None


def test_a_small_table_without_a_second_marker_is_read():
    symbols = KernelSymbols(image(8, False, ["_start", "middle", "_end"]), BASE)

    assert symbols.lookup(BASE + 65) == ("middle", 1)


@pytest.mark.parametrize("data", [b"", b"no tables" * 100, b"0\x001\x002\x003\0" * 999])
def test_a_kernel_without_tables_has_no_names(data):
    assert KernelSymbols(data, BASE).lookup(BASE) is None


def test_a_loaded_kernel_has_its_symbols(make_image):
    # The header is part of the image, which is where the first symbol is.
    data = make_image() + image(8, False)

    assert load_bytes(data, "Image").symbols.lookup(BASE + 70) == ("function_0", 6)


@settings(max_examples=effort(60, 10_000), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6))
def test_damaged_tables_answer_or_have_no_names(damage):
    data = bytearray(image(4, True))
    for place, byte in damage:
        data[place % len(data)] = byte

    found = KernelSymbols(bytes(data), BASE).lookup(BASE + 64 * 300) or ("", 0)

    assert 0 <= found[1] <= 64 * 300


@settings(max_examples=effort(60, 10_000), deadline=None)
@given(st.integers(0, 1 << 14), st.binary(max_size=600))
def test_tables_cut_anywhere_answer_or_have_no_names(length, tail):
    data = image(8, False)[:length] + tail

    found = KernelSymbols(data, BASE).lookup(BASE) or ("_start", 0)

    assert found[1] == 0
