"""Where Unicorn 2.1.4 keeps a RISC-V hart's state: `CPURISCVState`, byte offsets.

`selftest` proves the ones that matter against the public register API before a machine runs.
"""

from __future__ import annotations

X0 = 0
F0 = 256
PC = 512
LOAD_RES = 520
LOAD_VAL = 528
FRM = 536
BADADDR = 544
PRIV = 592
MHARTID = 616
MSTATUS = 624
MIP = 632
MIE = 648
MIDELEG = 656
SATP = 672
STVAL = 680
MTVAL = 688
MEDELEG = 696
STVEC = 704
SEPC = 712
SCAUSE = 720
MTVEC = 728
MEPC = 736
MCAUSE = 744

FIELDS = {
    "load_res": LOAD_RES,
    "load_val": LOAD_VAL,
    "priv": PRIV,
    "mstatus": MSTATUS,
    "mip": MIP,
    "mie": MIE,
    "mideleg": MIDELEG,
    "satp": SATP,
    "stval": STVAL,
    "mtval": MTVAL,
    "medeleg": MEDELEG,
    "stvec": STVEC,
    "sepc": SEPC,
    "scause": SCAUSE,
    "mtvec": MTVEC,
    "mepc": MEPC,
    "mcause": MCAUSE,
}
"""Named 64-bit fields a snapshot carries as they are, besides x, f, pc and the CSRs below."""

CSRS = {
    "frm": 0x002,
    "fflags": 0x001,
    "scounteren": 0x106,
    "sscratch": 0x140,
    "mcounteren": 0x306,
    "mscratch": 0x340,
}
"""Registers a snapshot carries through the CSR accessor: name -> CSR number."""

VIEWS = {
    "fcsr": 0x003,
    "sstatus": 0x100,
    "sie": 0x104,
    "sip": 0x144,
    "misa": 0x301,
    "mcycle": 0xB00,
    "minstret": 0xB02,
    "cycle": 0xC00,
    "time": 0xC01,
    "instret": 0xC02,
    "mvendorid": 0xF11,
    "marchid": 0xF12,
    "mimpid": 0xF13,
    "mhartid": 0xF14,
}
"""Registers that show others, or are constant, and are in no snapshot: name -> CSR number."""

PMP_ADDRESSES = tuple(range(0x3B0, 0x3C0))
PMP_CONFIGURATIONS = (0x3A0, 0x3A2)
PMP_TABLE = 1008
"""16 entries of 16 bytes: the address register, then a byte of configuration."""
PMP_ENTRY = 16
CSR_TIME = 0xC01
CSR_CYCLE = 0xC00
CSR_INSTRET = 0xC02
CSR_MCYCLE = 0xB00
CSR_MINSTRET = 0xB02

# fmt: off
INTEGER_NAMES = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2",
    "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5",
    "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7",
    "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
]
# fmt: on
FLOAT_NAMES = [f"f{n}" for n in range(32)]

USER, SUPERVISOR, MACHINE = 0, 1, 3

HART_SLOT = 992
"""`mtohost`, which the engine never uses: holds the address of the HartCell."""

CAUSES = {
    0: "instruction address misaligned",
    1: "instruction access fault",
    2: "illegal instruction",
    3: "breakpoint",
    4: "load address misaligned",
    5: "load access fault",
    6: "store address misaligned",
    7: "store access fault",
    8: "environment call",
    9: "environment call from S-mode",
    11: "environment call from M-mode",
    12: "instruction page fault",
    13: "load page fault",
    15: "store page fault",
}

INTERRUPTS = {
    1: "supervisor software interrupt",
    3: "machine software interrupt",
    5: "supervisor timer interrupt",
    7: "machine timer interrupt",
    9: "supervisor external interrupt",
    11: "machine external interrupt",
}
