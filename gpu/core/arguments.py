"""Kernels' arguments, as the worker has them."""

from __future__ import annotations

from gpu.core.objects import Argument, Kernel


def changed_arguments(
    kernel: Kernel, arguments: tuple[Argument | None, ...]
) -> list[tuple[int, int, object]]:
    """Those that the worker does not have yet: index, kind, value. It has them after this."""
    sent = kernel.sent
    assert sent is not None
    changed = []
    for index, argument in enumerate(arguments):
        if argument is not None and argument is not sent[index]:
            sent[index] = argument
            changed.append((index, argument.kind, argument.value))
    return changed
