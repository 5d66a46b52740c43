"""What an AArch64 core's exceptions tell their handler, from EL1 and from EL0 (Arm ARM, D1.10 and
D13.2.37), and the instructions that must not make one."""

from __future__ import annotations

import pytest

from hypervisor.cpu.aarch64 import FIQ, IRQ

TO_EL0, AT = " to_el0\n", " here\n"
SAME_SP0, SAME, LOWER = 0x000, 0x200, 0x400
ON_IRQ, ON_FIQ = 0x80, 0x100
UNKNOWN, SVC, SYSTEM, INSTRUCTION_ABORT, DATA_ABORT, BRK = 0x00, 0x15, 0x18, 0x20, 0x24, 0x3C


@pytest.mark.parametrize(
    ("instruction", "exception_class", "syndrome", "behind"),
    [
        ("svc #0x1234", SVC, 0x1234, 4),
        ("brk #0x321", BRK, 0x321, 0),
        (".inst 0x00000000", UNKNOWN, 0, 0),
        ("hlt #1", UNKNOWN, 0, 0),  # halting debug is off
        ("mrs x2, sctlr_el2", UNKNOWN, 0, 0),
        ("mrs x2, s3_0_c11_c3_5", UNKNOWN, 0, 0),  # nobody's register
        ("mrs x2, s3_0_c12_c12_5", UNKNOWN, 0, 0),  # ICC_SRE_EL1: there is no GICv3 interface
        ("msr s3_0_c4_c6_0, x2", UNKNOWN, 0, 0),  # ICC_PMR_EL1
    ],
)
def test_el1_instruction_traps_to_its_own_level(
    take, instruction, exception_class, syndrome, behind
):
    taken = take(f"{AT}{instruction}\n")

    assert (taken.vector, taken.exception_class, taken.syndrome) == (
        *(SAME, exception_class, syndrome),
    )
    assert taken.elr == taken.at + behind
    assert taken.spsr == 0x3C5
    assert taken.daif == 0x3C0


@pytest.mark.parametrize(
    ("instruction", "exception_class", "syndrome", "behind"),
    [
        ("svc #7", SVC, 7, 4),
        ("brk #9", BRK, 9, 0),
        (".inst 0x00000000", UNKNOWN, 0, 0),
        ("hvc #0", UNKNOWN, 0, 0),
        (".inst 0xd4000003", UNKNOWN, 0, 0),  # smc #0
        ("mrs x2, sctlr_el1", UNKNOWN, 0, 0),
        # An operating system may emulate these, and Linux does.
        ("mrs x2, midr_el1", UNKNOWN, 0, 0),
        ("mrs x2, id_aa64isar0_el1", UNKNOWN, 0, 0),
        ("mrs x2, id_aa64pfr0_el1", UNKNOWN, 0, 0),
        # SCTLR_EL1.UCI and DZE are clear
        ("ic ivau, x1", SYSTEM, 0x12_DC2A, 0),
        ("dc zva, x1", SYSTEM, 0x12_DC28, 0),
        # CNTKCTL_EL1 lets EL0 have no counter and no timer
        ("mrs x2, cntvct_el0", SYSTEM, 0x34_F841, 0),
        ("mrs x2, cntpct_el0", SYSTEM, 0x32_F841, 0),
        ("mrs x2, cntv_ctl_el0", SYSTEM, 0x32_F847, 0),
        ("msr cntv_cval_el0, x2", SYSTEM, 0x34_F846, 0),
        ("msr cntp_tval_el0, x2", SYSTEM, 0x30_F844, 0),
    ],
)
def test_el0_instruction_traps_to_the_level_above(
    take, instruction, exception_class, syndrome, behind
):
    taken = take(f"{TO_EL0}{AT}{instruction}\n")

    assert (taken.vector, taken.exception_class, taken.syndrome) == (
        *(LOWER, exception_class, syndrome),
    )
    assert taken.elr == taken.at + behind
    assert taken.spsr == 0
    assert taken.daif == 0x3C0


MONITORS = (
    *("pmcr_el0", "pmcntenset_el0", "pmovsclr_el0", "pmselr_el0", "pmceid0_el0", "pmccntr_el0"),
    *("pmxevtyper_el0", "pmuserenr_el0", "pmevcntr0_el0", "pmevtyper5_el0", "pmccfiltr_el0"),
)


