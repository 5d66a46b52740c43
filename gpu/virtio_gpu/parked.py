"""Requests that wait until a context has room for more, while all others pass them.

What is asked of a full context waits, so that its order is kept; and what would break another
order waits behind that: fences of the shared timeline, and the end of a resource that is attached
to such a context. Only its own end helps a context that is full, and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpu.virtio_gpu.contexts import Contexts
from gpu.virtio_gpu.protocol import FLAG_FENCE, FLAG_INFO_RING_IDX, HEADER, Command, Header
from hypervisor.device.virtio import Chain, Queue

_ENDS_OF_RESOURCES = (Command.RESOURCE_UNREF, Command.RESOURCE_DETACH_BACKING)


class Parked:
    """The requests that wait, in their order. They are no more than their queues have entries."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts
        self.clear()

    def clear(self) -> None:
        self._requests: list[tuple[Chain, Header]] = []
        self._full: set[int] = set()
        """The contexts that are waited for."""
        self._named: set[int] = set()
        """The contexts of all that waits."""
        self._has_shared = False
        """Whether one of the shared timeline's fences waits."""

    def keep(self, chain: Chain, header: Header) -> bool:
        """Whether a request has to wait. Then it does."""
        must = (
            (self._has_shared and _is_shared(header))
            or (
                header.type != Command.CTX_DESTROY
                and (header.ctx_id in self._named or self._contexts.is_full(header.ctx_id))
            )
            or (
                bool(self._named)
                and header.type in _ENDS_OF_RESOURCES
                and self._contexts.have(self._named, _resource(chain))
            )
        )
        if must:
            self._add(chain, header)
        return must

    def _add(self, chain: Chain, header: Header) -> None:
        self._requests.append((chain, header))
        if self._contexts.is_full(header.ctx_id):
            self._full.add(header.ctx_id)
        if header.ctx_id:
            self._named.add(header.ctx_id)
        self._has_shared = self._has_shared or _is_shared(header)

    def take(self) -> list[tuple[Chain, Header]]:
        """All that waits, to be tried again, where a context that it waits for has room."""
        if self._full and all(map(self._contexts.is_full, self._full)):
            return []
        requests = self._requests
        self.clear()
        return requests

    def forget(self, queue: Queue) -> None:
        """No request of a queue is answered any more."""
        requests = self._requests
        self.clear()
        for chain, header in requests:
            if chain.queue is not queue:
                self._add(chain, header)

    # -- snapshots ----------------------------------------------------------------------------

    def save(self, queues: Sequence[Queue]) -> list[dict[str, Any]]:
        return [
            {
                "queue": queues.index(chain.queue),
                "header": list(header),
                "head": chain.head,
                "readable": [list(segment) for segment in chain.readable],
                "writable": [list(segment) for segment in chain.writable],
            }
            for chain, header in self._requests
        ]

    def load(self, queues: Sequence[Queue], states: Sequence[dict[str, Any]]) -> None:
        """Take `save`'s data. Queues and contexts are loaded before. ValueError where it cannot be
        right."""
        self.clear()
        for state in states:
            if not 0 <= state["queue"] < len(queues):
                raise ValueError("the snapshot has a GPU request of a queue that is not there")
            queue = queues[state["queue"]]
            readable, writable = (
                [(int(address), int(size)) for address, size in state[name]]
                for name in ("readable", "writable")
            )
            header = Header(*map(int, state["header"]))
            if not 0 <= state["head"] < 1 << 16 or not all(
                size > 0 and queue.memory.contains(at, size) for at, size in readable + writable
            ):
                raise ValueError("the snapshot has a GPU request that cannot be")
            self._add(Chain(queue, state["head"], readable, writable), header)


def _is_shared(header: Header) -> bool:
    return header.flags & (FLAG_FENCE | FLAG_INFO_RING_IDX) == FLAG_FENCE


def _resource(chain: Chain) -> int:
    return int.from_bytes(chain.read(HEADER.size, 4), "little")
