"""Asking again for a moment whether there is something to read, before one sleeps until there is.

What comes soon is there before the host would have woken this process. Where nothing comes in that
moment, again and again, the processor is better left to others, who may be what is waited for.
"""

from __future__ import annotations

import os
import select
import time

_MOST_MISSES = 6
_HAS_PROCESSORS = len(os.sched_getaffinity(0)) > 1


class Spin:
    """For `file`, and moments of `seconds`."""

    def __init__(self, file: int, seconds: float) -> None:
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN)
        self._seconds = seconds if _HAS_PROCESSORS else 0.0
        self._misses = 0
        """Moments in a row that were for nothing, at most _MOST_MISSES."""
        self._left_out = 0
        """Waits to come that have no such moment: more after each that was for nothing."""

    def wait(self) -> bool:
        """Whether there is something to read, now or after a moment."""
        poll = self._poll.poll
        if self._left_out:
            self._left_out -= 1
            return bool(poll(0))
        until = time.monotonic() + self._seconds
        while not poll(0):
            if time.monotonic() >= until:
                self._misses = min(self._misses + 1, _MOST_MISSES)
                self._left_out = (1 << self._misses) - 2
                return False
        self._misses = 0
        return True

    def sleep(self, seconds: float) -> None:
        """Until there is something to read."""
        self._poll.poll(seconds * 1000)
