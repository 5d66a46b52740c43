"""ELF files of nothing but symbols, as pyelftools reads them."""

from __future__ import annotations

import io

import pytest
from elftools.elf.elffile import ELFFile

from hypervisor.boot.symbol_file import (
    Symbol,
    SymbolFileError,
    parse_system_map,
    write_symbol_file,
)

SYMBOLS = [
    Symbol(0xFFFFFFFF80001000, "T", "start"),
    Symbol(0xFFFFFFFF80001000, "t", "same_place"),
    Symbol(0xFFFFFFFF80001040, "W", "weak"),
    Symbol(0xFFFFFFFF81000000, "D", "jiffies"),
    Symbol(0xFFFFFFFF81000008, "b", "counter"),
]


def read(data):
    elf = ELFFile(io.BytesIO(data))
    return elf, {each.name: each for each in elf.get_section_by_name(".symtab").iter_symbols()}


@pytest.mark.parametrize(("arch", "machine"), [("riscv64", "EM_RISCV"), ("aarch64", "EM_AARCH64")])
def test_file_is_of_its_architecture(arch, machine):
    elf, _ = read(write_symbol_file(SYMBOLS, arch))

    assert (elf["e_machine"], elf.elfclass, elf.little_endian) == (machine, 64, True)


def test_symbols_have_address_kind_and_size():
    _, found = read(write_symbol_file(reversed(SYMBOLS), "riscv64"))

    assert {name: each["st_value"] for name, each in found.items() if name} == {
        symbol.name: symbol.address for symbol in SYMBOLS
    }
    assert found["start"]["st_size"] == found["same_place"]["st_size"] == 0x40
    assert found["start"]["st_info"]["type"] == found["weak"]["st_info"]["type"] == "STT_FUNC"
    assert found["jiffies"]["st_info"] == {"bind": "STB_GLOBAL", "type": "STT_OBJECT"}
    assert found["counter"]["st_info"]["bind"] == "STB_LOCAL"


def test_code_section_spans_the_functions():
    elf, _ = read(write_symbol_file(SYMBOLS, "riscv64"))
    text = elf.get_section_by_name(".text")

    assert (text["sh_type"], text["sh_addr"], text["sh_size"]) == (
        "SHT_NOBITS",
        0xFFFFFFFF80001000,
        0x41,
    )


def test_locals_come_first():
    elf, _ = read(write_symbol_file(SYMBOLS, "riscv64"))
    table = elf.get_section_by_name(".symtab")
    bindings = [each["st_info"]["bind"] for each in table.iter_symbols()]

    assert bindings[: table["sh_info"]].count("STB_LOCAL") == bindings.count("STB_LOCAL")


def test_no_symbols_is_an_error():
    with pytest.raises(SymbolFileError, match="no symbols"):
        write_symbol_file([], "riscv64")


def test_system_map_is_read():
    assert parse_system_map("ffffffff80001000 T start\n\nffffffff81000000 d x [module]\n") == [
        Symbol(0xFFFFFFFF80001000, "T", "start"),
        Symbol(0xFFFFFFFF81000000, "d", "x"),
    ]


@pytest.mark.parametrize("line", ["zz T start", "ffff T", "nonsense"])
def test_line_that_is_no_symbol_is_named(line):
    with pytest.raises(SymbolFileError, match="line 2 is not ADDRESS TYPE NAME"):
        parse_system_map(f"ffff T fine\n{line}\n")
