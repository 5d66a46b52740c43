"""Fences of virtio-gpu: when a fenced request may be answered.

A fence with a ring is that context's, and the core signals each ring's in order. All other fences
share one timeline, on which the driver takes the answer to one for the end of all before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hypervisor.device.virtio import Chain


class Fence:
    """A request that is answered later, and its answer. `context` and `ring` are what it waits
    for at the core; `context` 0: nothing."""

    __slots__ = ("answer", "chain", "context", "done", "ordered", "ring")

    def __init__(self, chain: Chain, answer: bytes, context: int, ring: int, ordered: bool) -> None:
        self.chain = chain
        self.answer = answer
        self.context = context
        self.ring = ring
        self.ordered = ordered
        """Whether it is one of the shared timeline."""
        self.done = False


class Fences:
    """All fences that are not answered. `answer` completes a request."""

    def __init__(self, answer: Callable[[Chain, bytes], None]) -> None:
        self._answer = answer
        self._pending: dict[int, Fence] = {}
        self._order: deque[Fence] = deque()

    def add(self, fence: Fence) -> None:
        self._pending[id(fence)] = fence
        if fence.ordered:
            self._order.append(fence)

    def signal(self, fence: Fence) -> None:
        """What the fence waits for is complete. Of one that is forgotten nothing comes."""
        if self._pending.get(id(fence)) is not fence:
            return
        fence.done = True
        if not fence.ordered:
            self._complete(fence)
        while self._order and self._order[0].done:
            self._complete(self._order.popleft())

    def end(self, context: int) -> None:
        """A context is gone: nothing it was asked for will come any more."""
        for fence in list(self._pending.values()):
            if fence.context == context and not fence.done:
                self.signal(fence)

    def clear(self) -> None:
        self._pending.clear()
        self._order.clear()

    def pending(self) -> list[Fence]:
        """In the order in which they were asked for."""
        return list(self._pending.values())

    def _complete(self, fence: Fence) -> None:
        del self._pending[id(fence)]
        self._answer(fence.chain, fence.answer)
