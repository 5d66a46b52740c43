"""A guest context's handles: what they name, what that costs of the quota, and who needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gpu import protocol
from gpu.core.blobs import Blob
from gpu.core.device import Device
from gpu.core.link import Concern, Link
from gpu.core.objects import (
    Buffer,
    ClContext,
    Event,
    Image,
    Kernel,
    Mapping,
    Object,
    Program,
    Queue,
    RefusedError,
)
from gpu.host.builds import Build
from gpu.opencl import Status
from gpu.protocol.fields import Kind, Ref

MAX_HOST = 256 << 20
"""Bytes of the hypervisor's memory for a context's objects, programs, arguments and waiting
commands."""
MAX_HOST_ALL = 1 << 30
"""The same of all contexts of a GPU."""
OBJECT_BYTES = 1 << 10
"""What an object counts, with its place in the table; an event with its command."""
_REFERENCE_BYTES, _RANGE_BYTES = 8, 128
"""What an event's command keeps of the objects and ranges that it is about."""


class Handles:
    """The table of a context's objects, and its quota. `link` leads to its worker."""

    def __init__(self, gpu: Device, number: int, label: str, link: Link) -> None:
        self.gpu = gpu
        self.number = number
        self.label = label
        self.link = link
        self.table: dict[int, Object] = {}
        self.blobs: dict[int, Blob] = {}
        self.used = 0
        """Bytes of device memory in use."""
        self.host_used = 0
        """Bytes of the hypervisor's memory in use."""
        self.under_way: list[Build] = []
        """Builds that may not be done."""
        self.commands = 0
        self.latched: protocol.LatchedError | None = None
        self.reading = (0, 0)
        """Number and opcode of the command that is being read."""
        self.numbers = 1
        self.losses = 0
        """Grows when an object that kernels may have is released or fails."""

    # -- finding ------------------------------------------------------------------------------

    def check_new(self, value: int) -> None:
        if value == 0 or value in self.table:
            raise RefusedError(Status.INVALID_VALUE)
        if len(self.table) >= protocol.MAX_OBJECTS:
            raise RefusedError(Status.OUT_OF_HOST_MEMORY)

    def find(self, value: int, role: Ref) -> Object | None:
        """The object of an id. RefusedError where it is not of that kind, or of no use."""
        if value == 0 and role.optional:
            return None
        thing = self.table.get(value)
        if thing is None or thing.kind not in role.kinds:
            raise RefusedError(role.status)
        if thing.failure and len(role.kinds) < len(Kind):
            raise RefusedError(thing.failure)
        return thing

    def find_blob(self, value: int) -> Blob:
        blob = self.blobs.get(value)
        if blob is None:
            raise RefusedError(Status.INVALID_VALUE)
        return blob

    def latch(self, index: int, opcode: int, status: Status) -> None:
        if self.latched is None or index < self.latched.index:
            self.latched = protocol.LatchedError(index=index, opcode=opcode, error=status)

    # -- making and giving up -----------------------------------------------------------------

    def now(self) -> int:
        return self.gpu.board.clock.now()

    def new_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def add(self, identifier: int, thing: Object, *operation: Any, charge: int = 0) -> None:
        """Give an object its id, and have the worker make it. Without quota RefusedError."""
        fault = self.gpu.fault
        if fault is not None and isinstance(thing, Buffer | Image) and not thing.parents():
            what = f"{thing.kind.label} {identifier} of context {self.number}"
            if fault("allocation", what):
                raise RefusedError(Status.MEM_OBJECT_ALLOCATION_FAILURE)
        self.hold(thing.host)
        if charge and not self.charge(charge):
            raise RefusedError(Status.MEM_OBJECT_ALLOCATION_FAILURE)
        thing.command = self.reading
        self.table[identifier] = thing
        for parent in thing.parents():
            parent.uses += 1
        if operation:
            self.operate(*operation, concerns=thing)

    def release(self, identifier: int) -> None:
        thing = self.table.pop(identifier)
        thing.is_released = True
        if not isinstance(thing, Event):  # which no kernel has
            self.losses += 1
        self._dispose(thing)

    def retain(self, things: Sequence[Object]) -> None:
        for thing in things:
            thing.uses += 1

    def give_back(self, things: Sequence[Object]) -> None:
        for thing in things:
            thing.uses -= 1
            self._dispose(thing)

    def operate(self, *operation: Any, concerns: Concern = None) -> None:
        """Have the worker do something, after all that was sent before."""
        self.link.operate(operation, concerns)

    def hold(self, size: int) -> None:
        """Take memory of the hypervisor's. RefusedError where there is not so much."""
        if size > 0 and not self.can_hold(size):
            raise RefusedError(Status.OUT_OF_HOST_MEMORY)
        self.host_used += size
        self.gpu.host_used += size

    def count(self, thing: Object) -> None:
        """An object was made for which there was room."""
        size = OBJECT_BYTES
        if isinstance(thing, Event) and thing.work is not None:
            work = thing.work
            size += _REFERENCE_BYTES * len(work.objects)
            size += _RANGE_BYTES * (len(work.inputs) + len(work.outputs))
        elif isinstance(thing, Mapping):
            size += _RANGE_BYTES * len(thing.ranges)
        thing.host += size
        self.host_used += size
        self.gpu.host_used += size

    def can_hold(self, size: int) -> bool:
        return self.host_used + size <= MAX_HOST and self.gpu.host_used + size <= MAX_HOST_ALL

    def keep(self, build: Build) -> None:
        """Somebody more needs what came of a build, or will."""
        build.users += 1
        if build.users == 1:
            build.account(self._take_in)

    def let_go(self, build: Build) -> None:
        """Somebody less needs it."""
        build.users -= 1
        if not build.users:
            build.close()
            self.hold(-build.host)
            build.host = 0

    def _take_in(self, build: Build, size: int) -> bool:
        """A build is done, and has so many bytes; whether there is room for them."""
        if not build.users:
            return True
        if not self.can_hold(size):
            return False
        self.hold(size)
        build.host = size
        return True

    def charge(self, size: int) -> bool:
        """Take device memory from the quota; False where there is not so much."""
        limit = self.gpu.limits.memory
        if self.used + size > limit or self.gpu.used + size > limit:
            return False
        self.used += size
        self.gpu.used += size
        return True

    def _dispose(self, thing: Object) -> None:
        if thing.uses or not thing.is_released:
            return
        if isinstance(thing, Buffer | Image):
            self.used -= thing.charge
            self.gpu.used -= thing.charge
            thing.charge = 0
        self.hold(-thing.host)
        thing.host = 0
        if isinstance(thing, Program) and thing.build is not None:
            self.let_go(thing.build)
        if isinstance(thing, Kernel) and thing.program is not None:
            thing.program.kernels -= 1
            _empty(thing)
        if not isinstance(thing, ClContext | Queue | Event | Mapping):
            self.operate("drop", thing.number)
        self.give_back(thing.parents())

    def end_blob(self, blob: Blob) -> None:
        if blob.has_shadow:
            self.used -= blob.size
            self.gpu.used -= blob.size
        blob.close()


def _empty(kernel: Kernel) -> None:
    """Of a kernel that is gone, an event of its run needs the name only."""
    kernel.arguments, kernel.sent, kernel.checked = [], (), None
    kernel.launches.clear()
    if kernel.description is not None:
        kernel.description = replace(kernel.description, arguments=None, attributes="")
