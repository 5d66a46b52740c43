"""Coverage of source lines, functions and branches in lcov's form, by a program's DWARF line table.

The records are those of geninfo(1): SF, FN, FNDA, BRDA, DA and their sums. A line counts as often
as its most executed piece of code. A branch counts by where it was seen to go: one at which an
interrupt came just then is in neither number.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from elftools.elf.elffile import ELFFile

from hypervisor.boot.elf import DAMAGED
from hypervisor.profile.coverage import Stretch

_CONDITIONAL = frozenset(
    [
        *("beq", "bne", "blt", "bge", "bltu", "bgeu", "c.beqz", "c.bnez"),
        *("beqz", "bnez", "blez", "bgez", "bltz", "bgtz"),
        *("cbz", "cbnz", "tbz", "tbnz"),
    ]
)
"""Besides AArch64's `b.` and a condition."""


class LcovError(Exception):
    """A program that has no line table that can be used: one sentence naming it."""


class _Row(NamedTuple):
    start: int
    end: int
    file: str
    line: int


@dataclass
class _Source:
    """What is known of one source file."""

    lines: dict[int, int] = field(default_factory=dict)
    """How often each line was executed."""
    functions: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Line and number of calls by name."""
    branches: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Line, number in the line, taken, not taken; both -1 where it was not executed."""


class Executed:
    """How often code was executed, by address."""

    def __init__(
        self, stretches: Sequence[Stretch], edges: Mapping[tuple[int, int], int], offset: int = 0
    ) -> None:
        """`offset`: where the program was loaded, less where it was linked to."""
        self._stretches = stretches
        self._starts = [stretch.start for stretch in stretches]
        self._edges = edges
        self._offset = offset
        self._leaving: Counter[int] = Counter()
        for (end, _), times in edges.items():
            self._leaving[end] += times

    def times(self, address: int) -> int:
        """How often the instruction at a linked `address` was executed."""
        index = bisect_right(self._starts, address + self._offset) - 1
        if index < 0 or address + self._offset >= self._stretches[index].end:
            return 0
        return self._stretches[index].times

    def branch(self, address: int, end: int, target: int) -> tuple[int, int]:
        """How often the conditional branch at `address` went to `target`, and how often on."""
        taken = self._edges.get((end + self._offset, target + self._offset), 0)
        return taken, self.times(address) - self._leaving[end + self._offset]


def lcov(data: bytes, name: str, executed: Executed) -> str:
    """The records of the program in ELF file `data`. Raises LcovError."""
    try:
        return _records(data, name, executed)
    except DAMAGED as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise LcovError(f"{name}: its DWARF line table cannot be read ({reason})") from None


def _records(data: bytes, name: str, executed: Executed) -> str:
    elf = ELFFile(io.BytesIO(data))
    if not elf.has_dwarf_info(strict=True):
        raise LcovError(f"{name}: has no DWARF line table; compile it with -g")
    rows = sorted(_rows(elf.get_dwarf_info()))
    sources: dict[str, _Source] = {}
    for row in rows:
        lines = sources.setdefault(row.file, _Source()).lines
        lines[row.line] = max(lines.get(row.line, 0), executed.times(row.start))
    starts = [row.start for row in rows]

    def row_at(address: int) -> _Row | None:
        index = bisect_right(starts, address) - 1
        return rows[index] if index >= 0 and address < rows[index].end else None

    for function, address in _functions(elf):
        place = row_at(address)
        if place is not None:
            sources[place.file].functions[function] = (place.line, executed.times(address))
    for address, end, target in _branches(elf):
        place = row_at(address)
        if place is not None:
            found = sources[place.file].branches
            number = sum(1 for each in found if each[0] == place.line)
            met = executed.times(address) > 0
            taken, on = executed.branch(address, end, target) if met else (-1, -1)
            found.append((place.line, number, taken, on))
    parts = [_record(file, sources[file]) for file in sorted(sources)]
    return "TN:\n" + "".join(parts)


def _record(file: str, source: _Source) -> str:
    lines = [f"SF:{file}"]
    functions = sorted((line, name, times) for name, (line, times) in source.functions.items())
    lines += [f"FN:{line},{name}" for line, name, _ in functions]
    lines += [f"FNDA:{times},{name}" for _, name, times in functions]
    lines += [f"FNF:{len(functions)}", f"FNH:{sum(times > 0 for *_, times in functions)}"]
    outcomes = []
    for line, number, *ways in sorted(source.branches):
        for way, times in enumerate(ways):
            outcomes.append(times)
            lines.append(f"BRDA:{line},{number},{way},{times if times >= 0 else '-'}")
    lines += [f"BRF:{len(outcomes)}", f"BRH:{sum(times > 0 for times in outcomes)}"]
    lines += [f"DA:{line},{times}" for line, times in sorted(source.lines.items())]
    lines += [f"LF:{len(source.lines)}", f"LH:{sum(each > 0 for each in source.lines.values())}"]
    return "\n".join([*lines, "end_of_record\n"])


def _rows(dwarf: Any) -> Iterator[_Row]:
    """Every row of the line table that stands for code."""
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        folder = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
        paths = _paths(program.header, folder.value.decode() if folder is not None else "")
        before = None
        for entry in program.get_entries():
            state = entry.state
            if state is None:
                continue
            if before is not None and state.address > before.address and before.line:
                path = paths.get(before.file, "?")
                yield _Row(before.address, state.address, path, before.line)
            before = None if state.end_sequence else state


def _paths(header: Any, folder: str) -> dict[int, str]:
    """Source files by the numbers that rows have: from 1 on, from DWARF 5 on from 0."""
    newer = header["version"] >= 5
    folders = [each.decode() for each in header["include_directory"]]
    folders = folders if newer else [folder, *folders]
    paths = {}
    for number, file in enumerate(header["file_entry"], 0 if newer else 1):
        index = file["dir_index"]
        directory = folders[index] if index < len(folders) else ""
        paths[number] = str(PurePosixPath(folder, directory, file["name"].decode()))
    return paths


def _functions(elf: Any) -> Iterator[tuple[str, int]]:
    table = elf.get_section_by_name(".symtab")
    for symbol in table.iter_symbols() if table is not None else ():
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF":
            yield symbol.name, symbol["st_value"]


def _branches(elf: Any) -> Iterator[tuple[int, int, int]]:
    """Address, end and target of every conditional branch."""
    import capstone

    if elf["e_machine"] == "EM_RISCV":
        decoder = capstone.Cs(
            capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC
        )
    else:
        decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    decoder.skipdata = True
    is_relative = elf["e_machine"] == "EM_RISCV"
    for section in elf.iter_sections():
        if section["sh_type"] != "SHT_PROGBITS" or not section["sh_flags"] & 4:  # SHF_EXECINSTR
            continue
        for at, size, name, operands in decoder.disasm_lite(section.data(), section["sh_addr"]):
            if name in _CONDITIONAL or name.startswith("b."):
                distance = int(operands.rpartition(",")[2].strip().lstrip("#"), 0)
                yield at, at + size, at + distance if is_relative else distance
