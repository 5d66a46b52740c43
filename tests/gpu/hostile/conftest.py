"""A guest that attacks, and a second context of it that must not notice."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from gpu import protocol as p
from gpu.opencl import MapFlags
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

ADD = "__kernel void add(__global int *a) { a[get_global_id(0)] += 1; }"
SECRET = b"the neighbour's secret, which is 48 bytes long.."
NEIGHBOUR_AT = 8 << 20
"""Where the neighbour's results go in the blob BULK."""


class Neighbour:
    """Another guest program, which computes on memory of its own."""

    def __init__(self, guest: GuestBench) -> None:
        self._guest = guest
        self.context = guest.new_context("neighbour")
        self._rounds = 0
        guest.write(NEIGHBOUR_AT, SECRET)
        self._do(
            p.CreateContext(id=CONTEXT),
            p.CreateQueue(id=QUEUE, context=CONTEXT),
            p.CreateProgram(id=10, context=CONTEXT, source=ADD.encode()),
            p.BuildProgram(program=10),
            p.CreateKernel(id=11, program=10, function_name=b"add"),
            p.CreateBuffer(id=12, context=CONTEXT, size=4096),
            p.CreateBuffer(id=13, context=CONTEXT, size=len(SECRET)),
            p.WriteBuffer(
                queue=QUEUE, buffer=13, size=len(SECRET), blob=BULK, blob_offset=NEIGHBOUR_AT
            ),
            p.SetArgumentObject(kernel=11, index=0, object=12),
        )
        guest.write(NEIGHBOUR_AT, bytes(len(SECRET)))

    def _do(self, *commands: p.Command) -> None:
        self._guest.wait(self._guest.submit(*commands, context=self.context))
        error = self._guest.ask(p.GetError(), context=self.context)
        assert error.error == 0

    def compute(self) -> None:
        """One more step, whose result must be what all steps so far make it."""
        self._rounds += 1
        self._do(
            p.NdRange(queue=QUEUE, kernel=11, dimensions=1, global_size=(1024, 1, 1)),
            p.ReadBuffer(queue=QUEUE, buffer=12, size=4096, blob=BULK, blob_offset=NEIGHBOUR_AT),
        )
        sums = struct.unpack("<1024i", self._guest.read(NEIGHBOUR_AT, 4096))
        assert sums == (self._rounds,) * 1024


class Attacker:
    """Runs kernels that do what they must not."""

    def __init__(self, guest: GuestBench, neighbour: Neighbour) -> None:
        self.guest = guest
        self.neighbour = neighbour

    def run(self, source: str, size: int = 4096) -> bytes | None:
        """Run the kernel `k` of one work-item on a buffer of the attacker's own. What the buffer
        has then; None where the context was lost. The neighbour must be as well as before."""
        guest = self.guest
        tag = guest.submit(
            p.CreateContext(id=CONTEXT),
            p.CreateQueue(id=QUEUE, context=CONTEXT),
            p.CreateProgram(id=10, context=CONTEXT, source=source.encode()),
            p.BuildProgram(program=10),
            p.CreateKernel(id=11, program=10, function_name=b"k"),
            p.CreateBuffer(id=12, context=CONTEXT, size=size, blob=BULK),
            p.SetArgumentObject(kernel=11, index=0, object=12),
            p.NdRange(queue=QUEUE, kernel=11, dimensions=1, global_size=(1, 1, 1)),
            p.MapBuffer(queue=QUEUE, buffer=12, size=size, flags=MapFlags.READ, id=13),
            p.Unmap(queue=QUEUE, mapping=13),
        )
        guest.wait(tag)
        self.neighbour.compute()
        error = guest.ask(p.GetError()).error
        lost = bool(guest.context.lost)
        result = None if lost else guest.read(0, size)
        self._clear()
        assert (error != 0) == lost, f"error {error}, lost: {lost}"
        return result

    def _clear(self) -> None:
        guest = self.guest
        guest.wait(guest.submit(*(p.Release(id=i) for i in (12, 11, 10, QUEUE, CONTEXT))))
        guest.ask(p.GetError())

    def reason(self) -> str:
        """Why the context was lost last."""
        return next(line for line in reversed(self.guest.bench.messages) if "is lost" in line)


@pytest.fixture(scope="module")
def attacker() -> Iterator[Attacker]:
    options: Any = {"timeout": "1s", "build_timeout": "30s", "memory": "256M"}
    with GuestBench(opencl=options) as guest:
        yield Attacker(guest, Neighbour(guest))
