"""Every call of the built-in firmware, by the SBI specification 2.0, on real harts."""

from __future__ import annotations

import pytest

from hypervisor.boot import sbi as module
from hypervisor.boot.sbi import BASE, DBCN, HSM, IPI, RFENCE, SRST, TIME, Sbi
from hypervisor.cpu.riscv64 import SSIP, STIP
from hypervisor.device.testing import BenchChannel, BenchControl

RAM, RAM_SIZE = 0x8000_0000, 1 << 20
SUCCESS, NOT_SUPPORTED, INVALID_PARAM, INVALID_ADDRESS, ALREADY = 0, -2, -3, -5, -6
ALL_ONES = (1 << 64) - 1


class Firmware:
    """Four harts in S-mode, the first of them started, and the firmware beneath them."""

    def __init__(self, rig):
        self.rig = rig
        self.clock, self.memory, self.harts = rig.clock, rig.memory, rig.harts
        self.console = BenchChannel()
        self.control = BenchControl()
        self.sbi = Sbi(rig.harts, rig.clock, rig.memory, self.console, self.control)
        for hart in rig.harts:
            hart.reset(firmware=False)
        rig.harts[0].begin_supervisor(RAM, 0)

    def call(self, extension, function=0, *arguments, hart=0):
        """(error, value), as signed numbers."""
        registers = self.harts[hart].registers
        registers["a7"], registers["a6"] = extension, function
        for number in range(6):
            registers[f"a{number}"] = arguments[number] if number < len(arguments) else 0
        self.sbi.call(self.harts[hart])
        return signed(registers["a0"]), signed(registers["a1"])

    def start_all(self):
        for hart in range(1, 4):
            assert self.call(HSM, 0, hart, RAM, 0) == (SUCCESS, 0)

    def pending(self, interrupt):
        """Indices of the harts where an interrupt is pending."""
        for hart in self.harts:
            hart.take_interrupt_lines()
        return [h.index for h in self.harts if h.registers["mip"] >> interrupt & 1]

    def pass_time(self, nanoseconds):
        self.clock.pass_idle(self.clock.now() + nanoseconds)
        self.clock.run_due()


def signed(value):
    return value - (1 << 64) if value >> 63 else value


@pytest.fixture
def firmware(four_harts):
    return Firmware(four_harts)


# -- the calling convention -------------------------------------------------------------------


def test_call_changes_a0_and_a1_alone_and_goes_on_behind_the_ecall(firmware):
    hart = firmware.harts[0]
    before = {n: v for n, v in hart.registers.items() if n not in ("a0", "a1", "a6", "a7")}
    units = firmware.clock.cell.units

    firmware.call(BASE, 0)

    after = dict(hart.registers.items())
    assert {name for name in before if after[name] != before[name]} == set()
    assert hart.pc == RAM + 4
    assert firmware.clock.cell.units == units + 4
    assert hart.executed == 4


@pytest.mark.parametrize("extension", [9, 0x0F, 0x504D55, 0x0900_0000, ALL_ONES])
def test_unknown_extension_is_not_supported(firmware, extension):
    assert firmware.call(extension, 0) == (NOT_SUPPORTED, 0)


@pytest.mark.parametrize(
    ("extension", "function"),
    [(BASE, 7), (TIME, 1), (IPI, 1), (RFENCE, 3), (RFENCE, 7), (HSM, 4), (SRST, 1), (DBCN, 3)],
)
def test_unknown_function_is_not_supported(firmware, extension, function):
    assert firmware.call(extension, function) == (NOT_SUPPORTED, 0)
    assert firmware.control.requests == []


def test_calls_are_counted_by_extension(firmware):
    firmware.call(BASE, 0)
    firmware.call(BASE, 1)
    firmware.call(1, 0, ord("x"))

    assert firmware.sbi.calls == {"base": 2, "legacy": 1}


# -- BASE -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "value"),
    [(0, 2 << 24), (1, module.IMPLEMENTATION_ID), (2, 1), (4, 0), (5, 0), (6, 0)],
)
def test_base_answers(firmware, function, value):
    assert firmware.call(BASE, function) == (SUCCESS, value)


