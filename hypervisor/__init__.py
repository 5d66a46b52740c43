"""A full-system hypervisor: `with Machine.load("configs/riscv64-debian.yaml") as m: ...`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypervisor.machine import Machine
    from hypervisor.outcome import GuestFailure, Outcome

__all__ = ["GuestFailure", "Machine", "Outcome"]


def __getattr__(name: str) -> Any:
    """Import on first use: device files and `--help` need none of the machine."""
    if name in __all__:
        from hypervisor import machine, outcome

        return getattr(machine if name == "Machine" else outcome, name)
    raise AttributeError(f"module 'hypervisor' has no attribute '{name}'")
