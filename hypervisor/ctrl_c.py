"""Ctrl-C during a run: kept for the next safe point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class DeferredCtrlC:
    """While entered, Ctrl-C asks for a stop (`pressed`) instead of raising KeyboardInterrupt.

    Raised at any moment it could take the place of a device's access, or lose a timer that was
    about to fire. Leaving raises it if nothing else did. Pressed a second time it is raised at
    once, for a run that comes to no safe point. Handlers of the user's own are left alone.
    """

    def __init__(self, stop_soon: Callable[[], None]) -> None:
        self.pressed = False
        self._stop_soon = stop_soon
        self._is_ours = False

    def __enter__(self) -> DeferredCtrlC:
        self.pressed = False
        self._is_ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._is_ours:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.pressed and kind is None:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        self._stop_soon()
