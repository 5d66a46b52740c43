"""Commands on objects: they are done when they are read."""

from __future__ import annotations

from typing import Annotated

from gpu import opencl as cl
from gpu.opencl import Status
from gpu.protocol.fields import (
    I32,
    U32,
    U64,
    Counted,
    Kind,
    Number,
    Ref,
    Vector,
    bits,
    members,
    one_of,
)
from gpu.protocol.packets import Answer, Command
from gpu.protocol.types import (
    AnyBlob,
    AnyBuffer,
    ArgumentRef,
    BlobRef,
    BufferRef,
    ContextRef,
    EventRef,
    KernelRef,
    MemFlags,
    Name,
    NewBuffer,
    NewContext,
    NewEvent,
    NewImage,
    NewKernel,
    NewProgram,
    NewQueue,
    NewSampler,
    ObjectRef,
    ProgramRef,
    Programs,
    Source,
    SubFlags,
    Text,
    U32List,
)


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


class ReadPrinted(Command, opcode=0x0003):
    """Take what kernels printed into a blob: u32 count of bytes, the text, and zeros. Of what is
    not taken the context keeps CL_DEVICE_PRINTF_BUFFER_SIZE bytes."""

    size: Annotated[int, Number("Q", least=4)]
    blob_offset: U64 = 0
    context: ContextRef
    blob: BlobRef


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


class ProgramPrints(Answer):
    """Whether a built program's kernels may print: 1, or 0."""

    prints: U32


class GetProgramPrints(Command, opcode=0x0127, answer=ProgramPrints):
    """Whether ReadPrinted may have something when a built program's kernels are done."""

    program: ProgramRef


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
