"""Exceptions that come of an AArch64 core's state: misaligned pc and sp, floating point that is
turned off, illegal execution state (Arm ARM D1.8, D1.11.4, D1.16, D13.2.37)."""

from __future__ import annotations

import pytest

from hypervisor.cpu.cells import NEVER

SAME_SP0, SAME, LOWER = 0x000, 0x200, 0x400
FLOATING_POINT, ILLEGAL_STATE, SVC, INSTRUCTION_ABORT = 0x07, 0x0E, 0x15, 0x20
PC_ALIGNMENT, DATA_ABORT, SP_ALIGNMENT = 0x22, 0x25, 0x26
ALWAYS = 0x1E0_0000
"""ISS of a trapped floating-point instruction: of no condition."""
IL = 1 << 20
NO_CHECKS = """
    mrs x3, sctlr_el1
    bic x3, x3, #0x18
    msr sctlr_el1, x3
"""


def each(form, instructions):
    """Parametrize a test with `form`, filled in; all are assembled in one go."""
    sources = [form.format(instruction) for instruction in instructions]
    cases = [
        pytest.param(source, sources, id=instruction)
        for source, instruction in zip(sources, instructions, strict=True)
    ]
    return pytest.mark.parametrize(("source", "sources"), cases)


# -- floating point -----------------------------------------------------------------------------

FP_INSTRUCTIONS = (
    *("fmov d1, #2.5", "fadd s1, s2, s3", "movi v4.16b, #3", "umov w4, v4.b[9]", "scvtf d1, x2"),
    *("ldr q1, [x1]", "stp d1, d2, [x1]", "ld1 {v1.4s}, [x1]", "aese v1.16b, v2.16b"),
    *("mrs x2, fpcr", "msr fpsr, x2", "sha256h q1, q2, v3.4s"),
)


@each(" here\n {}\n", FP_INSTRUCTIONS)
def test_floating_point_is_trapped_after_reset(take, source, sources):
    taken = take(source, among=sources)

    assert (taken.vector, taken.exception_class) == (SAME, FLOATING_POINT)
    assert taken.syndrome == ALWAYS
    assert taken.elr == taken.at
    assert taken.spsr == 0x3C5


@pytest.mark.parametrize(
    ("enabled", "vector", "found"),
    [
        (0, SAME, FLOATING_POINT),
        (1, LOWER, FLOATING_POINT),
        (2, SAME, FLOATING_POINT),
        (3, LOWER, SVC),
    ],
)
def test_each_level_has_floating_point_as_it_was_given(take, enabled, vector, found):
    source = " msr cpacr_el1, x3\n fmov d1, #2.5\n to_el0\n fmov d2, #4.0\n svc #0\n"

    taken = take(source, x3=enabled << 20)

    assert (taken.vector, taken.exception_class) == (vector, found)


def test_floating_point_can_be_given_on_its_trap(take):
    """How an operating system lends it: the same instruction succeeds afterwards."""
    taken = take(
        """
        adr x2, vectors
        mov x3, #0x300000
        msr cpacr_el1, x3
        bl use
        msr cpacr_el1, xzr
        bl use
    use:
        here
        fmov d1, #2.5
        ret
        """
    )

    assert (taken.exception_class, taken.elr) == (FLOATING_POINT, taken.at)
    assert taken.core.registers["v1"] != 0


def test_undefined_instruction_is_none_of_floating_point(take):
    taken = take(" here\n .inst 0x1e6e1020\n")

    assert (taken.exception_class, taken.elr) == (0, taken.at)


# -- the program counter ------------------------------------------------------------------------


@each(" adr x19, vectors + {}\n", ("1\n br x19", "2\n br x19", "2\n blr x19", "3\n ret x19"))
def test_jump_to_misaligned_address_faults_there(take, source, sources):
    taken = take(source, among=sources)

    assert (taken.vector, taken.exception_class, taken.syndrome) == (SAME, PC_ALIGNMENT, 0)
    assert taken.elr == taken.far == taken.at


