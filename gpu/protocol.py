"""The GPU's command set: what a guest may ask, as OpenCL 1.2 (revision 19) has it.

A stream is packets one after another (see gpu.protocol_fields for their bytes). The guest chooses
the ids of its objects. Bulk data lies in blobs: guest memory that was granted to the context. A
command whose packet has FLAG_ANSWER set is answered in a blob, before the fence of its submission:
i32 status, u32 bytes of what follows, and its Answer's fields. A command that fails without an
answer leaves its error on its event, and in the context until GetError takes it.

The classes below are everything: encoding, checks, names in traces, the reference page and the
guest's C header are made of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, dataclass_transform

from gpu import opencl as cl
from gpu.opencl import Status
from gpu.protocol_fields import (
    I32,
    U32,
    U64,
    Blob,
    Counted,
    Kind,
    Layout,
    MalformedError,
    New,
    Number,
    Ref,
    Vector,
    bits,
    fields_of,
    members,
    one_of,
)

VERSION = 1
"""Grows when bytes that an older guest sends or reads mean something else."""
CAPSET = 30
"""The id of our capability set on virtio-gpu."""
FLAG_ANSWER = 1
MAX_STREAM = 4 << 20
"""Bytes of one submission."""
MAX_COMMANDS = 1 << 16
"""Packets of one submission."""
MAX_OBJECTS = 1 << 20
"""Objects of one context."""
MAX_ANSWER = 1 << 20
"""Bytes of one answer."""
MAX_INLINE = 1 << 16
"""Bytes that a write carries in its packet."""
RINGS = 64
"""Timelines of a context."""

HEADER = struct.Struct("<HHI")
ANSWER_PLACE = struct.Struct("<QII")
ANSWER_HEADER = struct.Struct("<iI")

_BUFFER, _IMAGE = (Kind.BUFFER,), (Kind.IMAGE,)
_MEMORY = (Kind.BUFFER, Kind.IMAGE)

NewContext = Annotated[int, Number("I"), New(Kind.CONTEXT)]
NewQueue = Annotated[int, Number("I"), New(Kind.QUEUE)]
NewBuffer = Annotated[int, Number("I"), New(Kind.BUFFER)]
NewImage = Annotated[int, Number("I"), New(Kind.IMAGE)]
NewSampler = Annotated[int, Number("I"), New(Kind.SAMPLER)]
NewProgram = Annotated[int, Number("I"), New(Kind.PROGRAM)]
NewKernel = Annotated[int, Number("I"), New(Kind.KERNEL)]
NewEvent = Annotated[int, Number("I"), New(Kind.EVENT)]
NewMapping = Annotated[int, Number("I"), New(Kind.MAPPING)]
AnEvent = Annotated[int, Number("I"), New(Kind.EVENT, optional=True)]
"""The event of an enqueued command; 0 where nobody asks."""
ContextRef = Annotated[int, Number("I"), Ref((Kind.CONTEXT,))]
QueueRef = Annotated[int, Number("I"), Ref((Kind.QUEUE,))]
BufferRef = Annotated[int, Number("I"), Ref(_BUFFER)]
AnyBuffer = Annotated[int, Number("I"), Ref(_BUFFER, optional=True)]
ImageRef = Annotated[int, Number("I"), Ref(_IMAGE)]
ProgramRef = Annotated[int, Number("I"), Ref((Kind.PROGRAM,))]
KernelRef = Annotated[int, Number("I"), Ref((Kind.KERNEL,))]
EventRef = Annotated[int, Number("I"), Ref((Kind.EVENT,))]
MappingRef = Annotated[int, Number("I"), Ref((Kind.MAPPING,))]
ObjectRef = Annotated[int, Number("I"), Ref(tuple(Kind), error=Status.INVALID_VALUE)]
ArgumentRef = Annotated[
    int,
    Number("I"),
    Ref((*_MEMORY, Kind.SAMPLER), optional=True, error=Status.INVALID_ARG_VALUE),
]
Events = Annotated[
    tuple[int, ...], Counted("I", 1024), Ref((Kind.EVENT,), error=Status.INVALID_EVENT_WAIT_LIST)
]
Memories = Annotated[tuple[int, ...], Counted("I", 1024, least=1), Ref(_MEMORY)]
Programs = Annotated[tuple[int, ...], Counted("I", 256), Ref((Kind.PROGRAM,))]
BlobRef = Annotated[int, Number("I"), Blob()]
AnyBlob = Annotated[int, Number("I"), Blob(optional=True)]

_ACCESS = int(cl.MemFlags.READ_WRITE | cl.MemFlags.WRITE_ONLY | cl.MemFlags.READ_ONLY)
_HOST = 7 << 7
MemFlags = Annotated[int, bits(_ACCESS | _HOST | cl.MemFlags.COPY_HOST_PTR)]
SubFlags = Annotated[int, bits(_ACCESS | _HOST)]
MapFlags = Annotated[int, bits(7)]
Text = Annotated[bytes, Counted("s", 1 << 16)]
Name = Annotated[bytes, Counted("s", 1 << 12, least=1)]
Source = Annotated[bytes, Counted("s", 2 << 20)]
Pattern = Annotated[bytes, Counted("s", 128, least=1)]
U32List = Annotated[tuple[int, ...], Counted("I", 1 << 16)]

COMMANDS: dict[int, type[Command]] = {}
"""Every command by its opcode."""


@dataclass(frozen=True)
class AnswerPlace:
    """Where an answer goes: `size` bytes, its header included, at `offset` of `blob`."""

    blob: int
    offset: int
    size: int


@dataclass_transform(kw_only_default=True)
class Record:
    """Fields on the wire. Subclasses declare them by annotation."""

    layout: ClassVar[Layout]

    def __init_subclass__(cls) -> None:
        dataclass(kw_only=True)(cls)
        cls.layout = Layout(fields_of(cls))

    @classmethod
    def unpack(cls, data: bytes | memoryview, at: int, end: int) -> Any:
        """The record between `at` and `end`; MalformedError where there is none."""
        layout = cls.layout
        record = cls.__new__(cls)
        record.__dict__.update(zip(layout.names, layout.unpack(data, at, end), strict=True))
        return record

    def pack(self) -> bytes:
        return self.layout.pack(self.__dict__)


class Answer(Record):
    """What a command is answered besides its status."""


class NoAnswer(Answer):
    """Only the status."""


class Command(Record):
    """A command. `function` is what it serves, `cost` what it costs on a timeline."""

    opcode: ClassVar[int] = 0
    name: ClassVar[str] = ""
    function: ClassVar[str] = ""
    answer_type: ClassVar[type[Answer]] = NoAnswer
    must_answer: ClassVar[bool] = False
    front_end: ClassVar[bool] = False
    """The front end's own, not the core's: only the MMIO ring has them."""

    def __init_subclass__(
        cls,
        opcode: int = 0,
        function: str = "",
        answer: type[Answer] | None = None,
        front_end: bool = False,
    ) -> None:
        super().__init_subclass__()
        cls.opcode, cls.function, cls.front_end = opcode, function, front_end
        cls.name = "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__)[1:]
        cls.answer_type = answer or NoAnswer
        cls.must_answer = answer is not None
        if opcode:
            assert opcode not in COMMANDS, f"two commands have the opcode {opcode:#x}"
            COMMANDS[opcode] = cls

    def encode(self, answer: AnswerPlace | None = None) -> bytes:
        """The packet."""
        body = self.pack()
        place = b""
        if answer is not None:
            place = ANSWER_PLACE.pack(answer.offset, answer.blob, answer.size)
        flags = FLAG_ANSWER if answer is not None else 0
        size = HEADER.size + len(place) + len(body)
        return HEADER.pack(self.opcode, flags, size) + place + body

    def check(self) -> Status:
        """The error of the first number that its declaration forbids, or SUCCESS."""
        for name, number in _limits(type(self)):
            if not number.allows(getattr(self, name)):
                return number.error
        return Status.SUCCESS


class Enqueue(Command):
    """What all enqueued commands have: they start when the events they wait for are complete."""

    queue: QueueRef
    event: AnEvent = 0
    wait: Events = ()


@dataclass(slots=True)
class Packet:
    """One decoded packet: `command` is None where `status` says what is wrong with it."""

    start: int
    end: int
    opcode: int
    command: Command | None
    answer: AnswerPlace | None
    status: Status = Status.SUCCESS
    reason: str = ""


Known = dict[bytes, Packet]
"""Packets by their bytes: programs repeat themselves, and finding one is faster than reading it."""
_MOST_KNOWN = 4096
_LONGEST_KNOWN = 256


def decode(stream: bytes | memoryview, known: Known | None = None) -> Iterator[Packet]:
    """The packets of a stream in order. A packet that is wrong in itself is passed over; one
    whose size cannot be believed ends the stream. Short ones are kept in `known` and found there
    again, with the places that they were first read from."""
    at, total = 0, len(stream)
    count = 0
    while at < total:
        count += 1
        opcode = flags = size = 0
        if total - at >= HEADER.size:
            opcode, flags, size = HEADER.unpack_from(stream, at)
        if size < HEADER.size or size % 8 or size > total - at or count > MAX_COMMANDS:
            reason = f"the stream breaks off at byte {at}"
            yield Packet(at, total, opcode, None, None, Status.INVALID_VALUE, reason)
            return
        if known is None or size > _LONGEST_KNOWN:
            yield _decode_packet(stream, at, at + size, opcode, flags)
        else:
            key = bytes(stream[at : at + size])
            packet = known.get(key)
            if packet is None:
                if len(known) >= _MOST_KNOWN:
                    known.clear()
                packet = known[key] = _decode_packet(stream, at, at + size, opcode, flags)
            yield packet
        at += size


def _decode_packet(
    stream: bytes | memoryview, start: int, end: int, opcode: int, flags: int
) -> Packet:
    place = None
    at = start + HEADER.size
    kind = COMMANDS.get(opcode)
    try:
        if flags & ~FLAG_ANSWER:
            raise MalformedError(Status.INVALID_VALUE, f"it has unknown flags {flags:#x}")
        if flags & FLAG_ANSWER:
            if end - at < ANSWER_PLACE.size:
                raise MalformedError(Status.INVALID_VALUE, "it has no place for its answer")
            offset, blob, size = ANSWER_PLACE.unpack_from(stream, at)
            place = AnswerPlace(blob, offset, size)
            at += ANSWER_PLACE.size
        if kind is None:
            raise MalformedError(Status.INVALID_OPERATION, f"there is no command {opcode:#06x}")
        if place is None and kind.must_answer:
            raise MalformedError(Status.INVALID_VALUE, "it names no place for its answer")
        command = kind.unpack(stream, at, end)
        status = command.check()
        if status:
            return Packet(start, end, opcode, None, place, status, f"{kind.name}: a bad number")
    except MalformedError as error:
        name = kind.name if kind is not None else "packet"
        return Packet(start, end, opcode, None, place, error.status, f"{name}: {error}")
    return Packet(start, end, opcode, command, place)


_LIMITS: dict[type[Command], list[tuple[str, Number]]] = {}


def _limits(kind: type[Command]) -> list[tuple[str, Number]]:
    found = _LIMITS.get(kind)
    if found is None:
        found = [
            (field.name, field.spec)
            for field in kind.layout.fields
            if isinstance(field.spec, Number) and not field.spec.is_free
        ]
        _LIMITS[kind] = found
    return found


# -- what a guest learns before it asks --------------------------------------------------------


class Capset(Record):
    """The device, as virtio-gpu's capability set and the ring's information page carry it.

    `platform` and `device` answer clGetPlatformInfo and clGetDeviceInfo without a round trip: one
    entry a parameter of u32 name, u32 bytes, and the value as a 64-bit little-endian guest has it
    (text with its NUL), padded to 8 bytes. `status` is DEVICE_NOT_FOUND where the host has no
    OpenCL device; the lists are empty then."""

    version: U32 = VERSION
    status: I32 = 0
    max_stream: U32 = MAX_STREAM
    max_commands: U32 = MAX_COMMANDS
    max_answer: U32 = MAX_ANSWER
    max_inline: U32 = MAX_INLINE
    rings: U32 = RINGS
    platform: Annotated[bytes, Counted("s", 1 << 14)] = b""
    device: Annotated[bytes, Counted("s", 1 << 16)] = b""


def pack_parameters(values: dict[int, bytes]) -> bytes:
    """`platform` or `device` of a Capset."""
    return b"".join(
        struct.pack("<II", name, len(value)) + value + bytes(-len(value) % 8)
        for name, value in sorted(values.items())
    )


def unpack_parameters(data: bytes) -> dict[int, bytes]:
    """What pack_parameters packed."""
    values, at = {}, 0
    while at < len(data):
        name, size = struct.unpack_from("<II", data, at)
        values[name] = data[at + 8 : at + 8 + size]
        at += 8 + size + -size % 8
    return values


# -- objects ----------------------------------------------------------------------------------


class LatchedError(Answer):
    """The first error since the last GetError: its status (0: none), its command's opcode, and
    that command's number in the context, counted from 0."""

    index: U64
    opcode: U32
    error: I32