@pytest.mark.parametrize("register", [*MONITORS, "pmintenset_el1"])
def test_no_performance_monitor_counts_the_hosts_time(take, register):
    taken = take(f"{AT}mrs x2, {register}\n")

    assert (taken.exception_class, taken.elr) == (UNKNOWN, taken.at)


@pytest.mark.parametrize("register", MONITORS)
def test_el0_has_no_performance_monitors(take, register):
    taken = take(f"{TO_EL0}{AT}mrs x2, {register}\n")

    assert (taken.vector, taken.exception_class) == (LOWER, UNKNOWN)


def test_performance_monitors_are_not_said_to_be_there(take):
    taken = take(" mrs x2, id_aa64dfr0_el1\n mrs x3, id_dfr0_el1\n svc #1\n")

    registers = taken.core.registers
    assert registers["x2"] & 0xF0F == 0x006  # Armv8 debug, no monitors
    assert registers["x3"] >> 24 & 0xF == 0


def test_no_level_is_said_to_have_aarch32(take):
    taken = take(" mrs x2, id_aa64pfr0_el1\n svc #1\n")

    assert taken.core.registers["x2"] & 0xFFFF == 0x1111


def test_stack_pointer_in_use_chooses_the_vector(take):
    taken = take(" msr spsel, #0\n svc #1\n")

    assert (taken.vector, taken.spsr) == (SAME_SP0, 0x3C4)


def test_each_stack_pointer_keeps_its_value(take):
    taken = take(
        """
        mov x3, #0x1000
        mov sp, x3
        msr spsel, #0
        mov x3, #0x2000
        mov sp, x3
        msr spsel, #1
        mov x4, sp
        mrs x5, sp_el0
        svc #1
        """
    )

    registers = taken.core.registers
    assert (registers["x4"], registers["x5"]) == (0x1000, 0x2000)
    assert (registers["SP_EL1"], registers["SP_EL0"]) == (0x1000, 0x2000)


@pytest.mark.parametrize("flags", ["nzcv", "daif"])
def test_state_comes_back_with_eret(take, flags):
    taken = take(
        f"""
        mov x3, #0x280
        msr daif, x3
        mov x3, #0xa0000000
        msr nzcv, x3
        mrs x4, {flags}
        mov x3, #0x3c5
        msr spsr_el1, x3
        adr x3, there
        msr elr_el1, x3
        eret
    there:
        mrs x5, {flags}
        svc #1
        """
    )

    registers = taken.core.registers
    assert registers["x4"] == {"nzcv": 0xA000_0000, "daif": 0x280}[flags]
    assert registers["x5"] == {"nzcv": 0, "daif": 0x3C0}[flags]


@pytest.mark.parametrize(
    ("access", "syndrome", "address"),
    [
        ("ldr x3, [x2, #8]", 0x10, 0x1000_0008),
        ("str x3, [x2, #8]", 0x50, 0x1000_0008),
        ("ldp x3, x4, [x2], #16", 0x10, 0x1000_0000),
    ],
)
def test_access_to_nothing_is_an_external_abort(take, access, syndrome, address):
    taken = take(f" mov x2, #0x10000000\n{AT}{access}\n")

    assert (taken.vector, taken.exception_class) == (SAME, DATA_ABORT | 1)
    assert taken.syndrome == syndrome
    assert taken.far == address
    assert taken.elr == taken.at


def test_jump_to_nothing_is_an_instruction_abort_there(take):
    taken = take(" mov x2, #0x10000000\n br x2\n")

    assert (taken.exception_class, taken.syndrome) == (INSTRUCTION_ABORT | 1, 0x10)
    assert (taken.elr, taken.far) == (0x1000_0000, 0x1000_0000)


@pytest.mark.parametrize(
    ("lines", "unmask", "vector"),
    [
        ((IRQ,), 2, SAME + ON_IRQ),
        ((FIQ,), 1, SAME + ON_FIQ),
        ((IRQ, FIQ), 2, SAME + ON_IRQ),
        ((IRQ, FIQ), 1, SAME + ON_FIQ),
    ],
)
def test_interrupt_is_taken_where_it_is_unmasked(take, lines, unmask, vector):
    taken = take(f" msr daifclr, #{unmask}\n1: b 1b\n", lines)

    assert taken.vector == vector
    assert taken.spsr & 0x3CF == 0x3C5 & ~(unmask << 6)
    assert taken.daif == 0x3C0