@pytest.mark.parametrize(
    ("extension", "there"),
    [
        *((BASE, 1), (TIME, 1), (IPI, 1), (RFENCE, 1), (HSM, 1), (SRST, 1), (DBCN, 1)),
        *((0, 1), (8, 1), (9, 0), (0x504D55, 0), (ALL_ONES, 0)),
    ],
)
def test_probe_knows_what_is_there(firmware, extension, there):
    assert firmware.call(BASE, 3, extension) == (SUCCESS, there)


# -- TIME -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [(TIME, 0), (0, 0)])
def test_timer_interrupts_at_its_time_and_not_before(firmware, call):
    assert firmware.call(*call, 50)[0] == SUCCESS

    firmware.pass_time(4990)
    early = firmware.pending(STIP)
    firmware.pass_time(20)

    assert (early, firmware.pending(STIP)) == ([], [0])


def test_timer_in_the_past_is_pending_at_once(firmware):
    firmware.pass_time(1_000_000)
    firmware.call(TIME, 0, 1)
    firmware.clock.run_due()

    assert firmware.pending(STIP) == [0]


def test_setting_the_timer_clears_the_pending_interrupt(firmware):
    firmware.call(TIME, 0, 0)
    firmware.clock.run_due()
    assert firmware.pending(STIP) == [0]

    firmware.call(TIME, 0, 1_000_000)

    assert firmware.pending(STIP) == []


@pytest.mark.parametrize("ticks", [1 << 56, ALL_ONES])
def test_timer_in_eternity_is_never(firmware, ticks):
    firmware.call(TIME, 0, 100)
    firmware.call(TIME, 0, ticks)

    assert firmware.clock.next_deadline() is None


def test_each_hart_has_its_own_timer(firmware):
    firmware.start_all()
    firmware.call(TIME, 0, 30, hart=2)
    firmware.call(TIME, 0, 10, hart=1)

    firmware.pass_time(1500)

    assert firmware.pending(STIP) == [1]


def test_reset_leaves_no_timer_interrupt(firmware):
    firmware.call(TIME, 0, 0)
    firmware.clock.run_due()
    firmware.harts[0].reset(firmware=False)
    firmware.sbi.reset()

    assert firmware.pending(STIP) == []
    assert firmware.clock.next_deadline() is None


def test_timer_interrupt_that_was_pending_in_a_saved_hart_can_be_cleared(firmware, two_harts):
    firmware.call(TIME, 0, 0)
    firmware.clock.run_due()
    firmware.pending(STIP)
    other = Firmware(two_harts)

    other.harts[0].load(firmware.harts[0].save())
    restored = other.pending(STIP)
    other.call(TIME, 0, 1_000_000)

    assert restored == [0]
    assert other.pending(STIP) == []


# -- IPI --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "base", "targets"),
    [
        (0b0001, 0, [0]),
        (0b1010, 0, [1, 3]),
        (0b0011, 2, [2, 3]),
        (0b1111, 0, [0, 1, 2, 3]),
        (0, 0, []),
        (0, 77, []),
        (0, ALL_ONES, [0, 1, 2, 3]),
        (0b10, ALL_ONES, [0, 1, 2, 3]),
    ],
)
def test_ipi_reaches_the_harts_of_its_mask(firmware, mask, base, targets):
    firmware.start_all()

    assert firmware.call(IPI, 0, mask, base) == (SUCCESS, 0)
    assert firmware.pending(SSIP) == targets


@pytest.mark.parametrize(
    ("mask", "base"), [(0b1_0000, 0), (0b11, 3), (1, 4), (1, 1 << 63), (ALL_ONES, 0), (2, 1 << 40)]
)
@pytest.mark.parametrize("call", [(IPI, 0), (RFENCE, 0), (RFENCE, 1), (RFENCE, 2)])
def test_mask_with_a_hart_that_does_not_exist_is_invalid(firmware, call, mask, base):
    firmware.start_all()

    assert firmware.call(*call, mask, base) == (INVALID_PARAM, 0)
    assert firmware.pending(SSIP) == []


def test_ipi_does_not_reach_a_stopped_hart(firmware):
    assert firmware.call(IPI, 0, 0b0011, 0) == (SUCCESS, 0)
    assert firmware.pending(SSIP) == [0]


