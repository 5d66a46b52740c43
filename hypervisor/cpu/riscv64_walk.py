"""Address translation as a RISC-V hart does it, with no trace left in page tables or TLB
(privileged specification 1.12, sections 4.3 to 4.6)."""

from __future__ import annotations

from collections.abc import Mapping

from hypervisor.cpu.page_walk import ReadEntry, Step

_LEVELS = {8: 3, 9: 4, 10: 5}
"""satp.MODE: Sv39, Sv48, Sv57."""
_MACHINE = 3
_VALID, _LEAF = 1, 0b1110
_PPN = (1 << 44) - 1


def walk(
    registers: Mapping[str, int], read: ReadEntry, address: int
) -> tuple[list[Step], int | None]:
    """The page walk for virtual `address` in the hart's present mode, and the physical address it
    ends at (None: it faults). `read` gives 8 bytes of RAM, None where there is none.

    Permissions are not looked at: this is for debuggers, which see all that is mapped.
    """
    satp = registers["satp"]
    levels = _LEVELS.get(satp >> 60)
    if registers["priv"] == _MACHINE or levels is None:
        return [], address
    width = 9 * levels + 12
    sign = address >> width - 1
    if sign not in (0, (1 << 65 - width) - 1):
        return [], None
    steps: list[Step] = []
    table = (satp & _PPN) << 12
    for level in reversed(range(levels)):
        at = table + 8 * (address >> 12 + 9 * level & 0x1FF)
        entry = read(at)
        if entry is None:
            return steps, None
        steps.append(Step(level, at, entry))
        if not entry & _VALID:
            return steps, None
        page = (entry >> 10 & _PPN) << 12
        if entry & _LEAF:
            offset = (1 << 12 + 9 * level) - 1
            return steps, page & ~offset | address & offset
        table = page
    return steps, None
