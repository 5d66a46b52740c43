"""An AArch64 core: exceptions, virtual time, interrupts, and code written through an alias."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys

import pytest
from elftools.elf.elffile import ELFFile

from hypervisor.cpu.aarch64 import Core
from hypervisor.cpu.cells import NEVER, UNITS_PER_TICK, Reason, link
from hypervisor.cpu.stopping import WRITE
from hypervisor.memory import Memory
from hypervisor.time.clock import VirtualClock

RAM = 0x4000_0000
LINK = f"SECTIONS {{ . = {RAM:#x}; .text : {{ *(.text*) }} }}"

VECTORS = """
    adr x0, vectors
    msr vbar_el1, x0
    b main
.balign 2048
vectors:
    .space 0x200
    mrs x20, esr_el1
    mrs x21, elr_el1
    mrs x22, far_el1
    mrs x23, spsr_el1
    wfi
    .space 0x280 - 0x214
    mov x24, 1
    b .
.balign 2048
main:
"""


@pytest.fixture(scope="module")
def assemble(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aarch64")
    (folder / "link.ld").write_text(LINK)

    def run(source):
        (folder / "a.S").write_text(".globl _start\n_start:\n" + source + "\n")
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-freestanding-none"]
        command += ["-nostdlib", "-static", f"-Wl,-T,{folder / 'link.ld'}"]
        subprocess.run([*command, "-o", folder / "a.elf", folder / "a.S"], check=True)
        with (folder / "a.elf").open("rb") as file:
            section = ELFFile(file).get_section_by_name(".text")
            return section.data()

    return run


class Rig:
    def __init__(self, assemble):
        self.assemble = assemble
        self.clock = VirtualClock(0)
        self.memory = Memory(RAM, 1 << 20)
        self.memory.on_write.append(self.clock.cell)
        self.core = Core(0, self.clock.cell)
        self.core.map_ram(RAM, self.memory.size, self.memory.host_address)

    def load(self, source):
        self.memory.write(RAM, self.assemble(source))
        self.core.begin(RAM)
        self.clock.cell.deadline = NEVER
        return self.core

    def run(self, source):
        core = self.load(source)
        for _ in range(20):
            core.take_interrupt_lines()
            self.clock.cell.deadline = NEVER
            core.run()
            if core.waiting:
                return core
        raise AssertionError(f"no wfi; pc {core.pc:#x}")


@pytest.fixture
def rig(assemble):
    one = Rig(assemble)
    yield one
    one.core.close()
    one.memory.close()


@pytest.mark.parametrize(
    ("instruction", "exception_class", "returns_behind"),
    [
        ("svc #7", 0x15, True),
        ("brk #3", 0x3C, False),
        (".inst 0x00000000", 0x00, False),
    ],
)
def test_exception_arrives_with_its_class_and_address(
    rig, instruction, exception_class, returns_behind
):
    core = rig.run(f"{VECTORS}\n nop\n adr x19, fault\nfault: {instruction}\n")

    assert core.registers["x20"] >> 26 == exception_class
    assert core.registers["x21"] == core.registers["x19"] + 4 * returns_behind
    assert core.registers["x23"] & 0xF == 5


def test_hvc_leaves_the_run_for_the_firmware(rig):
    core = rig.load("mov x0, 5\n hvc #0\n mov x1, 9\n wfi")

    reason = core.run()

    assert reason == Reason.FIRMWARE_CALL
    assert core.registers["x0"] == 5
    core.run()
    assert core.registers["x1"] == 9


def test_retired_bytes_are_counted_exactly(rig):
    rig.run("mov x0, 100\n1: sub x0, x0, 1\n cbnz x0, 1b\n wfi\n nop\n nop")

    assert rig.clock.cell.units == 4 + 100 * 8 + 4


def test_counter_is_virtual_time(rig):
    core = rig.run(
        "mov x0, 1000\n1: sub x0, x0, 1\n cbnz x0, 1b\n b 2f\n2: mrs x1, cntvct_el0\n wfi"
    )

    assert core.registers["x1"] == (4 + 1000 * 8 + 4) // UNITS_PER_TICK


def test_timer_registers_keep_values_and_show_status(rig):
    core = rig.run("""
        mov x0, 1
        msr cntv_ctl_el0, x0
        msr cntv_cval_el0, xzr
        b 1f
    1:  mrs x1, cntv_ctl_el0
        mov x0, 1000
        msr cntv_tval_el0, x0
        b 2f
    2:  mrs x2, cntv_ctl_el0
        mrs x3, cntv_tval_el0
        wfi
    """)

    assert core.registers["x1"] == 5
    assert core.registers["x2"] == 1
    assert core.registers["x3"] == 1000


def test_interrupt_is_taken_when_unmasked(rig):
    core = rig.load(f"{VECTORS}\n msr daifclr, 2\n1: add x5, x5, 1\n b 1b")
    rig.clock.cell.deadline = 20_000
    core.run()
    core.interrupt(0).set(True)
    core.take_interrupt_lines()
    rig.clock.cell.deadline = 40_000
    core.run()

    assert core.registers["x24"] == 1
    assert core.registers["x5"] > 100


def test_masked_interrupt_waits(rig):
    core = rig.load("1: add x5, x5, 1\n b 1b")
    core.interrupt(0).set(True)
    core.take_interrupt_lines()
    rig.clock.cell.deadline = 20_000

    core.run()

    assert core.registers["x5"] > 100


def map_code_twice(memory):
    """4 KiB pages, one 2 MiB table: RAM executable at its own address, its page 0x20 also
    writable at RAM + 0x100000."""
    level1, level2, level3 = RAM + 0x80000, RAM + 0x81000, RAM + 0x82000
    table, page, read_only, never_execute = 3, 0x703, 1 << 7, 3 << 53

    def put(address, value):
        memory.write(address, struct.pack("<Q", value))

    put(level1 + 8, level2 | table)
    put(level2, level3 | table)
    for number in range(0x80):
        put(level3 + 8 * number, RAM + 4096 * number | page | read_only)
    put(level3 + 8 * 0x100, RAM + 0x20000 | page | never_execute)
    return level1


PATCH = """
    ldr x0, =0x5b5103519
    movz x0, #25
    msr tcr_el1, x0
    mov x0, 0xff
    msr mair_el1, x0
    msr ttbr0_el1, x9
    isb
    mrs x0, sctlr_el1
    orr x0, x0, 1
    msr sctlr_el1, x0
    isb
    mov x10, 0x40020000
    mov x11, 0x40100000
    blr x10
    mov x12, x0
    add x13, x10, 0x200
    blr x13
    ldr w1, new
    str w1, [x11]
    str w1, [x11, 0x200]
    dsb ish
    {flush}
    dsb ish
    isb
    blr x10
    mov x14, x0
    blr x13
    wfi
