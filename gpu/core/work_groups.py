"""The sizes of work-groups that kernels are run in, and kernels compiled for them.

A kernel that is compiled for one size of work-groups runs up to twice as fast as one for any size.
Where the host's runtime does so at the first launch of each size, so do we: in the compiler's
process, waited for, so that what a launch computes never depends on the host's time.
"""

from __future__ import annotations

from gpu.core.objects import Kernel, Program, RefusedError
from gpu.core.schedule import Schedule
from gpu.opencl import Status

MAX_SIZES = 64
"""Sizes that a program is compiled for. In others it runs as it was compiled for any."""
MOST = 256
"""Work-items of a group where the guest leaves its size to us."""
FEWEST = 1 << 10
"""Work-items of a launch that is worth groups of more than one."""
_GROUPS = 16
"""Groups at least of a launch, for the host's processors."""
_WIDE = 16
"""Work-items of a group that are enough for vectors. Powers of two are few, so kernels are
compiled for few sizes."""


def choose(global_size: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Work-groups, of `most` work-items at most, for a launch that leaves them to the device."""
    items = 1
    for size in global_size:
        items *= size
    if items < FEWEST:
        return (1,) * len(global_size)
    room = min(MOST, most, items // _GROUPS)
    chosen = []
    for size in global_size:
        chosen.append(_divisor(size, room))
        room //= chosen[-1]
    return tuple(chosen)


def _divisor(size: int, most: int) -> int:
    """The largest power of two that divides `size`, or any number where that is much larger."""
    power = min(size & -size, 1 << max(most, 1).bit_length() - 1)
    if power >= min(_WIDE, most):
        return power
    return next(each for each in range(min(most, size), 0, -1) if size % each == 0)


def compile_for(context: Schedule, kernel: Kernel, local_size: tuple[int, ...]) -> None:
    """Have the worker know a kernel's code for groups of this size. RefusedError where the compiler
    was lost over it: which code runs must not depend on the host's time or memory, as results may
    differ in their last bits."""
    program = kernel.program
    assert program is not None
    size = "-".join(str(each) for each in (*local_size, 1, 1)[:3])
    if size in program.refused:
        raise RefusedError(Status.OUT_OF_RESOURCES)
    is_full = len(program.groups) + len(program.refused) >= MAX_SIZES
    if size in program.groups or size == "1-1-1" or is_full:
        return
    reason = give_groups(context, program, size)
    if reason:
        program.refused = (*program.refused, size)
        context.gpu.say_lost_build(
            context.label,
            f"no kernel of a program runs in work-groups of {size}, for which it could not be"
            f" compiled: {reason}",
        )
        raise RefusedError(Status.OUT_OF_RESOURCES)
    program.groups = (*program.groups, size)


def give_groups(context: Schedule, program: Program, size: str) -> str:
    """Compile a program for groups of one size, wait for it, and let the worker know. Where the
    compiler says that it can not, which it always will, the kernels run as they are, and a line in
    the log says so, once. Where it was lost, why."""
    assert program.build is not None
    base = program.build.join()
    built = context.gpu.builds.build(("group", size, base.recipe), base.binary).join()
    if built.is_lost:
        return built.log.strip()
    if built.status != Status.SUCCESS and not context.gpu.has_slow_groups:
        context.gpu.has_slow_groups = True
        reason = ascii(built.log.strip()[:80])  # the guest may have chosen it
        context.gpu.board.log(
            f"{context.gpu.name}: a program can not be compiled for work-groups of {size}, and"
            f" runs slower in them: {reason}"
        )
    objects = {name: code for name, code in built.objects if base.kernel(name) is not None}
    if objects:
        context.operate("group", program.number, size, objects)
        context.link.flush()  # nothing of it is held here
    return ""