class GetError(Command, opcode=0x0001, answer=LatchedError):
    """Take the context's first error, and clear it."""


class Release(Command, opcode=0x0002, function="clRelease*"):
    """Give up an object; its id is free again. What is enqueued keeps what it uses."""

    id: ObjectRef


class CreateContext(Command, opcode=0x0100, function="clCreateContext"):
    """Make a context on the device."""

    id: NewContext


class CreateQueue(Command, opcode=0x0101, function="clCreateCommandQueue"):
    """Make a queue. `priority`: 0 medium, 1 high, 2 low."""

    properties: Annotated[int, bits(3, Status.INVALID_QUEUE_PROPERTIES)] = 0
    id: NewQueue
    context: ContextRef
    priority: Annotated[int, Number("I", Status.INVALID_QUEUE_PROPERTIES, most=2)] = 0


class CreateBuffer(Command, opcode=0x0110, function="clCreateBuffer"):
    """Make a buffer on the blob's own bytes, or with COPY_HOST_PTR from a copy of them; without a
    blob, of the device's memory."""

    flags: MemFlags = 0
    size: Annotated[int, Number("Q", Status.INVALID_BUFFER_SIZE, least=1, most=1 << 48)]
    blob_offset: U64 = 0
    id: NewBuffer
    context: ContextRef
    blob: AnyBlob = 0


