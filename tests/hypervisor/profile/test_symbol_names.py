"""Names of addresses: from programs, maps and kernels that may have been moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.boot.elf import Symbols
from hypervisor.boot.kallsyms import KernelSymbols
from hypervisor.boot.loadable import Loadable
from hypervisor.profile.convention import Riscv64
from hypervisor.profile.symbols import MapSymbols, SymbolError, SymbolFile, SymbolTable

from ..boot.test_kallsyms import BASE, image

MAP = "ffffffff80001000 T first\nffffffff80002000 t second\nffffffff80003000 D data\n"
PROGRAM_FUNCTIONS = ("innermost", "middle", "other", "recurse", "guest")


def address_of(name: str, file: Path) -> int:
    address = Symbols(file.read_bytes()).address_of(name)
    assert address is not None
    return address


def kernel_mode(vector: int) -> dict[str, int]:
    return {"priv": 1, "stvec": vector}


def kernel(names: list[str] | None = None) -> Loadable:
    named = names or ["_start", *(f"function_{n}" for n in range(400)), "handle_exception", "_end"]
    symbols = KernelSymbols(image(8, False, named, space=0x400), BASE)
    return Loadable("Image", "linux", [(None, b"")], 0, symbols=symbols)


def test_functions_of_a_map_reach_to_the_next():
    symbols = MapSymbols(MAP, "System.map")

    assert symbols.lookup(0xFFFF_FFFF_8000_1FFF) == ("first", 0xFFF)
    assert symbols.lookup(0xFFFF_FFFF_8000_2001) == ("second", 1)
    assert symbols.lookup(0xFFFF_FFFF_8000_0FFF) is None
    assert symbols.lookup(0xFFFF_FFFF_9000_0000) is None


def test_a_program_s_file_names_its_functions(guest_file):
    symbols = SymbolFile.load(str(guest_file)).symbols

    found = {symbols.lookup(address) for address in range(0x8000_0000, 0x8000_0400, 2)}

    assert set(PROGRAM_FUNCTIONS) <= {each[0] for each in found if each}


def test_a_program_may_be_loaded_elsewhere(guest_file):
    table = SymbolTable([], [SymbolFile.load(f"{guest_file}@0x1000")], Riscv64())
    guest = address_of("guest", guest_file)

    assert table.lookup(guest + 0x1000) == ("guest", 0)
    assert table.name(guest) != "guest"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read \\(No such file or directory\\)"),
        (b"\x7fELF" + bytes(100), "has no symbols; it was stripped, or is damaged"),
        (b"\0\1\2", "is neither an ELF file nor a System.map"),
        (b"first line\n", "is neither an ELF file nor a System.map: line 1 is not "),
        (b"ffffffff80003000 D data\n", "names no functions"),
        (b"", "names no functions"),
    ],
)
def test_a_file_without_symbols_is_refused(tmp_path, content, sentence):
    path = tmp_path / "symbols"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SymbolError, match=f"{path}:? {sentence}"):
        SymbolFile.load(str(path))


def test_a_wrong_place_is_refused(guest_file):
    with pytest.raises(SymbolError, match="'0xpage' is no address"):
        SymbolFile.load(f"{guest_file}@0xpage")


def test_a_kernel_where_it_was_linked_stays():
    table = SymbolTable([kernel()], [], Riscv64())

    table.place_kernel(kernel_mode(BASE + 401 * 0x400))

    assert table.name(BASE + 0x400) == "function_0"


def test_a_moved_kernel_is_found_by_its_trap_vector():
    table = SymbolTable([kernel()], [], Riscv64())
    moved = 0x1620_0000

    table.place_kernel(kernel_mode(BASE + moved + 401 * 0x400 | 1))

    assert table.name(BASE + moved + 0x404) == "function_0"
    assert table.name(BASE + 0x404) == f"[{BASE:#x}]"


@pytest.mark.parametrize(
    "registers",
    [
        kernel_mode(0),
        kernel_mode(BASE + 401 * 0x400 + 0x1004),  # an early handler of the kernel's own
        {"priv": 3, "stvec": BASE + 0x1620_0000 + 401 * 0x400},
        {"priv": 0, "stvec": BASE + 0x1620_0000 + 401 * 0x400},
    ],
)
def test_what_says_nothing_of_a_kernel_s_place_moves_nothing(registers):
    table = SymbolTable([kernel()], [], Riscv64())

    table.place_kernel(registers)

    assert table.name(BASE + 0x400) == "function_0"


def test_a_kernel_without_that_handler_stays():
    table = SymbolTable([kernel(["_start", *(f"f{n}" for n in range(300))])], [], Riscv64())

    table.place_kernel(kernel_mode(BASE + 0x1620_0000))

    assert table.name(BASE + 0x400) == "f0"


def test_given_files_come_before_what_was_booted(guest_file):
    file = SymbolFile.load(str(guest_file))
    other = Loadable("x", "elf", [(0, b"")], 0, symbols=MapSymbols("80000000 T other", "map"))
    table = SymbolTable([other], [file], Riscv64())

    assert table.name(address_of("guest", guest_file)) == "guest"
    assert table.name(0x8000_0000) == "other"
