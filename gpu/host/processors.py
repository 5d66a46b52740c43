"""Keeps a worker's thread off the processor of who talks to it.

The host's scheduler likes to wake a thread where its waker runs, and may leave the two there: each
then waits for the other's turn to end, which takes longer than a short kernel. So while an answer
is looked for, the worker's own thread has the other processors. Those that compute for it keep all.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress


def _finder() -> Callable[[], int]:
    """What tells the number of the processor of this thread; -1 where nothing does."""
    try:
        return ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError):
        return lambda: -1


_present = _finder()


class Apart:
    """For a thread that has this id."""

    def __init__(self, thread: int) -> None:
        self._thread = thread
        self._all = os.sched_getaffinity(0)
        self._left = -1
        """The processor that it may not have, if any."""

    def keep(self) -> None:
        """It leaves this processor, where there are others."""
        here = _present()
        if here != self._left and here in self._all and len(self._all) > 1:
            self._allow(self._all - {here})
            self._left = here

    def end(self) -> None:
        """It may have this processor too: nobody is looking for its answer now."""
        if self._left >= 0:
            self._allow(self._all)
            self._left = -1

    def _allow(self, processors: set[int]) -> None:
        # It may have ended, and a host may forbid it.
        with suppress(OSError):
            os.sched_setaffinity(self._thread, processors)