class CreateSubBuffer(Command, opcode=0x0111, function="clCreateSubBuffer"):
    """Make a buffer of a part of a buffer."""

    flags: SubFlags = 0
    origin: U64
    size: Annotated[int, Number("Q", Status.INVALID_BUFFER_SIZE, least=1)]
    id: NewBuffer
    buffer: BufferRef


class CreateImage(Command, opcode=0x0112, function="clCreateImage"):
    """Make an image: like a buffer of a blob or of the device's memory, or a 1D image of
    `buffer`. Pitches are 0 where the device may choose."""

    flags: MemFlags = 0
    width: U64
    height: U64 = 0
    depth: U64 = 0
    array_size: U64 = 0
    row_pitch: U64 = 0
    slice_pitch: U64 = 0
    blob_offset: U64 = 0
    id: NewImage
    context: ContextRef
    type: Annotated[int, one_of(list(cl.MemObject)[1:], Status.INVALID_IMAGE_DESCRIPTOR)]
    channel_order: Annotated[int, members(cl.ChannelOrder, Status.INVALID_IMAGE_FORMAT_DESCRIPTOR)]
    channel_type: Annotated[int, members(cl.ChannelType, Status.INVALID_IMAGE_FORMAT_DESCRIPTOR)]
    buffer: AnyBuffer = 0
    blob: AnyBlob = 0