def test_misaligned_pc_goes_before_an_address_where_nothing_is(take):
    taken = take(" ldr x19, =0x10000002\n br x19\n")

    assert (taken.exception_class, taken.far) == (PC_ALIGNMENT, 0x1000_0002)


def test_el0_faults_on_misaligned_pc(take):
    taken = take(" to_el0\n adr x19, there + 2\n br x19\nthere: nop\n")

    assert (taken.vector, taken.exception_class) == (LOWER, PC_ALIGNMENT)
    assert taken.elr == taken.far == taken.at


def test_return_to_misaligned_pc_faults_at_the_level_that_was_left_for(take):
    taken = take(
        """
        adr x19, there + 1
        msr elr_el1, x19
        msr spsr_el1, xzr
        eret
    there:
        nop
        """
    )

    assert (taken.vector, taken.exception_class, taken.elr) == (LOWER, PC_ALIGNMENT, taken.at)


# -- the stack pointer --------------------------------------------------------------------------

ACCESSES = (
    *("ldr x2, [sp]", "str x2, [sp, #8]", "ldrb w2, [sp, #1]", "ldur x2, [sp, #-8]"),
    *("ldr x2, [sp, x3]", "ldp x2, x3, [sp]", "stp x2, x3, [sp, #-16]!", "ldr x2, [sp], #16"),
    *("ldxr x2, [sp]", "ldar x2, [sp]", "stlr x2, [sp]", "ldadd x2, x3, [sp]"),
    *("swpal x2, x3, [sp]", "cas x2, x3, [sp]", "ldtr x2, [sp]", "ldpsw x2, x3, [sp]"),
)


@each(" add sp, x1, #8\n here\n {}\n", ACCESSES)
def test_access_by_misaligned_sp_faults(take, source, sources):
    taken = take(source, among=sources)

    assert (taken.vector, taken.exception_class, taken.syndrome) == (SAME, SP_ALIGNMENT, 0)
    assert taken.elr == taken.at
    assert taken.core.registers["SP_EL1"] == 0x4000_8008


VECTOR_ACCESSES = (
    "ldr q1, [sp]",
    "ldp d1, d2, [sp, #16]",
    "st1 {v1.4s}, [sp]",
    "ld1r {v1.8h}, [sp]",
)


@pytest.mark.parametrize(("cpacr", "found"), [(0, FLOATING_POINT), (3, SP_ALIGNMENT)])
@each(" msr cpacr_el1, x3\n add sp, x1, #8\n here\n {}\n", VECTOR_ACCESSES)
def test_floating_point_that_is_off_goes_before_misaligned_sp(take, source, sources, cpacr, found):
    taken = take(source, among=sources, x3=cpacr << 20)

    assert (taken.exception_class, taken.elr) == (found, taken.at)


UNCHECKED = (
    *("ldr x2, [x1]", "ldr x2, main", "add x2, sp, #1"),
    *("prfm pldl1keep, [sp]", "prfum pldl1keep, [sp, #1]", "prfm pldl1keep, [sp, x3]"),
)


@each(" add sp, x1, #8\n {}\n svc #0\n", UNCHECKED)
def test_misaligned_sp_lets_other_instructions_be(take, source, sources):
    taken = take(source, among=sources)

    assert taken.exception_class == SVC


