"""Types of fields: numbers with their limits, and ids with what they name."""

from __future__ import annotations

from typing import Annotated

from gpu import opencl as cl
from gpu.opencl import Status
from gpu.protocol.fields import Blob, Counted, Kind, New, Number, Ref, bits

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