class CreateSampler(Command, opcode=0x0113, function="clCreateSampler"):
    """Make a sampler."""

    id: NewSampler
    context: ContextRef
    normalized: Annotated[int, Number("I", most=1)]
    addressing: Annotated[int, members(cl.AddressingMode)]
    filter: Annotated[int, members(cl.FilterMode)]


class CreateProgram(Command, opcode=0x0120, function="clCreateProgramWithSource"):
    """Make a program of OpenCL C source, its strings joined."""

    id: NewProgram
    context: ContextRef
    source: Source


class CreateProgramWithBinary(Command, opcode=0x0121, function="clCreateProgramWithBinary"):
    """Make a program of a binary's key, as GetProgramInfo gave it. The binary itself never leaves
    the host; INVALID_BINARY where the host does not know the key."""

    id: NewProgram
    context: ContextRef
    key: Annotated[bytes, Counted("s", 256)]


class BuildProgram(Command, opcode=0x0122, function="clBuildProgram"):
    """Compile and link."""

    program: ProgramRef
    options: Text = b""


class CompileProgram(Command, opcode=0x0123, function="clCompileProgram"):
    """Compile with programs as headers; `names` holds their names, each ending in NUL."""

    program: ProgramRef
    headers: Programs = ()
    names: Text = b""
    options: Text = b""