ALIGNED = """
    mov x2, #0x300000
    msr cpacr_el1, x2
    mov x4, #8
    movk x4, #0x4000, lsl #16
    msr sp_el0, x4
    mov x5, #8
    mov sp, x1
    ldr x2, [sp]
"""
CHANGES = (
    *("add sp, sp, #8", "sub sp, sp, #1", "mov sp, x4", "add sp, x4, #0", "add sp, sp, x5"),
    *("sub sp, sp, w5, uxtw", "orr sp, x4, #1", "and sp, x4, #8", "eor sp, x4, #16"),
    *("ldr x2, [sp], #8", "str x2, [sp, #-8]!", "ldrb w2, [sp], #1", "ldp w2, w3, [sp], #8"),
    *("stp x2, x3, [sp, #-24]!", "ldp d1, d2, [sp, #8]!", "str q1, [sp], #24"),
    *("ldpsw x2, x3, [sp], #4", "ld1 {v1.8b}, [sp], #8", "st1 {v1.b}[3], [sp], x5"),
    *("msr spsel, #0", "msr spsel, xzr"),
)
KEPT = (
    *("add sp, sp, #16", "sub sp, sp, #4080", "add sp, sp, #1, lsl #12", "mov sp, x1"),
    *("ldr x2, [sp], #16", "str x2, [sp, #-16]!", "ldp x2, x3, [sp], #16"),
    *("stp x2, x3, [sp, #-64]!", "ldp q1, q2, [sp], #32", "ldp w2, w3, [sp], #16"),
)


@each(ALIGNED + " {}\n here\n ldr x2, [sp]\n", CHANGES)
def test_whatever_misaligns_sp_is_noticed(take, source, sources):
    taken = take(source, among=sources)

    assert (taken.exception_class, taken.elr) == (SP_ALIGNMENT, taken.at)


@each(ALIGNED + " {}\n ldr x2, [sp]\n svc #0\n", KEPT)
def test_sp_that_stays_aligned_stays_good(take, source, sources):
    taken = take(source, among=sources)

    assert taken.exception_class == SVC


def test_sp_that_is_aligned_again_is_good(take):
    taken = take(f"{ALIGNED} add sp, sp, #8\n nop\n add sp, sp, #8\n ldr x2, [sp]\n svc #0\n")

    assert taken.exception_class == SVC


def test_same_code_is_run_with_sp_of_both_kinds(take):
    """Blocks that ran with an aligned sp are linked to each other."""
    taken = take(
        f"""
        {ALIGNED}
        mov x6, #5
    again:
        sub x6, x6, #1
        cbz x6, last
    use:
        here
        ldr x2, [sp]
        b again
    last:
        add sp, sp, #4
        b use
        """
    )

    assert (taken.exception_class, taken.elr) == (SP_ALIGNMENT, taken.at)
    assert taken.core.registers["x6"] == 0


@pytest.mark.parametrize(("sctlr", "found"), [(0x10, SP_ALIGNMENT), (0x08, SVC)])
def test_el0_is_checked_where_sa0_says_so(take, sctlr, found):
    taken = take(
        f"""
        {NO_CHECKS}
        orr x3, x3, #{sctlr}
        msr sctlr_el1, x3
        add x3, x1, #8
        msr sp_el0, x3
        to_el0
        here
        ldr x2, [sp, #8]
        svc #0
        """
    )

    assert (taken.vector, taken.exception_class) == (LOWER, found)
    assert taken.elr == taken.at + {SP_ALIGNMENT: 0, SVC: 8}[found]


def test_el1_is_not_checked_without_sa(take):
    taken = take(f"{NO_CHECKS} add sp, x1, #8\n ldr x2, [sp, #8]\n svc #0\n")

    assert taken.exception_class == SVC


def test_stack_of_el0_is_checked_where_el1_uses_it(take):
    taken = take(" add x3, x1, #8\n msr sp_el0, x3\n msr spsel, #0\n here\nldr x2, [sp]\n")

    assert (taken.vector, taken.exception_class) == (SAME_SP0, SP_ALIGNMENT)
    assert (taken.elr, taken.spsr) == (taken.at, 0x3C4)


def test_handler_returns_with_sp_mended(take):
    """As an operating system may: the access is done again."""
    taken = take(
        """
        adr x2, mend
        msr vbar_el1, x2
        add sp, x1, #8
        ldr x6, [sp, #8]
        svc #0
        .balign 2048
    mend:
        .space 0x200
        mrs x20, esr_el1
        lsr x20, x20, #26
        cmp x20, #0x26
        b.ne 1f
        mov sp, x1
        eret
    1:  hvc #0
        """
    )

    assert taken.core.registers["x20"] == SVC


