"""What machines of different architectures differ in, chosen here by the description's name."""

from __future__ import annotations

from hypervisor.arch.architecture import Architecture

__all__ = ["Architecture", "architecture"]


def architecture(name: str) -> Architecture:
    """The architecture `cpu.arch` names. Imported when it is asked for: start-up takes its time."""
    if name == "riscv64":
        from hypervisor.arch.riscv64 import Riscv64

        return Riscv64()
    if name == "aarch64":
        from hypervisor.arch.aarch64 import Aarch64

        return Aarch64()
    raise ValueError(f"there is no architecture '{name}'")