class LinkProgram(Command, opcode=0x0124, function="clLinkProgram"):
    """Make a program of compiled ones."""

    id: NewProgram
    context: ContextRef
    programs: Annotated[tuple[int, ...], Counted("I", 256, least=1), Ref((Kind.PROGRAM,))]
    options: Text = b""


class ProgramBuild(Answer):
    """CL_PROGRAM_BUILD_STATUS, CL_PROGRAM_BINARY_TYPE and the log."""

    build_status: I32
    binary_type: U32
    log: Annotated[bytes, Counted("s", 1 << 19)]


class GetProgramBuild(
    Command, opcode=0x0125, function="clGetProgramBuildInfo", answer=ProgramBuild
):
    """How the last build of a program went."""

    program: ProgramRef


class ProgramInfo(Answer):
    """Names of the kernels joined by `;`, and the key of the binary (empty: not built)."""

    kernels: Annotated[bytes, Counted("s", 1 << 18)]
    key: Annotated[bytes, Counted("s", 256)]


class GetProgramInfo(Command, opcode=0x0126, function="clGetProgramInfo", answer=ProgramInfo):
    """What a built program has."""

    program: ProgramRef


class CreateKernel(Command, opcode=0x0130, function="clCreateKernel"):
    """Make a kernel of a built program."""

    id: NewKernel
    program: ProgramRef
    function_name: Name


class SetArgument(Command, opcode=0x0131, function="clSetKernelArg"):
    """Give an argument by its bytes."""

    kernel: KernelRef
    index: U32
    value: Annotated[bytes, Counted("s", 1 << 12, least=1)]


class SetArgumentObject(Command, opcode=0x0132, function="clSetKernelArg"):
    """Give an argument that is a buffer, image or sampler; 0: a null buffer."""

    kernel: KernelRef
    index: U32
    object: ArgumentRef


class SetArgumentLocal(Command, opcode=0x0133, function="clSetKernelArg"):
    """Give an argument `size` bytes of local memory."""

    size: Annotated[int, Number("Q", Status.INVALID_ARG_SIZE, least=1)]
    kernel: KernelRef
    index: U32


class KernelInfo(Answer):
    """clGetKernelInfo, clGetKernelWorkGroupInfo and clGetKernelArgInfo at once. Lists have an
    element an argument, names end in NUL; all are empty where `has_arguments` is 0."""

    compile_work_group_size: Vector
    work_group_size: U64
    preferred_work_group_size_multiple: U64
    local_mem_size: U64
    private_mem_size: U64
    num_args: U32
    has_arguments: U32
    address_qualifiers: U32List
    access_qualifiers: U32List
    type_qualifiers: U32List
    type_names: Text
    names: Text
    attributes: Text


class GetKernelInfo(
    Command, opcode=0x0134, function="clGetKernel{,WorkGroup,Arg}Info", answer=KernelInfo
):
    """All there is to know of a kernel."""

    kernel: KernelRef


class ImageFormats(Answer):
    """Pairs of channel order and channel type."""

    formats: U32List


