"""For testing device models without a CPU: a board whose clock is moved by hand, a kit that drives
devices by register names, and checks that every model must pass."""

from hypervisor.device.testing.bench import (
    Bench,
    BenchChannel,
    BenchClock,
    BenchControl,
    BenchHart,
    BenchHost,
    BenchMemory,
    BenchTimer,
)
from hypervisor.device.testing.kit import MICROSECOND, MILLISECOND, SECOND, Kit, KitError

__all__ = [
    "MICROSECOND",
    "MILLISECOND",
    "SECOND",
    "Bench",
    "BenchChannel",
    "BenchClock",
    "BenchControl",
    "BenchHart",
    "BenchHost",
    "BenchMemory",
    "BenchTimer",
    "Kit",
    "KitError",
]
