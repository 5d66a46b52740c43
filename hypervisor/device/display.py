"""What shows pictures, as the machine's user may ask it."""

from __future__ import annotations

import os
from typing import Protocol, runtime_checkable


@runtime_checkable
class Display(Protocol):
    """A device with a display. Call between runs or at a safe point."""

    def screenshot(self, path: str | os.PathLike[str] | None = None) -> bytes:
        """What is shown, as a PNG file; written to `path` where one is given."""
