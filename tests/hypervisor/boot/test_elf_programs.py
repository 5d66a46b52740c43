"""ELF programs and their symbols."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor.boot.elf import Symbols, read_elf
from hypervisor.boot.loadable import SIZE_LIMIT, BootError
from hypervisor.boot.loader import load_bytes
from tests.effort import effort

RAM = 0x8000_0000


def test_segments_are_padded_with_zeroes_to_their_memory_size(make_elf):
    program = read_elf(make_elf().build(), "a.elf")

    assert program.segments == [(RAM, b"\x13\0\0\0" * 4 + bytes(16))]
    assert (program.kind, program.arch, program.entry, program.size) == ("elf", "riscv64", RAM, 32)


def test_segments_are_at_physical_addresses_and_entry_follows(make_elf):
    high = 0xFFFF_FFFF_8000_0000
    elf = make_elf([(high, RAM, b"code", 4), (high + 0x1000, RAM + 0x1000, b"data", 8)], high + 2)

    program = read_elf(elf.build(), "vmlinux")

    assert program.segments == [(RAM, b"code"), (RAM + 0x1000, b"data\0\0\0\0")]
    assert program.entry == RAM + 2
    assert program.size == 0x1008


def test_a_position_independent_program_at_zero_has_no_address(make_elf):
    elf = make_elf([(0, 0, b"code", 4), (16, 16, b"data", 8)], entry=2, kind=3)

    program = read_elf(elf.build(), "fw.elf")

    assert program.segments == [(None, b"code" + bytes(12) + b"data\0\0\0\0")]
    assert program.entry == 2


def test_empty_segments_are_left_out(make_elf):
    elf = make_elf([(RAM, RAM, b"code", 4), (0, 0, b"", 0)])

    assert read_elf(elf.build(), "a.elf").segments == [(RAM, b"code")]


@pytest.mark.parametrize(("machine", "arch"), [(243, "riscv64"), (183, "aarch64"), (62, "x86_64")])
def test_the_machine_names_the_architecture(make_elf, machine, arch):
    assert read_elf(make_elf(machine=machine).build(), "a.elf").arch == arch


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"bits": 1}, "not a 64-bit little-endian"),
        ({"endian": 2}, "not a 64-bit little-endian"),
        ({"machine": 3}, "a program for EM_386"),
        ({"kind": 1}, "of type ET_REL, not a program"),
        ({"entry": 0x1000}, "entry 0x1000 is in none of its segments"),
        ({"segments": []}, "nothing to load"),
        ({"segments": [(RAM, RAM, b"code", 2)]}, "larger than its room"),
        ({"segments": [(RAM, RAM, b"", SIZE_LIMIT + 1)]}, "wants 256 MiB loaded"),
        ({"segments": [(RAM, RAM, b"", 64), (0, RAM + 32, b"", 64)]}, "0x80000020 overlap"),
        (
            {"kind": 3, "entry": 0, "segments": [(0, 0, b"", 8), (1 << 40, 1 << 40, b"", 8)]},
            "spans 1048576 MiB",
        ),
    ],
)
def test_an_unusable_program_is_refused(make_elf, changes, complaint):
    with pytest.raises(BootError, match=f"^a.elf: .*{complaint}"):
        read_elf(make_elf(**changes).build(), "a.elf")


@pytest.mark.parametrize("length", [4, 20, 63, 64, 100, 120, 130])
def test_a_cut_program_is_refused(make_elf, length):
    with pytest.raises(BootError, match=r"^a\.elf: .*(cut short|damaged|not a 64-bit)"):
        read_elf(make_elf().build()[:length], "a.elf")


def outcome_of_loading(data: bytes) -> bool:
    try:
        return load_bytes(data, "file").size <= SIZE_LIMIT
    except BootError as error:
        return str(error).startswith("file: ")


@pytest.fixture(scope="module")
def valid(make_elf) -> bytes:
    return make_elf().build()


@settings(max_examples=effort(300, 20_000), deadline=None)
@given(damage=st.lists(st.tuples(st.integers(4, 135), st.integers(0, 255)), max_size=4))
def test_a_damaged_program_loads_or_is_refused(valid, damage):
    data = bytearray(valid)
    for place, byte in damage:
        data[place] = byte

    assert outcome_of_loading(bytes(data))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> bytes:
    """A program with symbols, from a real assembler and linker."""
    folder = tmp_path_factory.mktemp("elf")
    (folder / "a.S").write_text(
        ".globl _start\n.type _start,@function\n_start: nop\n nop\n.size _start, . - _start\n"
        ".p2align 12\n.globl bare\nbare: nop\n"
    )
    (folder / "a.ld").write_text(
        "ENTRY(_start) SECTIONS { . = 0x80000000; .text : { *(.text .text.*) } }"
    )
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-freestanding-none"]
    command += ["-nostdlib", "-T", "a.ld", "a.S", "-o", "a.elf"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return (folder / "a.elf").read_bytes()


def test_symbols_name_the_function_that_holds_an_address(compiled):
    symbols = read_elf(compiled, "a.elf").symbols

    assert symbols.lookup(RAM) == ("_start", 0)
    assert symbols.lookup(RAM + 2) == ("_start", 2)


def test_symbols_of_no_size_reach_onwards(compiled):
    symbols = Symbols(compiled)
    bare = symbols.address_of("bare")

    assert bare > RAM
    assert symbols.lookup(bare + 100) == ("bare", 100)


def test_addresses_outside_all_symbols_have_none(compiled):
    symbols = Symbols(compiled)

    assert symbols.lookup(RAM - 1) is None
    assert symbols.lookup(RAM + 64) is None
    assert symbols.address_of("nothing") is None


@pytest.mark.parametrize("data", [b"", b"\x7fELF" + bytes(60)])
def test_symbols_of_a_damaged_file_are_empty(data):
    assert Symbols(data).lookup(RAM) is None


@settings(max_examples=effort(200, 10_000), deadline=None)
@given(damage=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=8))
def test_symbols_of_any_damaged_file_answer(compiled, damage):
    data = bytearray(compiled)
    for place, byte in damage:
        data[-1 - place % 1024] = byte

    assert len(Symbols(bytes(data)).lookup(RAM) or (0, 0)) == 2
