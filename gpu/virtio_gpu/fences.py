"""Fences of virtio-gpu: when a fenced request may be answered.

A fence with a ring is that context's, and the core signals each ring's in order. All other fences
share one timeline, on which the driver takes the answer to one for the end of all before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from hypervisor.device.virtio import Chain, Queue

MAX_ANSWER = 1 << 20
"""Bytes of an answer that waits for its fence."""


class Fence:
    """A request that is answered later, and its answer. `context` is the context that it waits
    for, 0: none; `is_shared`, whether it is one of the shared timeline. `tag` names it."""

    __slots__ = ("answer", "chain", "context", "is_done", "is_shared", "tag")

    def __init__(self, chain: Chain, answer: bytes, context: int, is_shared: bool) -> None:
        self.chain = chain
        self.answer = answer
        self.context = context
        self.is_shared = is_shared
        self.is_done = False
        self.tag = 0


class Fences:
    """All fences that are not answered. `answer` completes a request."""

    def __init__(self, answer: Callable[[Chain, bytes], None]) -> None:
        self._answer = answer
        self._pending: dict[int, Fence] = {}
        self._shared: deque[Fence] = deque()
        self._last = 0

    def add(self, fence: Fence) -> None:
        """Await a fence. It gets its tag, which no other had since the last reset."""
        self._last += 1
        fence.tag = self._last
        self._pending[fence.tag] = fence
        if fence.is_shared:
            self._shared.append(fence)

    def signal(self, tag: int) -> None:
        """What a fence waits for is complete. Of one that is forgotten nothing comes."""
        fence = self._pending.get(tag)
        if fence is None or fence.is_done:
            return
        fence.is_done = True
        if not fence.is_shared:
            self._complete(fence)
        self._complete_shared()

    def _complete_shared(self) -> None:
        while self._shared and self._shared[0].is_done:
            self._complete(self._shared.popleft())

    def end(self, context: int) -> None:
        """A context is gone: nothing it was asked for will come any more."""
        for fence in list(self._pending.values()):
            if fence.context == context:
                self.signal(fence.tag)

    def forget(self, queue: Queue) -> None:
        """No request of a queue is answered any more."""
        for tag, fence in list(self._pending.items()):
            if fence.chain.queue is queue:
                del self._pending[tag]
        self._shared = deque(fence for fence in self._shared if fence.tag in self._pending)
        self._complete_shared()

    def reset(self) -> None:
        self._pending.clear()
        self._shared.clear()
        self._last = 0

    def _complete(self, fence: Fence) -> None:
        del self._pending[fence.tag]
        self._answer(fence.chain, fence.answer)

    # -- snapshots ----------------------------------------------------------------------------

    def save(self, queues: Sequence[Queue]) -> dict[str, Any]:
        return {
            "last": self._last,
            "pending": [
                {
                    "tag": fence.tag,
                    "queue": queues.index(fence.chain.queue),
                    "head": fence.chain.head,
                    "writable": [list(segment) for segment in fence.chain.writable],
                    "answer": fence.answer,
                    "context": fence.context,
                    "shared": fence.is_shared,
                    "done": fence.is_done,
                }
                for fence in self._pending.values()
            ],
        }

    def load(self, queues: Sequence[Queue], state: dict[str, Any]) -> None:
        """ValueError where a snapshot cannot be right. The queues are loaded before."""
        self.reset()
        for saved in state["pending"]:
            if not 0 <= saved["queue"] < len(queues):
                raise ValueError("the snapshot has a GPU fence of a queue that is not there")
            queue = queues[saved["queue"]]
            segments = [(int(address), int(size)) for address, size in saved["writable"]]
            if (
                len(saved["answer"]) > MAX_ANSWER
                or not 0 <= saved["head"] < 1 << 16
                or not all(size > 0 and queue.memory.contains(at, size) for at, size in segments)
            ):
                raise ValueError("the snapshot has a GPU fence that cannot be")
            chain = Chain(queue, saved["head"], [], segments)
            fence = Fence(chain, bytes(saved["answer"]), saved["context"], bool(saved["shared"]))
            fence.is_done = bool(saved["done"])
            self._last = int(saved["tag"]) - 1
            self.add(fence)
        self._last = int(state["last"])
