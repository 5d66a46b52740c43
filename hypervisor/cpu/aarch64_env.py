"""Where Unicorn 2.1.4 keeps an AArch64 core's state: `CPUARMState`, byte offsets, and the system
registers a snapshot carries, by their encodings (Arm ARM, D17)."""

from __future__ import annotations

X0 = 64
SP = 312
PC = 320
PSTATE = 328
HFLAGS = 336
"""What translated code depends on, as it was worked out last."""
SP_EL = 600
"""Four banked stack pointers; that of the present mode is in `SP` meanwhile."""
ELR_EL1 = 576
SCTLR_EL1 = 680
CPACR_EL1 = 704
TTBR0_EL1 = 776
HCR_EL2 = 952
ESR_EL1 = 992
FAR_EL1 = 1056
VBAR_EL1 = 1224
V0 = 3088
VECTOR = 256
"""Bytes from one vector register to the next, of which the architecture has 16."""
EXCLUSIVE_ADDRESS = 12032
EXCLUSIVE_VALUE = 12040
EXCLUSIVE_HIGH = 12048
CP_REGISTERS = 12736
"""The pointer, behind `CPUARMState`, to the descriptions of all system registers."""

ID_AA64ISAR0 = 0x0001_1120
"""What the engine's Cortex-A72 has of optional instructions: AES, SHA1, SHA2, CRC32."""
ATOMIC = 2 << 20
"""ID_AA64ISAR0_EL1.Atomic: the Large System Extensions, which the engine has, too."""
IDENTITY = (ID_AA64ISAR0, 0, 0x2222, 0, 0x1124)
"""ID_AA64ISAR0, ISAR1, PFR0, PFR1 and MMFR0 side by side behind env: what the engine looks at when
it translates."""
ID_AA64PFR0 = 0x1111
"""AArch64 at every level, and AArch32 at none: the engine would run it, but with pc elsewhere."""
GIC_REGISTERS = 1 << 24
"""ID_AA64PFR0_EL1.GIC: the CPU interface of a GICv3 is system registers."""
AARCH32_USER, AARCH32_RESERVED = 0x10, 0x1C
"""SPSR_ELx.M[4:0]: AArch32's User mode; a mode there is not, with the bits of the former."""

SystemRegister = tuple[int, int, int, int, int]
"""op0, op1, CRn, CRm, op2."""

SYSTEM_REGISTERS: dict[str, SystemRegister] = {
    "CNTFRQ_EL0": (3, 3, 14, 0, 0),
    "SCTLR_EL1": (3, 0, 1, 0, 0),
    "CPACR_EL1": (3, 0, 1, 0, 2),
    "TTBR0_EL1": (3, 0, 2, 0, 0),
    "TTBR1_EL1": (3, 0, 2, 0, 1),
    "TCR_EL1": (3, 0, 2, 0, 2),
    "SPSR_EL1": (3, 0, 4, 0, 0),
    "ELR_EL1": (3, 0, 4, 0, 1),
    "AFSR0_EL1": (3, 0, 5, 1, 0),
    "AFSR1_EL1": (3, 0, 5, 1, 1),
    "ESR_EL1": (3, 0, 5, 2, 0),
    "FAR_EL1": (3, 0, 6, 0, 0),
    "PAR_EL1": (3, 0, 7, 4, 0),
    "MAIR_EL1": (3, 0, 10, 2, 0),
    "AMAIR_EL1": (3, 0, 10, 3, 0),
    "VBAR_EL1": (3, 0, 12, 0, 0),
    "CONTEXTIDR_EL1": (3, 0, 13, 0, 1),
    "TPIDR_EL1": (3, 0, 13, 0, 4),
    "TPIDR_EL0": (3, 3, 13, 0, 2),
    "TPIDRRO_EL0": (3, 3, 13, 0, 3),
    "CNTKCTL_EL1": (3, 0, 14, 1, 0),
    "CSSELR_EL1": (3, 2, 0, 0, 0),
    "MDSCR_EL1": (2, 0, 0, 2, 2),
}

FIRMWARE_REGISTERS: dict[str, SystemRegister] = {
    "SCR_EL3": (3, 6, 1, 1, 0),
    "HCR_EL2": (3, 4, 1, 1, 0),
    "CNTHCTL_EL2": (3, 4, 14, 1, 0),
    "VMPIDR_EL2": (3, 4, 0, 0, 5),
}
"""Set before the guest starts, and not its own."""

IDENTIFICATION: dict[str, SystemRegister] = {
    "MIDR_EL1": (3, 0, 0, 0, 0),
    "MPIDR_EL1": (3, 0, 0, 0, 5),
    "CTR_EL0": (3, 3, 0, 0, 1),
}

INTEGER_NAMES = [f"x{n}" for n in range(31)]

EL1H_MASKED = 0x3C5
"""PSTATE at entry: EL1 with its own stack pointer, all interrupts masked."""

UNDEFINED, SVC, PREFETCH_ABORT, DATA_ABORT, BREAKPOINT, HVC, SMC = 1, 2, 3, 4, 7, 11, 13
STATE_FAULT = 12
"""The engine's number for what traps to EL2, which no guest has: ours for `aarch64_checks`."""

CAUSES = {
    UNDEFINED: "undefined instruction",
    SVC: "supervisor call",
    PREFETCH_ABORT: "instruction abort",
    DATA_ABORT: "data abort",
    BREAKPOINT: "breakpoint",
    HVC: "hypervisor call",
    STATE_FAULT: "misaligned pc or sp, or illegal state",
    SMC: "secure monitor call",
}

CLASSES = {
    0x00: "undefined instruction",
    0x07: "access to floating point",
    0x0E: "illegal execution state",
    0x15: "supervisor call",
    0x16: "hypervisor call",
    0x17: "secure monitor call",
    0x18: "trapped system register access",
    0x20: "instruction abort from EL0",
    0x21: "instruction abort",
    0x22: "pc alignment fault",
    0x24: "data abort from EL0",
    0x25: "data abort",
    0x26: "sp alignment fault",
    0x2C: "floating-point exception",
    0x30: "hardware breakpoint from EL0",
    0x31: "hardware breakpoint",
    0x32: "software step from EL0",
    0x33: "software step",
    0x34: "watchpoint from EL0",
    0x35: "watchpoint",
    0x3C: "breakpoint instruction",
}
"""Exception classes of ESR_EL1 (D13.2.37)."""

INTERRUPTS = {0: "IRQ", 1: "FIQ", 2: "SError"}
WITH_ADDRESS = frozenset((0x20, 0x21, 0x22, 0x24, 0x25, 0x34, 0x35))
"""Exception classes for which FAR_EL1 holds an address."""
