"""Coverage as DynamoRIO's drcov writes it (version 2, module table version 2): for Lighthouse and
the like.

A header in text, then for each basic block a u32 offset in its module, a u16 size and a u16 module
number, little-endian.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hypervisor.profile.coverage import Stretch

_BLOCK = struct.Struct("<IHH")
_SIZE_LIMIT = 0xFFFF
_REGION = 1 << 32
_MODULES = 1 << 16


class Module(NamedTuple):
    """Addresses from `start` to `end` (exclusive) that hold the program at `path`."""

    path: str
    start: int
    end: int


def drcov(covered: Iterable[Stretch], modules: Sequence[Module]) -> bytes:
    """A drcov file of what was executed. Code that is in none of the modules is in others, named
    after the 4 GiB that they are of."""
    usable = [module for module in modules if module.end - module.start <= _REGION]
    known = sorted(usable, key=lambda module: module.start)
    starts = [module.start for module in known]
    numbers: dict[Module, int] = {module: number for number, module in enumerate(known)}
    blocks = bytearray()
    for stretch in covered:
        start = stretch.start
        while start < stretch.end:
            module = _module_of(start, known, starts)
            number = numbers.setdefault(module, len(numbers))
            if number >= _MODULES:  # more than the format can number
                break
            end = min(stretch.end, module.end, start + _SIZE_LIMIT)
            blocks += _BLOCK.pack(start - module.start, end - start, number)
            start = end
    lines = ["DRCOV VERSION: 2", "DRCOV FLAVOR: drcov"]
    lines.append(f"Module Table: version 2, count {len(numbers)}")
    lines.append("Columns: id, base, end, entry, checksum, timestamp, path")
    for module, number in numbers.items():
        place = f"{module.start:#018x}, {module.end:#018x}"
        lines.append(f"{number:3}, {place}, {0:#018x}, {0:#010x}, {0:#010x}, {module.path}")
    lines.append(f"BB Table: {len(blocks) // _BLOCK.size} bbs\n")
    return "\n".join(lines).encode() + bytes(blocks)


def _module_of(address: int, known: Sequence[Module], starts: Sequence[int]) -> Module:
    index = bisect_right(starts, address) - 1
    if index >= 0 and address < known[index].end:
        return known[index]
    base = address & -_REGION
    low = max([base, *(module.end for module in known[: index + 1])])
    high = min([base + _REGION, *starts[index + 1 : index + 2]])
    return Module(f"[code at {low:#x}]", low, high)
