"""What a monitor's command may answer instead of a result."""

from __future__ import annotations


class MonitorError(Exception):
    """A command cannot be done: one sentence."""
