"""What a guest's handles name, and the table of them. Numbers here are the worker's; the guest's
ids are the table's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from gpu.opencl import Execution, Status
from gpu.protocol.fields import Kind

if TYPE_CHECKING:
    from gpu.core.blobs import Blob
    from gpu.core.work import Work
    from gpu.host.builds import Build
    from gpu.host.result import KernelDescription


class RefusedError(Exception):
    """A command that is answered with an error and changes nothing."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass(eq=False)
class Object:
    """Base of all. `uses` counts what needs it besides its handle."""

    kind: ClassVar[Kind]
    number: int
    scope: ClContext | None = None
    uses: int = 0
    is_released: bool = False
    command: tuple[int, int] = (0, 0)
    """Number and opcode of the command that made it."""
    host: int = 0
    """Bytes of the hypervisor's memory that it holds."""
    failure: Status = Status.SUCCESS
    """Why it is of no use any more: its context was lost, or the device could not make it."""

    def parents(self) -> tuple[Object, ...]:
        """What it needs as long as it is there."""
        return ()


@dataclass(eq=False)
class ClContext(Object):
    kind = Kind.CONTEXT


@dataclass(eq=False)
class Queue(Object):
    kind = Kind.QUEUE
    is_in_order: bool = True
    is_profiling: bool = False
    priority: int = 0
    tail: Work | None = None
    """What was enqueued last."""
    barrier: Work | None = None
    unsent: dict[Work, None] | None = None
    """What waits for other commands."""
    gathered: Work | None = None
    """The last that waits for all before it, and does so still."""
    since: dict[Work, None] | None = None
    """What waits for other commands, and was enqueued after that."""
    end: int = 0
    """Virtual time at which all that was sent is complete."""


@dataclass(eq=False)
class Buffer(Object):
    kind = Kind.BUFFER
    size: int = 0
    flags: int = 0
    blob: Blob | None = None
    """The guest memory it lies in."""
    blob_offset: int = 0
    parent: Buffer | None = None
    origin: int = 0
    charge: int = 0
    """Bytes of the quota."""
    maps: int = 0

    def parents(self) -> tuple[Object, ...]:
        return (self.parent,) if self.parent is not None else ()


@dataclass(eq=False)
class Image(Object):
    kind = Kind.IMAGE
    size: int = 0
    flags: int = 0
    blob: Blob | None = None
    blob_offset: int = 0
    buffer: Buffer | None = None
    charge: int = 0
    maps: int = 0
    type: int = 0
    format: tuple[int, int] = (0, 0)
    pixel: int = 0
    shape: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Width, height, depth, layers."""
    pitches: tuple[int, int] = (0, 0)
    extent: tuple[int, int, int] = (0, 0, 0)
    """Its size as regions give it."""

    def parents(self) -> tuple[Object, ...]:
        return (self.buffer,) if self.buffer is not None else ()


Memory = Buffer | Image


@dataclass(eq=False)
class Sampler(Object):
    kind = Kind.SAMPLER
    settings: tuple[int, int, int] = (0, 0, 0)


@dataclass(eq=False)
class Program(Object):
    kind = Kind.PROGRAM
    recipe: tuple[Any, ...] = ()
    """("source", text), ("binary", key), or what gpu.host.builds takes."""
    build: Build | None = None
    is_loaded: bool = False
    """The worker has its binary."""
    groups: tuple[str, ...] = ()
    """Sizes of work-groups for which the worker has its kernels compiled."""
    refused: tuple[str, ...] = ()
    """Sizes for which its compiler was lost: no kernel of it runs in these."""
    kernels: int = 0


@dataclass(eq=False)
class Kernel(Object):
    kind = Kind.KERNEL
    program: Program | None = None
    description: KernelDescription | None = None
    arguments: list[Argument | None] | None = None
    sent: tuple[Argument | None, ...] | None = None
    """The arguments that the worker has, also of runs that failed."""
    checked: tuple[int, tuple[Argument, ...], list[Object]] | None = None
    """The arguments and their objects as they were found good, and the context's `losses` then."""
    launches: dict[Any, Launch] = field(default_factory=dict)
    """What was found of it, by grid."""

    def parents(self) -> tuple[Object, ...]:
        return (self.program,) if self.program is not None else ()


@dataclass(slots=True)
class Launch:
    """A kernel's run in one grid: what was found of it once, as programs repeat themselves."""

    operation: tuple[Any, ...]
    """The worker's, without the arguments."""
    local_size: tuple[int, ...] | None
    items: int
    cost: int
    is_ready: bool = False
    """The worker has the code for these work-groups."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A kernel's argument: `kind` as the worker has it, `value` what it is sent."""

    kind: int
    value: Any
    object: Object | None = None

    @property
    def size(self) -> int:
        """Bytes of its value."""
        return len(self.value) if isinstance(self.value, bytes) else 0


@dataclass(eq=False)
class Event(Object):
    kind = Kind.EVENT
    work: Work | None = None
    is_user: bool = False
    is_profiling: bool = False


@dataclass(eq=False)
class Mapping(Object):
    kind = Kind.MAPPING
    memory: Memory | None = None
    ranges: tuple[tuple[int, int], ...] = ()
    """Offsets and sizes in the blob."""
    flags: int = 0
    operation: tuple[Any, ...] = ()
    """What had the worker map it."""

    def parents(self) -> tuple[Object, ...]:
        return (self.memory,) if self.memory is not None else ()


def execution_of(status: int | None, start: int, end: int, is_sent: bool, now: int) -> int:
    """CL_EVENT_COMMAND_EXECUTION_STATUS at virtual time `now`."""
    if status is not None and status < 0:
        return status
    if not is_sent:
        return Execution.QUEUED
    if now < start:
        return Execution.SUBMITTED
    return Execution.RUNNING if now < end else Execution.COMPLETE
