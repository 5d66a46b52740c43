"""The virtual GPU: its contexts, and its state."""

from __future__ import annotations

from typing import Any

from gpu.core.capture import CaptureToFile
from gpu.core.context import Context
from gpu.core.device import Device
from gpu.core.information import capset
from gpu.core.load import Resume, load_context
from gpu.core.save import save_context
from gpu.options import GpuOptions
from hypervisor.device.board import Board

STATE_VERSION = 4
"""Of what `save` gives: another one where anything in it has another meaning or name."""
_SHOWN_KERNELS = 8


class Gpu(Device):
    """One device. A front end owns it, and calls everything on the machine's thread."""

    def __init__(self, name: str, options: GpuOptions, board: Board, sharing: str = "auto") -> None:
        super().__init__(name, options, board, sharing)
        self.contexts: dict[int, Context] = {}
        self._next = 1
        self._capset = b""

    def capset(self) -> bytes:
        """The packed protocol.Capset."""
        if not self._capset:
            self._capset = capset(self.limits)
        return self._capset

    def create_context(self, label: str) -> Context:
        """A context of its own process, memory and handles."""
        context = self._new_context(self._next, label)
        self._next += 1
        if self.capture is not None:
            self.capture.created(context.number, label)
        return context

    def _new_context(self, number: int, label: str) -> Context:
        context = Context(self, number, label, self._forget)
        self.contexts[number] = context
        return context

    def _forget(self, context: Context) -> None:
        self.contexts.pop(context.number, None)

    def describe(self) -> list[str]:
        """For a monitor: contexts, what is in flight, and the kernels that took most time."""
        lines = [
            f"contexts: {len(self.contexts)}, commands so far: {self.commands}",
            f"bytes copied because the device does not reach them: {self.bounced_bytes}",
        ]
        for number, context in self.contexts.items():
            waiting = sum(map(len, context.rings.values()))
            lines.append(f"context {number} ({context.label}): {waiting} submissions in flight")
        kernels = sorted(self.observation.kernels.items(), key=lambda each: -each[1].time)
        for name, each in kernels[:_SHOWN_KERNELS]:
            lines.append(
                f"kernel {name}: {each.runs} runs of {each.items} work-items, {each.time} ns"
            )
        for (name, what), times in self.observation.mistakes.items():
            lines.append(f"kernel {name}: {what}, {times} times")
        return lines

    def reset(self) -> None:
        """Power-on: no context is left."""
        for context in list(self.contexts.values()):
            context.close()
        self._next = 1
        self.restart()

    def close(self) -> None:
        self.reset()
        super().close()

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Plain data. What is in flight is finished at the host, and in the snapshot with its
        outcome; the guest is told when it would have been."""
        return {
            "version": STATE_VERSION,
            "engine": list(self.engine.busy),
            "next": self._next,
            "asked": self._limits is not None,
            "contexts": [save_context(context) for context in self.contexts.values()],
        }

    def check(self, state: dict[str, Any]) -> None:
        """Refuse, with ValueError, what another version of this program saved."""
        version = state.get("version", 0)
        if version != STATE_VERSION:
            raise ValueError(
                f"{self.name}: the snapshot has a GPU's state of format {version}; this program "
                f"reads {STATE_VERSION}"
            )

    def load(self, state: dict[str, Any], resume: Resume) -> None:
        self.check(state)
        if isinstance(self.capture, CaptureToFile) and state["contexts"]:
            self.capture.stop("a capture has no snapshot's contexts, so it ends here")
        self.reset()
        self.engine.busy = [int(at) for at in state["engine"]]
        for saved in state["contexts"]:
            load_context(self._new_context(saved["number"], saved["label"]), saved, resume)
        self._next = int(state["next"])
        if state["asked"] and self._limits is None:
            self._limits = self._find_limits()
