"""Virtio entropy device.

Follows VIRTIO 1.2, section 5.4, "Entropy Device". With a seed, the n-th request gets the same bytes
in every run; they are fit for nothing that must stay secret.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, Literal

from pydantic import Field

from hypervisor.device import Board, Options
from hypervisor.device.virtio import VirtioDevice

MAX_REQUEST = 64 << 10
"""Bytes that one request gets; the driver sees how many and asks again."""


class VirtioRngOptions(Options):
    seed: int | Literal["host"] | None = Field(
        default=None, description="seed, or host: the host's randomness; the machine's unless given"
    )


class VirtioRng(VirtioDevice):
    """A source of random bytes."""

    Options = VirtioRngOptions
    type = "virtio.rng"
    summary = "virtio entropy source"
    device_id = 4
    queue_names = ("requestq",)
    state = ("requests",)

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        seed = board.seed if options.seed is None else options.seed
        self._key = None if seed is None or seed == "host" else f"{name}:{seed}:".encode()
        # A reset leaves the count alone: a guest that reboots gets other bytes than before.
        self.requests = 0

    def on_queue(self, index: int) -> None:
        for chain in self.chains(index):
            self.complete(chain, chain.write(self._bytes(min(chain.write_size, MAX_REQUEST))))

    def _bytes(self, count: int) -> bytes:
        if self._key is None:
            return os.urandom(count)
        self.requests += 1
        return hashlib.shake_256(self._key + str(self.requests).encode()).digest(count)
