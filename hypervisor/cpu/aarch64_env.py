"""Where Unicorn 2.1.4 keeps an AArch64 core's state: `CPUARMState`, byte offsets, and the system
registers a snapshot carries, by their encodings (Arm ARM, D17)."""

from __future__ import annotations

X0 = 64
PC = 320
PSTATE = 328

SystemRegister = tuple[int, int, int, int, int]
"""op0, op1, CRn, CRm, op2."""

SYSTEM_REGISTERS: dict[str, SystemRegister] = {
    "SCR_EL3": (3, 6, 1, 1, 0),
    "HCR_EL2": (3, 4, 1, 1, 0),
    "CNTHCTL_EL2": (3, 4, 14, 1, 0),
    "CNTFRQ_EL0": (3, 3, 14, 0, 0),
    "SCTLR_EL1": (3, 0, 1, 0, 0),
    "CPACR_EL1": (3, 0, 1, 0, 2),
    "TTBR0_EL1": (3, 0, 2, 0, 0),
    "TTBR1_EL1": (3, 0, 2, 0, 1),
    "TCR_EL1": (3, 0, 2, 0, 2),
    "SPSR_EL1": (3, 0, 4, 0, 0),
    "ELR_EL1": (3, 0, 4, 0, 1),
    "SP_EL0": (3, 0, 4, 1, 0),
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

INTEGER_NAMES = [f"x{n}" for n in range(31)]

EL1H_MASKED = 0x3C5
"""PSTATE at entry: EL1 with its own stack pointer, all interrupts masked."""

UNDEFINED, SVC, PREFETCH_ABORT, DATA_ABORT, BREAKPOINT, HVC, SMC = 1, 2, 3, 4, 7, 11, 13

CAUSES = {
    UNDEFINED: "undefined instruction",
    SVC: "supervisor call",
    PREFETCH_ABORT: "instruction abort",
    DATA_ABORT: "data abort",
    BREAKPOINT: "breakpoint",
    HVC: "hypervisor call",
    SMC: "secure monitor call",
}