new: .inst 0xd2800040
"""
RETURN_1 = struct.pack("<II", 0xD2800020, 0xD65F03C0)


def patch(rig, flush):
    core = rig.load(PATCH.format(flush=flush))
    for offset in (0x20000, 0x20200):
        rig.memory.write(RAM + offset, RETURN_1)
    core.registers["x9"] = map_code_twice(rig.memory)
    core.cell.watch_code = 1
    for _ in range(20):
        rig.clock.cell.deadline = NEVER
        core.run()
        if core.waiting:
            return core.registers["x12"], core.registers["x14"], core.registers["x0"]
    raise AssertionError(f"no wfi; pc {core.pc:#x}")


def test_code_patched_through_an_alias_runs_new_after_ic_ivau(rig):
    assert patch(rig, "ic ivau, x10\n ic ivau, x13") == (1, 2, 2)


PATCH_IN_A_LOOP = (
    PATCH[: PATCH.index("mov x12")]
    + """
    mov x15, 0              // the sum of what the function gave
    mov x16, 10
    ldr w1, new
1:  str w1, [x11]
    add w1, w1, 1 << 5      // mov x0, 2, and so on to 11
    dsb ish
    ic ivau, x10
    dsb ish
    isb
    blr x10
    add x15, x15, x0
    subs x16, x16, 1
    b.ne 1b
    wfi
