"""Kernels, their arguments, and running them."""

from __future__ import annotations

import re

from gpu import protocol
from gpu.core.answers import kernel_info
from gpu.core.commands.programs import built_of
from gpu.core.commands.registry import Found, check_scope, handles, refuse
from gpu.core.objects import Argument, Buffer, Image, Kernel, Object, Sampler
from gpu.core.schedule import Schedule
from gpu.core.work import Producer
from gpu.host.result import ArgumentDescription
from gpu.opencl import Status

VALUE, MEMORY, SAMPLER, LOCAL, NULL = range(5)
"""How a kernel's argument is given, as the worker has it."""
GLOBAL_SPACE, LOCAL_SPACE, CONSTANT_SPACE = 0x119B, 0x119C, 0x119D
_NO_ACCESS = 0x11A3
_SCALARS = {
    "char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "long": 8, "ulong": 8,
    "float": 4, "double": 8, "half": 2, "unsigned char": 1, "unsigned short": 2,
    "unsigned int": 4, "unsigned long": 8, "signed char": 1, "bool": 1,
}  # fmt: skip
_SLOT_BYTES, _ARGUMENT_BYTES = 32, 128
"""What a kernel's argument takes of the hypervisor's memory before it is set, and then."""
_VECTOR = re.compile(r"(u?(?:char|short|int|long)|float|double|half)(2|3|4|8|16)")


@handles(protocol.CreateKernel)
def create_kernel(context: Schedule, command: protocol.CreateKernel, found: Found) -> None:
    program = found["program"]
    built = built_of(program)
    if built is None or not built.binary:
        raise refuse(Status.INVALID_PROGRAM_EXECUTABLE)
    name = command.function_name.rstrip(b"\0").decode(errors="replace")
    description = built.kernel(name)
    if description is None:
        raise refuse(Status.INVALID_KERNEL_NAME)
    is_new = not program.is_loaded
    if is_new:
        context.operate("program", program.number, built.binary, concerns=program)
        program.is_loaded = True
    number = context.new_number()
    kernel = Kernel(
        number,
        program.scope,
        program=program,
        description=description,
        arguments=[None] * description.count,
        sent=(None,) * description.count,
        host=_SLOT_BYTES * description.count,
    )
    context.add(command.id, kernel, "kernel", number, program.number, name)
    program.kernels += 1
    if is_new:
        # While it waits to be sent, a binary is held whose program may have been released.
        context.link.flush()


@handles(protocol.GetKernelInfo)
def get_kernel_info(context: Schedule, command: protocol.GetKernelInfo, found: Found) -> Producer:
    return "record", kernel_info(found["kernel"].description)


# -- arguments ---------------------------------------------------------------------------------


def _described(kernel: Kernel, index: int) -> ArgumentDescription | None:
    """What the argument wants, None where nothing is known of it."""
    assert kernel.description is not None
    if index >= kernel.description.count:
        raise refuse(Status.INVALID_ARG_INDEX)
    arguments = kernel.description.arguments
    return arguments[index] if arguments is not None else None


@handles(protocol.SetArgument)
def set_argument(context: Schedule, command: protocol.SetArgument, found: Found) -> None:
    kernel: Kernel = found["kernel"]
    described = _described(kernel, command.index)
    size = len(command.value)
    if size > context.gpu.limits.max_parameter:
        raise refuse(Status.INVALID_ARG_SIZE)
    if described is not None:
        if _wants_object(described) or described.address == LOCAL_SPACE:
            raise refuse(Status.INVALID_ARG_VALUE)
        wanted = size_of(described.type_name)
        if wanted is not None and size != wanted:
            raise refuse(Status.INVALID_ARG_SIZE)
    _set(context, kernel, command.index, Argument(VALUE, command.value))


def _set(context: Schedule, kernel: Kernel, index: int, argument: Argument) -> None:
    assert kernel.arguments is not None
    before = kernel.arguments[index]
    more = argument.size - (before.size if before is not None else -_ARGUMENT_BYTES)
    if more:
        context.hold(more)
        kernel.host += more
    kernel.arguments[index] = argument
    kernel.checked = None


def size_of(type_name: str) -> int | None:
    """Bytes of a type of OpenCL C; None of one that is not built in."""
    scalar = _SCALARS.get(type_name)
    if scalar is not None:
        return scalar
    match = _VECTOR.fullmatch(type_name)
    if match is None:
        return None
    count = int(match[2])
    return _SCALARS[match[1]] * (4 if count == 3 else count)


def _wants_object(described: ArgumentDescription) -> bool:
    return (
        described.address in (GLOBAL_SPACE, CONSTANT_SPACE)
        or described.access != _NO_ACCESS
        or described.type_name == "sampler_t"
    )


@handles(protocol.SetArgumentObject)
def set_argument_object(
    context: Schedule, command: protocol.SetArgumentObject, found: Found
) -> None:
    kernel, thing = found["kernel"], found["object"]
    described = _described(kernel, command.index)
    if thing is not None:
        check_scope(kernel, thing)
    if described is not None:
        _check_object(thing, described)
    _set(context, kernel, command.index, _object_argument(thing))


def _object_argument(thing: Object | None) -> Argument:
    if thing is None:
        return Argument(NULL, 0)
    return Argument(SAMPLER if isinstance(thing, Sampler) else MEMORY, thing.number, thing)


def _check_object(thing: Object | None, described: ArgumentDescription) -> None:
    if described.type_name == "sampler_t":
        if not isinstance(thing, Sampler):
            raise refuse(Status.INVALID_SAMPLER)
    elif described.access != _NO_ACCESS or described.type_name.startswith("image"):
        if not isinstance(thing, Image):
            raise refuse(Status.INVALID_MEM_OBJECT)
    elif described.address in (GLOBAL_SPACE, CONSTANT_SPACE):
        if thing is not None and not isinstance(thing, Buffer):
            raise refuse(Status.INVALID_MEM_OBJECT)
    else:
        raise refuse(Status.INVALID_ARG_VALUE)


@handles(protocol.SetArgumentLocal)
def set_argument_local(context: Schedule, command: protocol.SetArgumentLocal, found: Found) -> None:
    kernel: Kernel = found["kernel"]
    described = _described(kernel, command.index)
    if described is not None and described.address != LOCAL_SPACE:
        raise refuse(Status.INVALID_ARG_VALUE)
    if command.size > context.gpu.limits.local:
        raise refuse(Status.INVALID_ARG_SIZE)
    _set(context, kernel, command.index, Argument(LOCAL, command.size))
