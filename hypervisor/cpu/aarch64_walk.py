"""Address translation as EL1 and EL0 do it, in 48-bit stage 1, with no trace left in page tables or
TLB (Arm ARM D5.2)."""

from __future__ import annotations

from collections.abc import Mapping

from hypervisor.cpu.page_walk import ReadEntry, Step

_GRANULE_0 = {0: 12, 1: 16, 2: 14}
_GRANULE_1 = {1: 14, 2: 12, 3: 16}
"""TCR_EL1.TG0 and TG1: bits of an address within a page."""
_MMU_ON = 1
_VALID, _TABLE = 1, 2
_LAST = 3
_ADDRESS = (1 << 48) - 1


def walk(
    registers: Mapping[str, int], read: ReadEntry, address: int
) -> tuple[list[Step], int | None]:
    """The page walk for virtual `address`, and the physical address it ends at (None: it faults).

    Permissions are not looked at: this is for debuggers, which see all that is mapped.
    """
    if not registers["SCTLR_EL1"] & _MMU_ON:
        return [], address
    control, upper = registers["TCR_EL1"], address >> 55 & 1
    size = 64 - (control >> 16 * upper & 0x3F)
    is_disabled = control >> (23 if upper else 7) & 1
    ignores_top = control >> (38 if upper else 37) & 1
    kinds, field = (_GRANULE_1, control >> 30 & 3) if upper else (_GRANULE_0, control >> 14 & 3)
    granule = kinds.get(field)
    above = (address & (1 << 56) - 1 if ignores_top else address) >> size
    expected = ((1 << (56 if ignores_top else 64) - size) - 1) * upper
    if granule is None or is_disabled or above != expected or size <= granule:
        return [], None
    width = granule - 3
    level = _LAST + 1 - -(-(size - granule) // width)
    table = registers["TTBR1_EL1" if upper else "TTBR0_EL1"] & _ADDRESS & ~1
    rest = address & (1 << size) - 1
    steps: list[Step] = []
    while True:
        shift = granule + width * (_LAST - level)
        at = table + 8 * (rest >> shift)
        rest &= (1 << shift) - 1
        entry = read(at)
        if entry is None:
            return steps, None
        steps.append(Step(level, at, entry))
        if not entry & _VALID or (level == _LAST and not entry & _TABLE):
            return steps, None
        if level == _LAST or not entry & _TABLE:
            return steps, entry & _ADDRESS >> shift << shift | rest
        table = entry & _ADDRESS >> granule << granule
        level += 1
