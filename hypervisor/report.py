"""What to show a person about a hart that got stuck: registers and the code around pc."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.boot.loadable import Loadable
from hypervisor.cpu.cells import Reason
from hypervisor.cpu.hart import Hart


def describe_hart(hart: Hart, programs: Sequence[Loadable] = ()) -> str:
    """Several lines of text, no newline at the end. `programs` name functions where they can."""
    registers = hart.registers
    state = "stopped" if hart.stopped else "waiting" if hart.waiting else "running"
    lines = [f"hart {hart.index} ({state}, {hart.mode}) at {_place(hart.pc, programs)}"]
    lines.append(f"called from {_place(registers[hart.link], programs)}")
    lines += _table([(name, registers[name]) for name in hart.general])
    lines += _table([(name, registers[name]) for name in hart.system])
    if hart.last_trap is not None:
        lines.append(f"last trap: {hart.last_trap}")
    lines += disassemble(hart)
    if hart.cell.reason == Reason.DOUBLE_FAULT:  # pc is the handler: what led there is of interest
        lines.append(f"the trap was taken at {_place(hart.cell.trapped_at, programs)}")
        lines += disassemble(hart, hart.cell.trapped_at)
    return "\n".join(lines)


def _place(address: int, programs: Sequence[Loadable]) -> str:
    """An address, and the function it is in where a program says so."""
    for program in programs:
        found = program.symbols.lookup(address) if program.symbols is not None else None
        if found is not None:
            return f"{address:#x} ({found[0]}+{found[1]:#x})"
    return f"{address:#x}"


def disassemble(hart: Hart, address: int | None = None, count: int = 6) -> list[str]:
    """The instructions at `address` (pc unless given), the present one marked; a sentence when it
    cannot be read."""
    sizes = (4 * count, 4, 2)  # less at the end of what is mapped
    start = hart.pc if address is None else address
    code = next(filter(None, (hart.read_virtual(start, size) for size in sizes)), None)
    if code is None:
        return [f"no code can be read at {start:#x}"]
    decoder = hart.disassembler()
    decoder.skipdata = True
    lines = []
    for instruction in decoder.disasm(code, start, count):
        mark = "=>" if instruction.address == start else "  "
        lines.append(
            f"{mark} {instruction.address:#x}: {instruction.mnemonic} {instruction.op_str}".rstrip()
        )
    return lines


def _table(values: list[tuple[str, int]]) -> list[str]:
    width = max(8, *(len(name) + 1 for name, _ in values))
    cells = [f"{name:>{width}} {value:016x}" for name, value in values]
    return ["".join(cells[n : n + 4]) for n in range(0, len(cells), 4)]
