"""How a run is ended from outside: by a signal, by the user's Ctrl-A x, or by its deadline."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from tools.errors import Interrupted

if TYPE_CHECKING:
    from hypervisor.machine import Machine

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending:
    """While entered, signals stop the watched machine at its next safe point; before there is
    one, they raise Interrupted.

    Python runs signal handlers on the main thread, which may be deep in guest code, so a thread
    of its own reads them from the interpreter's wake-up pipe.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """The first signal that came."""
        self.deadline: float | None = None
        """When the run's time is up (time.monotonic)."""
        self._asked = threading.Event()
        self._machine: Machine | None = None
        self._before: dict[int, Any] = {}

    @property
    def due(self) -> bool:
        """Whether the run should be over: whoever waits for a slow reader waits no longer."""
        late = self.deadline is not None and time.monotonic() > self.deadline
        return late or self._asked.is_set()

    def watch(self, machine: Machine | None) -> None:
        """The machine to stop; None where there is none any more."""
        self._machine = machine
        if machine is not None and self.signal is not None:
            raise Interrupted(self.signal)

    def stop(self) -> None:
        """The user leaves (from any thread)."""
        self._asked.set()
        machine = self._machine
        if machine is not None:
            machine.stop()

    def __enter__(self) -> Ending:
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's `&`
                self._before[number] = signal.signal(number, self._on_main_thread)
        self._thread = threading.Thread(target=self._listen, daemon=True, name="signals")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._machine = None
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._write)
        self._thread.join()
        os.close(self._read)

    def _listen(self) -> None:
        while numbers := os.read(self._read, 64):
            ours = [number for number in numbers if number in self._before]
            if ours:
                self.signal = self.signal or ours[0]
                self.stop()

    def _on_main_thread(self, number: int, frame: FrameType | None) -> None:
        if self._machine is None:
            raise Interrupted(number)