@pytest.mark.parametrize(("line", "kind"), [(IRQ, ON_IRQ), (FIQ, ON_FIQ)])
def test_interrupt_from_el0_is_taken_above(take, line, kind):
    taken = take(f"{TO_EL0}1: b 1b\n", (line,))

    assert (taken.vector, taken.spsr) == (LOWER + kind, 0)


@pytest.mark.parametrize(
    ("bit", "instruction"),
    [
        (0x1, "mrs x2, cntpct_el0"),
        (0x2, "mrs x2, cntvct_el0"),
        (0x100, "mrs x2, cntv_cval_el0"),
        (0x200, "msr cntp_cval_el0, x2"),
    ],
)
def test_el0_has_the_timers_that_it_is_given(take, bit, instruction):
    taken = take(f" mov x2, #{bit}\n msr cntkctl_el1, x2\n{TO_EL0}{instruction}\n svc #3\n")

    assert (taken.exception_class, taken.syndrome) == (SVC, 3)


def test_el0_can_have_floating_point_and_vectors(take):
    taken = take(
        f"""
        mov x2, #0x300000
        msr cpacr_el1, x2
        isb
        {TO_EL0}
        fmov d1, #2.5
        fmov d2, #4.0
        fmul d3, d1, d2
        fcvtzs x3, d3
        movi v4.16b, #3
        add v4.16b, v4.16b, v4.16b
        umov w4, v4.b[9]
        svc #3
        """
    )

    registers = taken.core.registers
    assert (registers["x3"], registers["x4"]) == (10, 6)
    assert registers["v4"] == int.from_bytes(bytes([6] * 16), "little")


@pytest.mark.parametrize(
    ("instructions", "memory", "result"),
    [
        ("ldadd x2, x3, [x1]\n ldadd x2, x3, [x1]", 10, 5),
        ("swp x2, x3, [x1]", 5, 0),
        ("cas x4, x2, [x1]\n mov x3, x4", 5, 0),
        ("mov x4, #1\n cas x4, x2, [x1]\n mov x3, x4", 0, 0),
        ("ldsetal x2, x3, [x1]\n ldclral x4, x3, [x1]", 5, 5),
        ("str x2, [x1]\n mov x4, #9\n ldumax x4, x3, [x1]", 9, 5),
        ("mov x5, #7\n mov x6, xzr\n mov x7, xzr\n mov x4, x2\n casp x6, x7, x4, x5, [x1]", 5, 0),
    ],
)
def test_atomic_instructions_act_on_memory(take, instructions, memory, result):
    taken = take(
        f" mov x2, #5\n mov x3, #0\n mov x4, #0\n {instructions}\n ldr x8, [x1]\n svc #1\n"
    )

    registers = taken.core.registers
    assert (registers["x8"], registers["x3"]) == (memory, result)


def test_identification_says_what_the_core_has(take):
    taken = take(
        """
        mrs x2, id_aa64isar0_el1
        mrs x3, id_aa64pfr0_el1
        mrs x4, midr_el1
        mrs x5, mpidr_el1
        mrs x6, s3_0_c0_c7_7       // reserved for identification: reads as zero
        svc #1
        """
    )

    registers = taken.core.registers
    assert registers["x2"] == 0x21_1120  # atomics, CRC32, SHA2, SHA1, AES
    assert registers["x3"] >> 16 & 0xFF == 0  # floating point and vectors
    assert registers["x4"] == 0x410F_D083  # Cortex-A72
    assert registers["x5"] == 0x8000_0000
    assert registers["x6"] == 0


@pytest.mark.parametrize(("between", "failed"), [("nop", 0), ("clrex", 1), ("ldxr x8, [x1]", 0)])
def test_exclusive_store_succeeds_only_after_its_load(take, between, failed):
    taken = take(f" mov x2, #5\n ldxr x3, [x1]\n {between}\n stxr w4, x2, [x1]\n svc #1\n")

    assert taken.core.registers["x4"] == failed


def test_exception_return_clears_the_exclusive_monitor(take):
    taken = take(
        f"""
        ldxr x3, [x1]
        {TO_EL0}
        stxr w4, x2, [x1]
        svc #1
        """
    )

    assert taken.core.registers["x4"] == 1