# -- illegal execution state --------------------------------------------------------------------


MODES = {"EL2h": 9, "EL3h": 13, "EL0 with SP": 2, "reserved": 7}
MODES |= {"User": 0x10, "Supervisor": 0x13, "System": 0x1F}
RETURN = """
    ldr x3, =0xa0000000
    add x3, x3, x6
    msr spsr_el1, x3
    adr x3, there
    msr elr_el1, x3
    eret
there:
    mov x6, #1
"""


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_return_to_a_state_there_is_not_is_illegal(take, mode):
    taken = take(RETURN, x6=mode)

    assert (taken.vector, taken.exception_class, taken.syndrome) == (SAME, ILLEGAL_STATE, 0)
    assert taken.elr == taken.core.registers["x3"]
    assert taken.spsr == 0xA000_0005 | IL
    assert taken.core.registers["x6"] == mode
    assert taken.daif == 0x3C0


def test_state_that_is_saved_as_illegal_comes_back_so(take):
    taken = take(
        f"""
        mov x3, #{IL}
        msr spsr_el1, x3
        adr x3, there
        msr elr_el1, x3
        eret
    there:
        mov x6, #1
        """
    )

    assert (taken.vector, taken.exception_class) == (LOWER, ILLEGAL_STATE)
    assert (taken.elr, taken.spsr) == (taken.core.registers["x3"], IL)


def test_abort_of_the_fetch_goes_before_illegal_state(take):
    taken = take(
        f"""
        mov x3, #{IL}
        msr spsr_el1, x3
        mov x3, #0x10000000
        msr elr_el1, x3
        eret
        """
    )

    assert (taken.vector, taken.exception_class) == (LOWER, INSTRUCTION_ABORT)
    assert (taken.elr, taken.spsr) == (0x1000_0000, IL)


def test_illegal_state_ends_with_its_exception(take):
    taken = take(
        f"""
        adr x2, once
        msr vbar_el1, x2
        mov x3, #{IL}
        msr spsr_el1, x3
        adr x3, there
        msr elr_el1, x3
        eret
    there:
        svc #0
        .balign 2048
    once:
        .space 0x400
        mrs x20, esr_el1
        lsr x20, x20, #26
        cmp x20, #0x0e
        b.ne 1f
        msr spsr_el1, xzr
        eret
    1:  hvc #0
        """
    )

    assert taken.core.registers["x20"] == SVC


# -- other --------------------------------------------------------------------------------------


def test_zeroing_nothing_is_an_external_abort_there(take):
    taken = take(" ldr x2, =0x10000010\n nop\n here\ndc zva, x2\n nop\n")

    assert (taken.exception_class, taken.syndrome) == (DATA_ABORT, 0x50)
    assert (taken.elr, taken.far) == (taken.at, 0x1000_0010)


@pytest.mark.parametrize(
    "fault", ["ldr x2, [sp]", "fmov d1, #1.0", "br x5", "eret"], ids=["sp", "fp", "pc", "state"]
)
def test_time_counts_what_was_retired_before_the_fault(take, fault):
    """Of a block that a fault leaves, and of the one before a block that there is not."""
    source = f" mov x5, #2\n msr spsr_el1, x5\n add sp, x1, #8\n nop\n b 1f\n1: {fault}\n"
    before = take(source.replace(fault, "hvc #0")).core.clock.units

    after = take(source).core.clock.units

    retired = {"br x5": 4, "eret": 4}.get(fault, 0)
    assert after - before == retired + 6 * 4


def test_deadline_is_kept_where_sp_is_misaligned(take):
    """Code that goes instruction by instruction counts as it would in one block."""
    plain = "mov x3, #1000\n1: sub x3, x3, #1\n cbnz x3, 1b\n svc #0\n"

    misaligned = take(f" add sp, x1, #8\n {plain}").core
    aligned = take(f" add sp, x1, #16\n {plain}").core

    assert misaligned.clock.units == aligned.clock.units
    assert misaligned.clock.deadline == NEVER