class GetImageFormats(
    Command, opcode=0x0140, function="clGetSupportedImageFormats", answer=ImageFormats
):
    """The image formats that the device has for these flags and this type."""

    flags: MemFlags
    context: ContextRef
    type: Annotated[int, members(cl.MemObject)]


class CreateUserEvent(Command, opcode=0x0150, function="clCreateUserEvent"):
    """Make an event that the guest completes."""

    id: NewEvent
    context: ContextRef


class SetUserEventStatus(Command, opcode=0x0151, function="clSetUserEventStatus"):
    """Complete a user event (0), or fail it (below 0)."""

    event: EventRef
    status: Annotated[int, Number("i", most=0)]


class EventStatus(Answer):
    """CL_EVENT_COMMAND_EXECUTION_STATUS."""

    execution: I32


class GetEventStatus(Command, opcode=0x0152, function="clGetEventInfo", answer=EventStatus):
    """How far a command is. Asked on its queue's own ring, the answer comes after the command."""

    event: EventRef


class EventProfile(Answer):
    """Times in ns of the device's clock."""

    queued: U64
    submit: U64
    start: U64
    end: U64


class GetEventProfile(
    Command, opcode=0x0153, function="clGetEventProfilingInfo", answer=EventProfile
):
    """When a command of a profiling queue ran."""

    event: EventRef


# -- what is enqueued --------------------------------------------------------------------------


class ReadBuffer(Enqueue, opcode=0x0200, function="clEnqueueReadBuffer"):
    """Copy from a buffer to a blob."""

    offset: U64 = 0
    size: Annotated[int, Number("Q", least=1)]
    blob_offset: U64 = 0
    buffer: BufferRef
    blob: BlobRef


class WriteBuffer(Enqueue, opcode=0x0201, function="clEnqueueWriteBuffer"):
    """Copy from a blob to a buffer."""

    offset: U64 = 0
    size: Annotated[int, Number("Q", least=1)]
    blob_offset: U64 = 0
    buffer: BufferRef
    blob: BlobRef


class WriteBufferInline(Enqueue, opcode=0x0202, function="clEnqueueWriteBuffer"):
    """Write bytes that the packet carries."""

    offset: U64 = 0
    buffer: BufferRef
    data: Annotated[bytes, Counted("s", MAX_INLINE, least=1)]


class _Rectangle(Enqueue):
    buffer_origin: Vector
    host_origin: Vector
    region: Vector
    buffer_row_pitch: U64 = 0
    buffer_slice_pitch: U64 = 0
    host_row_pitch: U64 = 0
    host_slice_pitch: U64 = 0
    blob_offset: U64 = 0
    buffer: BufferRef
    blob: BlobRef


class ReadBufferRect(_Rectangle, opcode=0x0203, function="clEnqueueReadBufferRect"):
    """Copy a box from a buffer to a blob. Pitches of 0 mean tightly packed."""


class WriteBufferRect(_Rectangle, opcode=0x0204, function="clEnqueueWriteBufferRect"):
    """Copy a box from a blob to a buffer."""


class CopyBuffer(Enqueue, opcode=0x0205, function="clEnqueueCopyBuffer"):
    """Copy between buffers, or parts of one that do not overlap."""

    source_offset: U64 = 0
    destination_offset: U64 = 0
    size: Annotated[int, Number("Q", least=1)]
    source: BufferRef
    destination: BufferRef


class CopyBufferRect(Enqueue, opcode=0x0206, function="clEnqueueCopyBufferRect"):
    """Copy a box between buffers."""

    source_origin: Vector
    destination_origin: Vector
    region: Vector
    source_row_pitch: U64 = 0
    source_slice_pitch: U64 = 0
    destination_row_pitch: U64 = 0
    destination_slice_pitch: U64 = 0
    source: BufferRef
    destination: BufferRef


class FillBuffer(Enqueue, opcode=0x0207, function="clEnqueueFillBuffer"):
    """Fill with a pattern of 1, 2, 4 ... 128 bytes."""

    offset: U64 = 0
    size: Annotated[int, Number("Q", least=1)]
    buffer: BufferRef
    pattern: Pattern