def test_ipi_wakes_a_waiting_hart(firmware):
    firmware.start_all()
    target = firmware.harts[1]
    target.registers["mie"] = 1 << SSIP
    target.waiting = True

    firmware.call(IPI, 0, 0b10, 0)

    assert target.take_interrupt_lines()


# -- RFENCE -----------------------------------------------------------------------------------


def test_remote_fence_i_makes_the_targets_see_new_code(firmware):
    firmware.start_all()
    old, new = (firmware.rig.assemble(f"li s0, {n}\n wfi") for n in (1, 2))
    code = RAM + 0x1000
    firmware.memory.write(code, old)
    for hart in firmware.harts[1:]:
        hart.begin(code)
        hart.run()
    offset = code - RAM
    firmware.memory.map[offset : offset + len(new)] = new

    assert firmware.call(RFENCE, 0, 0b0110, 0) == (SUCCESS, 0)
    for hart in firmware.harts[1:]:
        hart.pc = code
        hart.waiting = False
        hart.run()

    assert [hart.registers["s0"] for hart in firmware.harts[1:]] == [2, 2, 1]


@pytest.mark.parametrize("function", [1, 2])
@pytest.mark.parametrize("span", [(0, 0), (0, ALL_ONES), (RAM, 4096)])
def test_remote_sfence_forgets_translated_addresses(firmware, function, span):
    firmware.start_all()
    root, one, other = RAM + 0x10000, RAM + 0x20000, RAM + 0x30000
    leaf = root + 0x1000
    entries = {
        root + 16: RAM >> 12 << 10 | 0xCF,  # 1 GiB of code and data where it is
        root + 8: leaf >> 12 << 10 | 1,
        leaf: (leaf + 0x1000) >> 12 << 10 | 1,
    }
    for address, entry in entries.items():
        firmware.memory.write(address, entry.to_bytes(8, "little"))
    firmware.memory.write(leaf + 0x1000, (one >> 12 << 10 | 0xC7).to_bytes(8, "little"))
    firmware.memory.write(one, b"\x01")
    firmware.memory.write(other, b"\x02")
    firmware.memory.write(RAM, firmware.rig.assemble("lui t0, 0x40000\n lbu s0, (t0)\n wfi"))
    target = firmware.harts[1]

    def look():
        target.pc = RAM
        target.waiting = False
        target.run()
        return target.registers["s0"]

    target.registers["satp"] = 8 << 60 | root >> 12
    target.flush_tlb()
    before = look()
    firmware.memory.write(leaf + 0x1000, (other >> 12 << 10 | 0xC7).to_bytes(8, "little"))
    stale = look()
    assert firmware.call(RFENCE, function, 0b10, 0, *span) == (SUCCESS, 0)

    assert (before, stale, look()) == (1, 1, 2)


# -- HSM --------------------------------------------------------------------------------------


def test_hart_starts_in_supervisor_mode_with_its_arguments(firmware):
    target = firmware.harts[2]
    target.registers["satp"] = 8 << 60
    target.registers["mstatus"] |= 2

    assert firmware.call(HSM, 0, 2, RAM + 0x100, 0xABCD) == (SUCCESS, 0)

    registers = target.registers
    assert (target.pc, registers["a0"], registers["a1"]) == (RAM + 0x100, 2, 0xABCD)
    assert (registers["priv"], registers["satp"], registers["mstatus"] & 2) == (1, 0, 0)
    assert not target.stopped


@pytest.mark.parametrize(
    ("hart", "address", "error"),
    [
        (4, RAM, INVALID_PARAM),
        (ALL_ONES, RAM, INVALID_PARAM),
        (0, RAM, ALREADY),
        (1, 0, INVALID_ADDRESS),
        (1, RAM + RAM_SIZE, INVALID_ADDRESS),
        (1, ALL_ONES - 3, INVALID_ADDRESS),
        (1, 0x1000_0000, INVALID_ADDRESS),
    ],
)
def test_hart_that_cannot_start_is_refused(firmware, hart, address, error):
    assert firmware.call(HSM, 0, hart, address, 0) == (error, 0)
    assert [each.stopped for each in firmware.harts] == [False, True, True, True]


