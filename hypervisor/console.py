"""The machine's console: what the guest printed, what is typed to it, and scripts of both.

All matching and typing happens inside the machine, at virtual time: the same script makes the
same run. Terminals and files attach as sinks and only ever look on.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

KEPT_OUTPUT = 8 << 20
"""Bytes of output kept for `output`; older text is dropped."""


@dataclass(frozen=True)
class Step:
    """One step of a console script: wait for `text` in the output, or type it."""

    action: Literal["until", "send"]
    text: bytes


class Console:
    """A byte channel (see hypervisor.device.ByteChannel) with a memory."""

    def __init__(self, stop_soon: Callable[[], None]) -> None:
        self.output = bytearray()
        """What the guest wrote, its last KEPT_OUTPUT bytes."""
        self.written = 0
        """Bytes the guest wrote in all."""
        self.sinks: list[Callable[[bytes], None]] = []
        self.enter: Callable[[bytes], None] = self.take
        """Where what is typed comes in: a machine has it stamped and recorded first."""
        self.quiet_until = 0
        """Of output that was shown once, and now is made again, the sinks get none: up to this
        many bytes."""
        self._digest = hashlib.sha256()
        self._stop_soon = stop_soon
        self._input: deque[int] = deque()
        self._readable: list[Callable[[], None]] = []
        self._steps: deque[Step] = deque()
        self._searched = 0
        self._scanned = 0
        self._watched: list[tuple[bytes, Callable[[], None]]] = []

    # -- the device's side ----------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self.output += data
        before = self.written
        self.written = before + len(data)
        self._digest.update(data)
        if len(self.output) > KEPT_OUTPUT:
            dropped = len(self.output) - KEPT_OUTPUT
            del self.output[:dropped]
            self._searched = max(0, self._searched - dropped)
            self._scanned = max(0, self._scanned - dropped)
        fresh = data if before >= self.quiet_until else data[self.quiet_until - before :]
        if fresh:
            for sink in self.sinks:
                sink(fresh)
        for text, found in self._watched:
            if self.output.find(text, max(0, len(self.output) - len(data) - len(text) + 1)) >= 0:
                found()
        if self._steps:
            step = self._steps[0]
            if step.action == "until" and self._found(step.text) is not None:
                self._stop_soon()

    def read(self, limit: int) -> bytes:
        count = min(limit, len(self._input))
        return bytes(self._input.popleft() for _ in range(count))

    def on_readable(self, callback: Callable[[], None]) -> None:
        self._readable.append(callback)

    # -- the user's side ------------------------------------------------------------------

    @property
    def text(self) -> str:
        """The kept output, as text."""
        return self.output.decode(errors="replace")

    def send(self, data: bytes | str) -> None:
        """Type to the guest, now. Call between runs or at a safe point."""
        self.enter(data.encode() if isinstance(data, str) else data)

    def take(self, data: bytes) -> None:
        """What was typed is there for the device."""
        self._input.extend(data)
        for callback in self._readable:
            callback()

    def watch(self, text: bytes, found: Callable[[], None]) -> None:
        """Call `found` whenever the guest writes `text`."""
        self._watched.append((text, found))

    def script(self, steps: list[Step]) -> None:
        """Add steps to be taken in order."""
        self._steps.extend(steps)

    @property
    def script_pending(self) -> Step | None:
        """The step being waited for; None when the script is done."""
        return self._steps[0] if self._steps else None

    def run_script(self) -> bool:
        """At a safe point: take every step that can be taken; whether the script now ended in a
        text that was awaited (after a last `send` the guest goes on by itself)."""
        awaited = False
        while self._steps:
            step = self._steps[0]
            awaited = step.action == "until"
            if awaited:
                end = self._found(step.text)
                if end is None:
                    return False
                self._searched = self._scanned = end
            else:
                self.send(step.text)
            self._steps.popleft()
        return awaited

    def drop_script(self) -> None:
        self._steps.clear()
        self._scanned = self._searched

    def put_script_by(self) -> tuple[list[Step], int]:
        """Take the script away, for `take_script_up`."""
        state = list(self._steps), self.consumed
        self._steps.clear()
        return state

    def take_script_up(self, state: tuple[list[Step], int]) -> None:
        """Go on with a script where it was left: only later output counts."""
        steps, consumed = state
        self._steps.extendleft(reversed(steps))
        dropped = self.written - len(self.output)
        self._searched = self._scanned = max(self._searched, consumed - dropped)

    def withdraw(self, step: Step) -> None:
        """Wait for this very step no more."""
        self._steps = deque(other for other in self._steps if other is not step)
        self._scanned = self._searched

    def _found(self, text: bytes) -> int | None:
        """Where the first `text` not yet consumed ends, None when there is none. What was looked
        through for this step is not looked through again."""
        position = self.output.find(text, self._scanned)
        if position >= 0:
            return position + len(text)
        self._scanned = max(self._scanned, len(self.output) - len(text) + 1)
        return None

    @property
    def consumed(self) -> int:
        """Bytes of all that was written up to the end of the last text a script awaited."""
        return self.written - len(self.output) + self._searched

    def consumed_since(self, start: int) -> bytes:
        """What was consumed after the first `start` bytes, as far as it is kept."""
        dropped = self.written - len(self.output)
        return bytes(self.output[max(0, start - dropped) : self._searched])

    @property
    def sha256(self) -> str:
        """Of all that the guest wrote."""
        return self._digest.hexdigest()

    # -- snapshots ------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return {
            "output": bytes(self.output),
            "written": self.written,
            "input": bytes(self._input),
            "searched": self._searched,
        }

    def load(self, state: dict[str, Any]) -> None:
        """The digest goes on from the kept output, so it is exact while nothing was dropped."""
        self.output = bytearray(state["output"])
        self.written = state["written"]
        self._digest = hashlib.sha256(self.output)
        self._input = deque(state["input"])
        self._searched = self._scanned = state["searched"]
        self._steps.clear()


class NullChannel:
    """A serial line to nowhere."""

    def write(self, data: bytes) -> None:
        """Forget it."""

    def read(self, limit: int) -> bytes:
        return b""

    def on_readable(self, callback: Callable[[], None]) -> None:
        """Nothing ever comes."""
