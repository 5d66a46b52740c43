"""Running kernels."""

from __future__ import annotations

from math import prod

from gpu import protocol
from gpu.core.commands.kernels import LOCAL
from gpu.core.commands.queues import waits_of
from gpu.core.commands.registry import Found, check_scope, handles, refuse
from gpu.core.objects import Argument, Kernel, Launch, Object
from gpu.core.schedule import Schedule
from gpu.core.work import Work
from gpu.core.work_groups import choose, compile_for
from gpu.opencl import Status

MAX_COST = 3_600_000_000_000
"""ns of virtual time that one command costs at most."""
_MOST_KNOWN = 256
_LAUNCH_BYTES = 512
"""What a known launch takes of the hypervisor's memory, about."""
_Grid = tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Dimensions, global size, local size and offset, as a command has them."""


@handles(protocol.NdRange)
def nd_range(context: Schedule, command: protocol.NdRange, found: Found) -> None:
    grid = command.dimensions, command.global_size, command.local_size, command.offset
    _run(context, command, found, grid)


@handles(protocol.Task)
def task(context: Schedule, command: protocol.Task, found: Found) -> None:
    _run(context, command, found, (1, (1,), (1,), (0,)))


def _run(
    context: Schedule, command: protocol.NdRange | protocol.Task, found: Found, grid: _Grid
) -> None:
    queue, kernel = found["queue"], found["kernel"]
    launch = kernel.launches.get(grid) or _launch(context, kernel, *grid)
    waits = waits_of(found, queue)
    check_scope(queue, kernel)
    arguments, objects = _needed(context, kernel)
    if not launch.is_ready:
        if launch.local_size is not None and context.gpu.limits.has_groups and not context.lost:
            compile_for(context, kernel, launch.local_size)
        if len(kernel.launches) >= _MOST_KNOWN:
            context.hold(-len(kernel.launches) * _LAUNCH_BYTES)
            kernel.host -= len(kernel.launches) * _LAUNCH_BYTES
            kernel.launches.clear()
        context.hold(_LAUNCH_BYTES)
        kernel.host += _LAUNCH_BYTES
        kernel.launches[grid] = launch
        launch.is_ready = True
    work = Work(queue, launch.operation, launch.cost, objects)
    work.arguments = arguments
    work.items = launch.items
    context.enqueue(work, waits, command.event)


def _launch(
    context: Schedule,
    kernel: Kernel,
    dimensions: int,
    whole: tuple[int, ...],
    local: tuple[int, ...],
    start: tuple[int, ...],
) -> Launch:
    """Refused where there is no such grid, or the kernel does not run in it."""
    global_size, offset = whole[:dimensions], start[:dimensions]
    for size, first in zip(global_size, offset, strict=True):
        if size == 0:
            raise refuse(Status.INVALID_GLOBAL_WORK_SIZE)
        if first + size >= 1 << 64:
            raise refuse(Status.INVALID_GLOBAL_OFFSET)
    local_size: tuple[int, ...] | None = local[:dimensions]
    if not any(local):
        local_size = None
    else:
        _check_local(context, kernel, global_size, local[:dimensions])
    _check_group(kernel, local_size)
    if local_size is None and context.gpu.limits.has_groups:
        local_size = choose(global_size, _most(context, kernel))
    items = prod(global_size)
    model = context.gpu.options.model
    return Launch(
        (
            "range",
            kernel.number,
            (),
            global_size,
            local_size,
            offset if any(offset) else None,
        ),
        local_size,
        items,
        model.launch + min(items * model.item // 1000, MAX_COST),
    )


def _check_local(
    context: Schedule, kernel: Kernel, global_size: tuple[int, ...], local_size: tuple[int, ...]
) -> None:
    for size, whole, most in zip(
        local_size, global_size, context.gpu.limits.item_sizes, strict=False
    ):
        if size == 0 or whole % size:
            raise refuse(Status.INVALID_WORK_GROUP_SIZE)
        if size > most:
            raise refuse(Status.INVALID_WORK_ITEM_SIZE)
    if prod(local_size) > _most(context, kernel):
        raise refuse(Status.INVALID_WORK_GROUP_SIZE)


def _most(context: Schedule, kernel: Kernel) -> int:
    """Work-items that a work-group of a kernel may have."""
    limit = context.gpu.limits.group
    assert kernel.description is not None
    return min(limit, kernel.description.group or limit)


def _check_group(kernel: Kernel, local_size: tuple[int, ...] | None) -> None:
    """A kernel that was compiled for one size of work-groups runs in no other."""
    wanted = kernel.description.compile_group if kernel.description is not None else (0, 0, 0)
    if any(wanted):
        given = (*(local_size or ()), 1, 1, 1)[:3]
        if local_size is None or given != wanted:
            raise refuse(Status.INVALID_WORK_GROUP_SIZE)


def _needed(context: Schedule, kernel: Kernel) -> tuple[tuple[Argument, ...], list[Object]]:
    """A kernel's arguments, and the kernel and the objects among them, all of which must be
    there."""
    checked = kernel.checked
    if checked is not None and checked[0] == context.losses:
        return checked[1], checked[2]
    assert kernel.arguments is not None
    assert kernel.description is not None
    arguments: list[Argument] = []
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
        arguments.append(argument)
    if local + kernel.description.local > context.gpu.limits.local:
        raise refuse(Status.OUT_OF_RESOURCES)
    kernel.checked = context.losses, tuple(arguments), objects
    return kernel.checked[1:]