def test_hart_status_follows_start_and_stop(firmware):
    before = firmware.call(HSM, 2, 1)
    firmware.call(HSM, 0, 1, RAM, 0)
    started = firmware.call(HSM, 2, 1)
    firmware.call(HSM, 1, hart=1)
    stopped = firmware.call(HSM, 2, 1)

    assert (before, started, stopped) == ((SUCCESS, 1), (SUCCESS, 0), (SUCCESS, 1))
    assert firmware.call(HSM, 2, 4) == (INVALID_PARAM, 0)


def test_stopped_hart_starts_again_without_its_old_timer(firmware):
    firmware.start_all()
    firmware.call(TIME, 0, 5, hart=3)
    firmware.pass_time(1000)
    firmware.call(TIME, 0, 50, hart=2)
    assert firmware.pending(STIP) == [3]

    firmware.call(HSM, 1, hart=2)
    firmware.call(HSM, 1, hart=3)
    firmware.pass_time(10_000)
    firmware.call(HSM, 0, 2, RAM, 0)
    firmware.call(HSM, 0, 3, RAM, 0)

    assert firmware.pending(STIP) == []


def test_retentive_suspend_waits_for_an_interrupt(firmware):
    hart = firmware.harts[0]
    hart.registers["mie"] = 1 << STIP
    firmware.call(TIME, 0, 10)

    assert firmware.call(HSM, 3, 0, 0, 0) == (SUCCESS, 0)
    assert hart.waiting
    assert not hart.take_interrupt_lines()
    firmware.pass_time(2000)
    assert hart.take_interrupt_lines()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (1, INVALID_PARAM),
        (0x0FFF_FFFF, INVALID_PARAM),
        (0x1000_0000, NOT_SUPPORTED),
        (0x7FFF_FFFF, NOT_SUPPORTED),
        (0x8000_0000, NOT_SUPPORTED),
        (0xFFFF_FFFF_8000_0000, NOT_SUPPORTED),
        (0x8000_0001, INVALID_PARAM),
        (0x8FFF_FFFF, INVALID_PARAM),
        (0x9000_0000, NOT_SUPPORTED),
        (0xFFFF_FFFF, NOT_SUPPORTED),
    ],
)
def test_other_suspend_types_are_refused(firmware, kind, error):
    assert firmware.call(HSM, 3, kind, RAM, 0) == (error, 0)
    assert not firmware.harts[0].waiting


# -- SRST -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "reason", "request_made"),
    [
        (0, 0, "power-off 0"),
        (0, 1, "power-off 1"),
        (1, 0, "reset"),
        (2, 0, "reset"),
        (2, 1, "reset"),
        (1 << 32, 0, "power-off 0"),
    ],
)
def test_system_reset_asks_for_what_it_says(firmware, kind, reason, request_made):
    assert firmware.call(SRST, 0, kind, reason) == (SUCCESS, 0)
    assert firmware.control.requests == [request_made]


@pytest.mark.parametrize(
    ("kind", "reason"), [(3, 0), (0xFFFF_FFFF, 0), (0, 2), (1, 0xE000_0000), (0, 0xFFFF_FFFF)]
)
def test_reserved_reset_is_refused(firmware, kind, reason):
    assert firmware.call(SRST, 0, kind, reason) == (INVALID_PARAM, 0)
    assert firmware.control.requests == []


# -- DBCN and the legacy console --------------------------------------------------------------


def test_console_write_prints_memory(firmware):
    firmware.memory.write(RAM + 0x100, b"hello\n")

    assert firmware.call(DBCN, 0, 6, RAM + 0x100, 0) == (SUCCESS, 6)
    assert firmware.console.output == b"hello\n"


def test_huge_console_write_is_done_in_part(firmware):
    error, written = firmware.call(DBCN, 0, RAM_SIZE, RAM, 0)

    assert error == SUCCESS
    assert 0 < written == len(firmware.console.output) < RAM_SIZE


BAD_RANGES = [
    (1, RAM - 1, 0),
    (2, RAM + RAM_SIZE - 1, 0),
    (RAM_SIZE + 1, RAM, 0),
    (ALL_ONES, RAM, 0),
    (16, ALL_ONES - 7, 0),
    (16, RAM, 1),
    (16, 0x1000_0000, 0),
]


