"""What a device asks before it acts, where a fault may be on purpose (hypervisor.faults)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple


class RequestFault(NamedTuple):
    """What is to go wrong with one request to a disk."""

    delay: int = 0
    """ns that it takes longer."""
    error: str = ""
    """Why it fails, as a sentence; empty: it does not."""


RequestHook = Callable[[str, int, int], RequestFault | None]
"""Called with a request's operation (`read`, `write`, `flush`, `discard`), its offset and bytes."""

GpuHook = Callable[[Literal["allocation", "fence", "worker"], str], int]
"""Called with what a GPU is about to do and for what: allocate memory, complete a submission, or
give its worker a command. 0: it may; else it fails, or for a fence, the ns that it comes later."""

PacketHook = Callable[[str, int], bool]
"""Called with a packet's direction (`sent` or `received`, by the guest) and bytes; whether it is
lost."""
