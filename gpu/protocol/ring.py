"""The MMIO ring's own commands."""

from __future__ import annotations

from typing import Annotated

from gpu.protocol.fields import U32, U64, Counted, Number
from gpu.protocol.packets import Command


class GrantMemory(Command, opcode=0x0F00, front_end=True):
    """Make physical memory a blob: pairs of address and size, multiples of 4 KiB."""

    blob: U32
    ranges: Annotated[tuple[int, ...], Counted("Q", 1 << 16, least=2)]


class RevokeMemory(Command, opcode=0x0F01, front_end=True):
    """End a blob."""

    blob: U32


class SetScanout(Command, opcode=0x0F02, front_end=True):
    """Show a picture that lies in a blob; `width` 0 shows none. Pixels are 4 bytes, in memory
    order B, G, R, unused."""

    offset: U64 = 0
    width: Annotated[int, Number("I", most=16384)]
    height: Annotated[int, Number("I", most=16384)]
    stride: U32
    blob: U32


class FlushScanout(Command, opcode=0x0F03, front_end=True):
    """What lies in the picture now is to be seen."""