new: .inst 0xd2800040
"""
)


def test_code_patched_again_and_again_runs_new_each_time(rig):
    core = rig.load(PATCH_IN_A_LOOP)
    rig.memory.write(RAM + 0x20000, RETURN_1)
    core.registers["x9"] = map_code_twice(rig.memory)
    core.cell.watch_code = 1

    while not core.waiting:
        rig.clock.cell.deadline = NEVER
        core.run()

    assert core.registers["x15"] == sum(range(2, 12))


PATCH_AND_BACK = (
    PATCH[: PATCH.index("ldr w1, new")]
    + """
    ldr w1, [x10]
    ldr w2, new
    str w2, [x11]           // the engine sees this store
    blr x10
    mov x14, x0
    str w1, [x11]           // but not this one
    dsb ish
    ic ivau, x10
    dsb ish
    isb
    blr x10
    wfi
new: .inst 0xd2800040
"""
)


def test_code_patched_and_patched_back_runs_old(rig):
    core = rig.load(PATCH_AND_BACK)
    rig.memory.write(RAM + 0x20000, RETURN_1)
    rig.memory.write(RAM + 0x20200, RETURN_1)
    core.registers["x9"] = map_code_twice(rig.memory)

    while not core.waiting:
        rig.clock.cell.deadline = NEVER
        core.run()

    assert core.registers["x14"] == 2
    assert core.registers["x0"] == 1


def test_ic_ivau_keeps_translations_of_other_pages(rig):
    patch(rig, "ic ivau, x10\n ic ivau, x13")
    translated = rig.core.cell.translated_words

    assert ctypes.string_at(translated, 1) == b"\1"  # executed once, before the patch


def test_without_ic_ivau_stale_code_runs(rig):
    first, second, third = patch(rig, "nop")

    assert first == 1
    assert 1 in (second, third)


def test_first_block_of_all_is_known_to_hold_code(rig):
    core = rig.load("wfi")

    core.run()

    assert core.cell.page_count == 1


def test_ic_acts_on_the_instructions_that_follow_it(rig):
    core = rig.load("""
        mov x9, 2
    again:
        adr x1, new
        ldr w1, [x1]
        adr x0, patched
        str w1, [x0]
        dc cvau, x0
        dsb ish
        ic ivau, x0
        dsb ish
        isb
    patched:
        mov x2, 1
        subs x9, x9, 1
        b.ne again
        wfi
    new: mov x2, 2
    """)

    while not core.waiting:
        rig.clock.cell.deadline = NEVER
        core.run()

    assert core.registers["x2"] == 2


def test_ic_on_one_core_is_seen_by_another(rig):
    other = Core(1, rig.clock.cell)
    other.map_ram(RAM, rig.memory.size, rig.memory.host_address)
    link(rig.clock.cell, [rig.core.cell, other.cell])
    rig.memory.write(RAM + 0x1000, RETURN_1)
    call = "ldr x10, =0x40001000\n blr x10\n wfi\n wfi\n"
    patcher = "ldr x10, =0x40001000\n ldr w1, new\n str w1, [x10]\n dsb ish\n ic ivau, x10\n"
    code = rig.assemble(call)
    rig.memory.write(RAM + 0x2000, code)

    other.begin(RAM + 0x2000)
    rig.clock.cell.deadline = NEVER
    other.run()
    rig.run(patcher + "dsb ish\n isb\n wfi\n new: mov x0, 2")
    before = other.registers["x0"]
    other.pc = RAM + 0x2000
    rig.clock.cell.deadline = NEVER
    other.run()
    after = other.registers["x0"]
    other.close()
    rig.clock.cell.harts = 0

    assert (before, after) == (1, 2)


MMU_ON = PATCH[: PATCH.index("mov x10")]


def load_after_unmapping(rig, invalidate):
    """What another core loads from a page before and after this one maps another page there, and
    executes `invalidate` with x12 as the operand."""
    other = Core(1, rig.clock.cell)
    other.map_ram(RAM, rig.memory.size, rig.memory.host_address)
    link(rig.clock.cell, [rig.core.cell, other.cell])
    for page in (0x20, 0x21):
        rig.memory.write(RAM + page * 0x1000, struct.pack("<Q", page))
    tables = map_code_twice(rig.memory)
    load = "mov x11, 0x40100000\n ldr x20, [x11]\n wfi\n ldr x21, [x11]\n wfi\n"
    rig.memory.write(RAM + 0x2000, rig.assemble(MMU_ON + load))
    other.begin(RAM + 0x2000)
    other.registers["x9"] = tables
    rig.clock.cell.deadline = NEVER
    other.run()
    entry = RAM + 0x82000 + 8 * 0x100
    rig.run(f"""
        ldr x10, ={entry:#x}
        ldr x0, [x10]
        add x0, x0, 0x1000
        str x0, [x10]
        ldr x12, =0x40100
        dsb ish
        {invalidate}
        dsb ish
        wfi
    """)
    other.run()
    loaded = other.registers["x20"], other.registers["x21"]
    other.close()
    rig.clock.cell.harts = 0
    return loaded


@pytest.mark.parametrize(
    "invalidate",
    ["tlbi vae1is, x12", "tlbi vale1is, x12", "tlbi vaae1is, x12", "tlbi vmalle1is"],
)
def test_tlbi_on_one_core_is_seen_by_another(rig, invalidate):
    assert load_after_unmapping(rig, invalidate) == (0x20, 0x21)


def test_tlbi_without_broadcast_leaves_the_others_alone(rig):
    assert load_after_unmapping(rig, "tlbi vmalle1") == (0x20, 0x20)


@pytest.mark.parametrize(("instruction", "end"), [("wfi", 4), ("wfe", 8), ("yield", 8)])
def test_only_wfi_waits(rig, instruction, end):
    core = rig.load(f"{instruction}\n wfi")

    assert core.run() == Reason.NONE
    assert core.waiting
    assert core.pc == RAM + end
    assert rig.clock.cell.units == end


def test_fiq_is_taken_at_its_own_vector(rig):
    core = rig.load("""
        adr x0, vectors
        msr vbar_el1, x0
        msr daifclr, 1
    1:  add x5, x5, 1
        b 1b
    .balign 2048
    vectors:
        .space 0x300
        mov x24, 7
        b .
    """)
    rig.clock.cell.deadline = 20_000
    core.run()
    core.interrupt(1).set(True)
    core.take_interrupt_lines()
    rig.clock.cell.deadline = 40_000
    core.run()

    assert core.registers["x24"] == 7


@pytest.mark.parametrize(("access", "details"), [("ldr x6, [x1]", 0x10), ("str x6, [x1]", 0x50)])
def test_access_to_nothing_is_an_external_abort(rig, access, details):
    core = rig.run(f"{VECTORS}\n mov x1, 0x10000000\n adr x19, fault\nfault: {access}\n")

    syndrome = core.registers["x20"]
    assert syndrome >> 26 == 0x25
    assert syndrome & 0xFF == details
    assert core.registers["x22"] == 0x1000_0000
    assert core.registers["x21"] == core.registers["x19"]


def test_state_is_the_same_after_save_and_load(rig):
    core = rig.run("""
        mov x0, 3 << 20
        msr cpacr_el1, x0
        isb
        mov x1, 0x4242
        dup v3.2d, x1
        fmov d4, 1.5
        msr fpcr, xzr
        mov x2, 0x40080000
        mov sp, x2
        msr spsel, 0
        mov x2, 0x40090000
        mov sp, x2
        msr tpidr_el1, x1
        ldxr x5, [x2]
        subs x6, x1, x1
        wfi
    """)
    saved = core.save()
    other = Core(0, rig.clock.cell)
    other.map_ram(RAM, rig.memory.size, rig.memory.host_address)

    other.load(saved)
    again = other.save()
    other.close()

    assert again == saved
    assert saved["registers"]["v3"] == 0x4242 << 64 | 0x4242
    assert saved["registers"]["SP_EL0"] == saved["registers"]["sp"] == 0x40090000
    assert saved["registers"]["SP_EL1"] == 0x40080000
    assert saved["registers"]["exclusive_address"] == 0x40090000


def test_walk_finds_both_mappings_of_a_page(rig):
    core = rig.core
    patch(rig, "nop")

    assert core.translate(RAM + 0x20010) == RAM + 0x20010
    assert core.translate(RAM + 0x100008) == RAM + 0x20008
    assert core.translate(RAM + 0x101000) is None
    assert [step.level for step in core.page_walk(RAM)[0]] == [1, 2, 3]


def test_core_that_stops_and_starts_again_has_its_reset_state(rig):
    core = rig.run("mov x0, 1\n msr cntv_ctl_el0, x0\n msr tpidr_el1, x0\n wfi")
    core.stop()

    core.begin(RAM, 5)

    assert core.registers["x0"] == 5
    assert core.registers["TPIDR_EL1"] == 0
    assert core.registers["CNTV_CTL_EL0"] == 0
    assert (core.stopped, core.waiting) == (False, False)


@pytest.mark.parametrize("straddling", ["ldr x1, [x11, -4]", "str x1, [x11, -4]"])
def test_watched_store_stops_after_an_access_to_two_pages_that_faulted(rig, straddling):
    core = rig.load(
        PATCH[: PATCH.index("mov x10")]
        + f"""
        adr x0, vectors
        msr vbar_el1, x0
        mov x10, 0x40000000
        add x11, x10, 0x81000   // readable and writable below, nothing from there on
        {straddling}
    .balign 2048
    vectors:
        .space 0x200
        mov x11, 0x40100000
        str x1, [x11]
        wfi
    """
    )
    core.registers["x9"] = map_code_twice(rig.memory)
    rig.memory.write(RAM + 0x82000 + 8 * 0x80, struct.pack("<Q", RAM + 0x20000 | 0x703))
    core.stops.place_watchpoint(1, RAM + 0x20000, 8, WRITE)

    reason = core.run()

    assert reason == Reason.WATCHPOINT


def test_saved_program_status_keeps_what_returns_to_aarch64(rig):
    core = rig.run("ldr x2, =0xf00003c4\n msr spsr_el1, x2\n mrs x3, spsr_el1\n wfi")

    assert core.registers["x3"] == core.registers["SPSR_EL1"] == 0xF000_03C4


def test_registers_of_a_controller_are_answered_by_it(rig):
    core = rig.load(
        f"""{VECTORS}
        mrs x1, s3_0_c12_c12_5
        mov x2, 0xa0
        msr s3_0_c4_c6_0, x2
        mrs x3, id_aa64pfr0_el1
        adr x19, fault
    fault:
        msr s3_0_c12_c12_5, x2      // may only be read
    """
    )
    written = []
    registers = {(3, 0, 12, 12, 5): (lambda: 7, None), (3, 0, 4, 6, 0): (None, written.append)}
    core.add_registers(registers)

    core.run()

    assert core.registers["x1"] == 7
    assert written == [0xA0]
    assert core.registers["x3"] >> 24 & 0xF == 1
    assert core.registers["x20"] >> 26 == 0
    assert core.registers["x21"] == core.registers["x19"]
