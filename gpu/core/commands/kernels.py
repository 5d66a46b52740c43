"""Kernels, their arguments, and running them."""

from __future__ import annotations

import re

from gpu import protocol
from gpu.core.answers import kernel_info
from gpu.core.commands.programs import built_of
from gpu.core.commands.queues import waits_of
from gpu.core.commands.registry import Found, check_scope, handles, refuse
from gpu.core.objects import Argument, Buffer, Image, Kernel, Object, Sampler
from gpu.core.schedule import Schedule
from gpu.core.work import Producer, Work
from gpu.core.work_groups import choose, compile_for
from gpu.host.builds import ArgumentDescription
from gpu.opencl import Status

VALUE, MEMORY, SAMPLER, LOCAL, NULL = range(5)
"""How a kernel's argument is given, as the worker has it."""
GLOBAL_SPACE, LOCAL_SPACE, CONSTANT_SPACE, PRIVATE_SPACE = 0x119B, 0x119C, 0x119D, 0x119E
_NO_ACCESS = 0x11A3
_SCALARS = {
    "char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "long": 8, "ulong": 8,
    "float": 4, "double": 8, "half": 2, "unsigned char": 1, "unsigned short": 2,
    "unsigned int": 4, "unsigned long": 8, "signed char": 1, "bool": 1,
}  # fmt: skip
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
    if not program.is_loaded:
        context.operate("program", program.number, built.binary, concerns=program)
        program.is_loaded = True
    number = context.new_number()
    kernel = Kernel(
        number,
        program.scope,
        program=program,
        description=description,
        arguments=[None] * description.count,
        sent=[None] * description.count,
    )
    context.add(command.id, kernel, "kernel", number, program.number, name)
    program.kernels += 1


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
    assert kernel.arguments is not None
    kernel.arguments[command.index] = Argument(VALUE, command.value)


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
    kernel.arguments[command.index] = _object_argument(thing)


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
    assert kernel.arguments is not None
    kernel.arguments[command.index] = Argument(LOCAL, command.size)


# -- running -----------------------------------------------------------------------------------


@handles(protocol.NdRange)
def nd_range(context: Schedule, command: protocol.NdRange, found: Found) -> None:
    count = command.dimensions
    global_size, offset = command.global_size[:count], command.offset[:count]
    local_size: tuple[int, ...] | None = command.local_size[:count]
    assert local_size is not None
    for size, start in zip(global_size, offset, strict=True):
        if size == 0:
            raise refuse(Status.INVALID_GLOBAL_WORK_SIZE)
        if start + size >= 1 << 64:
            raise refuse(Status.INVALID_GLOBAL_OFFSET)
    if not any(local_size):
        local_size = None
    else:
        _check_local(context, found["kernel"], global_size, local_size)
    _run(context, command, found, global_size, local_size, offset if any(offset) else None)


@handles(protocol.Task)
def task(context: Schedule, command: protocol.Task, found: Found) -> None:
    _run(context, command, found, (1,), (1,), None)


def _check_local(
    context: Schedule, kernel: Kernel, global_size: tuple[int, ...], local_size: tuple[int, ...]
) -> None:
    limits = context.gpu.limits
    description = kernel.description
    assert description is not None
    product = 1
    for size, whole, most in zip(local_size, global_size, limits.item_sizes, strict=False):
        if size == 0 or whole % size:
            raise refuse(Status.INVALID_WORK_GROUP_SIZE)
        if size > most:
            raise refuse(Status.INVALID_WORK_ITEM_SIZE)
        product *= size
    if product > _most(context, kernel):
        raise refuse(Status.INVALID_WORK_GROUP_SIZE)


def _most(context: Schedule, kernel: Kernel) -> int:
    """Work-items that a work-group of a kernel may have."""
    limit = context.gpu.limits.group
    assert kernel.description is not None
    return min(limit, kernel.description.group or limit)


def _run(
    context: Schedule,
    command: protocol.NdRange | protocol.Task,
    found: Found,
    global_size: tuple[int, ...],
    local_size: tuple[int, ...] | None,
    offset: tuple[int, ...] | None,
) -> None:
    queue, kernel = found["queue"], found["kernel"]
    waits = waits_of(found, queue)
    check_scope(queue, kernel)
    _check_group(kernel, local_size)
    objects = _needed(context, kernel)
    items = 1
    for size in global_size:
        items *= size
    if context.gpu.limits.has_groups and not context.lost:
        if local_size is None:
            local_size = choose(global_size, _most(context, kernel))
        compile_for(context, kernel, local_size)
    model = context.gpu.options.model
    work = Work(
        queue,
        ("range", kernel.number, (), global_size, local_size, offset),
        model.launch + min(items * model.item // 1000, MAX_COST),
        objects,
    )
    work.arguments = tuple(kernel.arguments)
    context.enqueue(work, waits, command.event)


MAX_COST = 3_600_000_000_000
"""ns of virtual time that one command costs at most."""


def _check_group(kernel: Kernel, local_size: tuple[int, ...] | None) -> None:
    """A kernel that was compiled for one size of work-groups runs in no other."""
    wanted = kernel.description.compile_group if kernel.description is not None else (0, 0, 0)
    if any(wanted):
        given = (*(local_size or ()), 1, 1, 1)[:3]
        if local_size is None or given != wanted:
            raise refuse(Status.INVALID_WORK_GROUP_SIZE)


def _needed(context: Schedule, kernel: Kernel) -> list[Object]:
    """The kernel and the objects among its arguments, all of which must be there."""
    assert kernel.arguments is not None
    assert kernel.description is not None
    objects: list[Object] = [kernel]
    local = 0
    for argument in kernel.arguments:
        if argument is None:
            raise refuse(Status.INVALID_KERNEL_ARGS)
        thing = argument.object
        if thing is not None:
            if thing.is_released or thing.failure:
                raise refuse(Status.INVALID_KERNEL_ARGS)
            objects.append(thing)
        elif argument.kind == LOCAL:
            local += argument.value
    if local + kernel.description.local > context.gpu.limits.local:
        raise refuse(Status.OUT_OF_RESOURCES)
    return objects