@pytest.mark.parametrize("function", [0, 1])
@pytest.mark.parametrize(("length", "low", "high"), BAD_RANGES)
def test_console_range_outside_ram_is_invalid(firmware, function, length, low, high):
    firmware.console.waiting = b"typed"

    assert firmware.call(DBCN, function, length, low, high) == (INVALID_PARAM, 0)
    assert firmware.console.output == b""
    assert firmware.console.waiting == b"typed"


def test_console_read_takes_what_waits(firmware):
    firmware.console.waiting = b"typed"

    first = firmware.call(DBCN, 1, 3, RAM, 0)
    second = firmware.call(DBCN, 1, 100, RAM + 3, 0)
    third = firmware.call(DBCN, 1, 100, RAM, 0)

    assert (first, second, third) == ((SUCCESS, 3), (SUCCESS, 2), (SUCCESS, 0))
    assert firmware.memory.read(RAM, 8) == b"typed\0\0\0"


def test_nothing_is_written_or_read_by_a_length_of_zero(firmware):
    firmware.console.waiting = b"typed"

    assert firmware.call(DBCN, 0, 0, RAM, 0) == (SUCCESS, 0)
    assert firmware.call(DBCN, 1, 0, RAM, 0) == (SUCCESS, 0)
    assert firmware.console.waiting == b"typed"


def test_console_write_byte_prints_the_low_byte(firmware):
    assert firmware.call(DBCN, 2, 0x1234_5641) == (SUCCESS, 0)
    assert firmware.console.output == b"A"


def test_legacy_console_prints_and_reads_and_keeps_a1(firmware):
    firmware.console.waiting = b"\xff"

    printed = firmware.call(1, 0, ord("z"), 55)
    byte = firmware.call(2, 0, 0, 55)
    nothing = firmware.call(2, 0, 0, 55)

    assert (printed, byte, nothing) == ((0, 55), (0xFF, 55), (-1, 55))
    assert firmware.console.output == b"z"


# -- the other legacy calls -------------------------------------------------------------------


def test_legacy_ipi_takes_its_mask_from_memory_or_means_all(firmware):
    firmware.start_all()
    firmware.memory.write(RAM + 0x80, (0b0110).to_bytes(8, "little"))

    masked = firmware.call(4, 0, RAM + 0x80)[0]
    some = firmware.pending(SSIP)
    everyone = firmware.call(4, 0, 0)[0]

    assert (masked, some) == (0, [1, 2])
    assert (everyone, firmware.pending(SSIP)) == (0, [0, 1, 2, 3])


def test_legacy_ipi_takes_its_mask_from_data_that_cannot_be_executed(firmware):
    firmware.start_all()
    root, readable, gigabyte = RAM + 0x1000, 0x43, RAM >> 30
    entry = RAM >> 12 << 10 | readable
    firmware.memory.write(root + 8 * gigabyte, entry.to_bytes(8, "little"))
    firmware.memory.write(RAM + 0x80, (0b0110).to_bytes(8, "little"))
    firmware.harts[0].registers["satp"] = 8 << 60 | root >> 12

    assert firmware.call(4, 0, RAM + 0x80)[0] == 0
    assert firmware.pending(SSIP) == [1, 2]


def test_legacy_clear_ipi_clears_the_callers(firmware):
    firmware.start_all()
    firmware.call(4, 0, 0)

    assert firmware.call(3, 0, hart=1)[0] == 0
    assert firmware.pending(SSIP) == [0, 2, 3]


@pytest.mark.parametrize("extension", [4, 5, 6, 7])
@pytest.mark.parametrize("address", [0x40, ALL_ONES, RAM + RAM_SIZE - 4])
def test_legacy_mask_that_cannot_be_read_is_refused(firmware, extension, address):
    assert firmware.call(extension, 0, address)[0] == INVALID_ADDRESS


@pytest.mark.parametrize("extension", [5, 6, 7])
def test_legacy_fences_are_done(firmware, extension):
    assert firmware.call(extension, 0, 0)[0] == 0


def test_legacy_shutdown_powers_off(firmware):
    firmware.call(8)

    assert firmware.control.requests == ["power-off 0"]
