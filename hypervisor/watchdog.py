"""Host time allowed for a run."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Watchdog:
    """Expires after `seconds` of host time, unless stopped; None never does."""

    def __init__(self, seconds: float | None, kick: Callable[[], None]) -> None:
        self.expired = False
        self._kick = kick
        self._timer: threading.Timer | None = None
        if seconds is not None:
            self._timer = threading.Timer(seconds, self._expire)
            self._timer.daemon = True
            self._timer.start()

    def _expire(self) -> None:
        self.expired = True
        self._kick()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
