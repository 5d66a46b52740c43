"""Kernels' arguments, as the worker has them."""

from __future__ import annotations

from gpu.core.objects import Argument, Kernel


def changed_arguments(
    kernel: Kernel, arguments: tuple[Argument | None, ...]
) -> list[tuple[int, int, object]]:
    """Those that the worker does not have yet: index, kind, value. It has them after this."""
    sent = kernel.sent
    assert sent is not None
    changed = [
        (index, argument.kind, argument.value)
        for index, (argument, other) in enumerate(zip(arguments, sent, strict=True))
        if argument is not None and argument is not other
    ]
    kernel.sent = arguments
    return changed
