"""What a profiler must know of an architecture: modes, trap entries, and how frames are chained.

RISC-V: the ABI's frame record below the frame pointer (RISC-V ELF psABI, "Frame Pointer
Convention"). AArch64: the frame record that x29 points to (AAPCS64, section 6.4.6).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

from hypervisor.cpu import aarch64_env, riscv64_env

Mode = Literal["user", "kernel", "machine"]


class Convention(ABC):
    """One architecture."""

    frame: ClassVar[str]
    """Names of the registers that hold the frame pointer, the stack pointer, a return address."""
    stack: ClassVar[str]
    link: ClassVar[str]
    record: ClassVar[int]
    """Bytes from where the frame pointer points to two words: the caller's frame pointer and the
    return address."""
    space: ClassVar[str]
    """LLVM IR of `i64 @space(ptr %env)`: see hypervisor.cpu.native_coverage."""

    @abstractmethod
    def mode(self, registers: Mapping[str, int]) -> Mode:
        """The present one."""

    @abstractmethod
    def root(self, registers: Mapping[str, int]) -> int:
        """Address of the page table that user addresses are translated by, 0 without one: it
        stands for a process."""

    @abstractmethod
    def interrupted(self, registers: Mapping[str, int], pc: int) -> tuple[int, Mode] | None:
        """If `pc` is where a trap's handler begins: what was interrupted, and its mode."""

    @abstractmethod
    def vector(self, registers: Mapping[str, int]) -> tuple[str, int]:
        """The name that Linux has for the handler of kernel-mode traps, and its present address."""


class Riscv64(Convention):
    frame, stack, link = "s0", "sp", "ra"
    record = -16
    space = f"""
define internal i64 @space(ptr %env) {{
  %priv_at = getelementptr i8, ptr %env, i64 {riscv64_env.PRIV}
  %priv = load i64, ptr %priv_at
  %user = icmp eq i64 %priv, 0
  %satp_at = getelementptr i8, ptr %env, i64 {riscv64_env.SATP}
  %satp = load i64, ptr %satp_at
  %root = shl i64 %satp, 12
  %address = and i64 %root, {(1 << 56) - (1 << 12)}
  %space = select i1 %user, i64 %address, i64 %priv
  ret i64 %space
}}
"""

    def mode(self, registers: Mapping[str, int]) -> Mode:
        return _RISCV_MODES.get(registers["priv"], "machine")

    def root(self, registers: Mapping[str, int]) -> int:
        return (registers["satp"] & (1 << 44) - 1) << 12

    def interrupted(self, registers: Mapping[str, int], pc: int) -> tuple[int, Mode] | None:
        level = "m" if registers["priv"] == 3 else "s"
        vector = registers[f"{level}tvec"]
        base, cause = vector & ~3, registers[f"{level}cause"]
        vectored = base + 4 * (cause & 0xFFF) if vector & 1 and cause >> 63 else base
        if not base or pc != vectored:
            return None
        status = registers["mstatus"]
        before = status >> 11 & 3 if level == "m" else status >> 8 & 1
        return registers[f"{level}epc"], _RISCV_MODES.get(before, "machine")

    def vector(self, registers: Mapping[str, int]) -> tuple[str, int]:
        return "handle_exception", registers["stvec"] & ~3


_RISCV_MODES: dict[int, Mode] = {0: "user", 1: "kernel", 3: "machine"}


class Aarch64(Convention):
    frame, stack, link = "x29", "sp", "x30"
    record = 0
    space = f"""
define internal i64 @space(ptr %env) {{
  %pstate_at = getelementptr i8, ptr %env, i64 {aarch64_env.PSTATE}
  %pstate = load i64, ptr %pstate_at
  %shifted = lshr i64 %pstate, 2
  %level = and i64 %shifted, 3
  %user = icmp eq i64 %level, 0
  %table_at = getelementptr i8, ptr %env, i64 {aarch64_env.TTBR0_EL1}
  %table = load i64, ptr %table_at
  %address = and i64 %table, {(1 << 48) - (1 << 12)}
  %space = select i1 %user, i64 %address, i64 %level
  ret i64 %space
}}
"""

    def mode(self, registers: Mapping[str, int]) -> Mode:
        return "kernel" if registers["pstate"] >> 2 & 3 else "user"

    def root(self, registers: Mapping[str, int]) -> int:
        return registers["TTBR0_EL1"] & (1 << 48) - (1 << 12)

    def interrupted(self, registers: Mapping[str, int], pc: int) -> tuple[int, Mode] | None:
        base = registers["VBAR_EL1"]
        if not base or not base <= pc < base + 0x800 or pc & 0x7F:
            return None
        before = registers["SPSR_EL1"] >> 2 & 3
        return registers["ELR_EL1"], "kernel" if before else "user"

    def vector(self, registers: Mapping[str, int]) -> tuple[str, int]:
        return "vectors", registers["VBAR_EL1"]


CONVENTIONS: dict[str, type[Convention]] = {"riscv64": Riscv64, "aarch64": Aarch64}
"""By the description's `cpu.arch`."""