class _HostImage(Enqueue):
    origin: Vector
    region: Vector
    row_pitch: U64 = 0
    slice_pitch: U64 = 0
    blob_offset: U64 = 0
    image: ImageRef
    blob: BlobRef


class ReadImage(_HostImage, opcode=0x0210, function="clEnqueueReadImage"):
    """Copy a box from an image to a blob."""


class WriteImage(_HostImage, opcode=0x0211, function="clEnqueueWriteImage"):
    """Copy a box from a blob to an image."""


class CopyImage(Enqueue, opcode=0x0212, function="clEnqueueCopyImage"):
    """Copy a box between images of one format."""

    source_origin: Vector
    destination_origin: Vector
    region: Vector
    source: ImageRef
    destination: ImageRef


class CopyImageToBuffer(Enqueue, opcode=0x0213, function="clEnqueueCopyImageToBuffer"):
    """Copy a box from an image to a buffer, tightly packed."""

    origin: Vector
    region: Vector
    buffer_offset: U64 = 0
    image: ImageRef
    buffer: BufferRef


class CopyBufferToImage(Enqueue, opcode=0x0214, function="clEnqueueCopyBufferToImage"):
    """Copy from a buffer to a box of an image."""

    origin: Vector
    region: Vector
    buffer_offset: U64 = 0
    image: ImageRef
    buffer: BufferRef


class FillImage(Enqueue, opcode=0x0215, function="clEnqueueFillImage"):
    """Fill a box with a color: four floats, or integers as the format's type wants."""

    origin: Vector
    region: Vector
    image: ImageRef
    color: Annotated[bytes, Counted("s", 16, least=16)]


class MapBuffer(Enqueue, opcode=0x0220, function="clEnqueueMapBuffer"):
    """Make a blob's buffer readable and writable in the blob; `id` is what Unmap ends."""

    flags: MapFlags
    offset: U64 = 0
    size: Annotated[int, Number("Q", least=1)]
    buffer: BufferRef
    id: NewMapping


class MapImage(Enqueue, opcode=0x0221, function="clEnqueueMapImage"):
    """Make a blob's image readable and writable in the blob."""

    flags: MapFlags
    origin: Vector
    region: Vector
    image: ImageRef
    id: NewMapping


class Unmap(Enqueue, opcode=0x0222, function="clEnqueueUnmapMemObject"):
    """End a mapping: the device sees what was written. The mapping's id is free again."""

    mapping: MappingRef


class MigrateMemory(Enqueue, opcode=0x0223, function="clEnqueueMigrateMemObjects"):
    """Bring memory to the device, or to the host."""

    flags: Annotated[int, bits(3)] = 0
    memories: Memories


class NdRange(Enqueue, opcode=0x0230, function="clEnqueueNDRangeKernel"):
    """Run a kernel over a range of `dimensions`; local sizes of 0 leave them to the device.
    Unused dimensions are 0 in `offset` and `local_size`, 1 in `global_size`."""

    offset: Vector = (0, 0, 0)
    global_size: Vector
    local_size: Vector = (0, 0, 0)
    kernel: KernelRef
    dimensions: Annotated[int, Number("I", Status.INVALID_WORK_DIMENSION, least=1, most=3)]


class Task(Enqueue, opcode=0x0231, function="clEnqueueTask"):
    """Run a kernel as one work-item."""

    kernel: KernelRef


class Marker(Enqueue, opcode=0x0240, function="clEnqueueMarkerWithWaitList"):
    """An event of all before it in its queue, or of those it waits for."""


class Barrier(Enqueue, opcode=0x0241, function="clEnqueueBarrierWithWaitList"):
    """What follows in the queue starts after this."""


class Flush(Command, opcode=0x0242, function="clFlush"):
    """Start what is enqueued. A submission does so at its end."""

    queue: QueueRef


class Finish(Command, opcode=0x0243, function="clFinish"):
    """Hold the submission's fence until all that was ever enqueued to the queue is complete."""

    queue: QueueRef


# -- the MMIO ring's own -----------------------------------------------------------------------


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
