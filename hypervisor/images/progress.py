"""How long work reports itself: a callable given what is being done and how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float | None], None]
"""`progress(task, fraction)`: fraction from 0.0 to 1.0, or None for a remark."""


def silent(task: str, fraction: float | None) -> None:
    """Report nothing."""
