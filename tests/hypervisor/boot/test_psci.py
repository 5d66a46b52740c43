"""Every call of the built-in firmware, by PSCI 1.0 and SMCCC 1.1, on cores of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.boot.psci import (
    AFFINITY_INFO,
    CPU_OFF,
    CPU_ON,
    CPU_SUSPEND,
    MIGRATE_INFO_TYPE,
    PSCI_FEATURES,
    PSCI_VERSION,
    SMCCC_ARCH_FEATURES,
    SMCCC_VERSION,
    SYSTEM_OFF,
    SYSTEM_RESET,
    WIDE,
    Psci,
)
from hypervisor.device.testing import BenchControl, BenchMemory

RAM, RAM_SIZE = 0x4000_0000, 1 << 20
SUCCESS, NOT_SUPPORTED, INVALID_PARAMETERS, ALREADY_ON, INVALID_ADDRESS = 0, -1, -2, -4, -9
ALL_ONES = (1 << 64) - 1
JUNK = 0xDEAD_BEEF_0000_0000


class FakeCore:
    def __init__(self, index):
        self.index = index
        self.stopped = index != 0
        self.waiting = False
        self.registers = {f"x{number}": 0x1111 * number for number in range(31)}
        self.started = []
        self.watches_code = False

    def watch_code(self):
        self.watches_code = True

    def stop(self):
        self.stopped = True

    def begin(self, pc, x0):
        self.started.append((pc, x0))
        self.stopped = False


class Firmware:
    """Four cores, the first of them started, and the firmware beneath them."""

    def __init__(self):
        self.memory = BenchMemory(RAM, RAM_SIZE)
        self.cores = [FakeCore(index) for index in range(4)]
        self.control = BenchControl()
        self.psci = Psci(self.cores, self.memory, self.control)

    def call(self, function, *arguments, core=0):
        """x0 after the call, as a signed number."""
        registers = self.cores[core].registers
        registers["x0"] = function
        for number, value in enumerate(arguments, 1):
            registers[f"x{number}"] = value
        self.psci.call(self.cores[core])
        value = registers["x0"]
        return value - (1 << 64) if value >> 63 else value


@pytest.fixture
def firmware():
    return Firmware()


# -- the calling convention -------------------------------------------------------------------


def test_call_changes_x0_alone(firmware):
    before = dict(firmware.cores[0].registers)

    firmware.call(PSCI_VERSION)

    after = firmware.cores[0].registers
    assert {name for name in before if after[name] != before[name]} == {"x0"}


@pytest.mark.parametrize(
    "function",
    [
        *(0, 1, 0x8000_7FFF, 0x8000_8000, 0x8400_0005, 0x8400_0007, 0x8400_000B, 0x8400_0012),
        *(PSCI_VERSION | WIDE, CPU_OFF | WIDE, SYSTEM_OFF | WIDE, 0x8600_0000, 0xFFFF_FFFF),
    ],
)
def test_unknown_function_is_not_supported(firmware, function):
    assert firmware.call(function) == NOT_SUPPORTED
    assert firmware.control.requests == []


def test_function_is_the_lower_half_of_its_register(firmware):
    assert firmware.call(JUNK | PSCI_VERSION) == 1 << 16


def test_narrow_call_takes_the_lower_halves_of_its_arguments(firmware):
    answer = firmware.call(CPU_ON, JUNK | 2, JUNK | RAM, JUNK | 77)

    assert answer == SUCCESS
    assert firmware.cores[2].started == [(RAM, 77)]


def test_wide_call_takes_whole_arguments(firmware):
    assert firmware.call(CPU_ON | WIDE, JUNK | 2, RAM, 0) == INVALID_PARAMETERS
    assert firmware.call(CPU_ON | WIDE, 2, JUNK | RAM, 0) == INVALID_ADDRESS
    assert firmware.call(CPU_ON | WIDE, 2, RAM, ALL_ONES) == SUCCESS
    assert firmware.cores[2].started == [(RAM, ALL_ONES)]


def test_calls_are_counted_by_function(firmware):
    firmware.call(CPU_ON, 1, RAM, 0)
    firmware.call(CPU_ON | WIDE, 2, RAM, 0)
    firmware.call(PSCI_VERSION | WIDE)
    firmware.call(0x8400_0012)

    assert firmware.psci.calls == {"cpu_on": 2, "unknown": 2}


def test_counts_are_saved_and_loaded(firmware):
    firmware.call(PSCI_VERSION)
    other = Firmware()

    other.psci.load(firmware.psci.save())
    other.call(PSCI_VERSION)

    assert other.psci.calls == {"psci_version": 2}
    assert firmware.psci.calls == {"psci_version": 1}


@given(st.integers(0, ALL_ONES), st.lists(st.integers(0, ALL_ONES), min_size=3, max_size=3))
def test_random_call_answers_and_starts_no_core_outside_ram(function, arguments):
    firmware = Firmware()

    firmware.call(function, *arguments)

    starts = [pc for core in firmware.cores for pc, _ in core.started]
    assert all(firmware.memory.contains(pc, 4) for pc in starts)


# -- what there is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "value"),
    [(PSCI_VERSION, 0x1_0000), (SMCCC_VERSION, 0x1_0001), (MIGRATE_INFO_TYPE, 2)],
)
def test_versions_are_told(firmware, function, value):
    assert firmware.call(function) == value


@pytest.mark.parametrize(
    "function",
    [
        *(PSCI_VERSION, PSCI_FEATURES, CPU_OFF, CPU_ON, CPU_ON | WIDE, CPU_SUSPEND),
        *(CPU_SUSPEND | WIDE, AFFINITY_INFO, AFFINITY_INFO | WIDE, MIGRATE_INFO_TYPE),
        *(SYSTEM_OFF, SYSTEM_RESET, SMCCC_VERSION),
    ],
)
def test_features_know_what_is_there(firmware, function):
    assert firmware.call(PSCI_FEATURES, function) == 0


@pytest.mark.parametrize(
    "function",
    [0x8400_0005, 0x8400_000E, 0x8400_0012, 0xC400_0012, CPU_OFF | WIDE, SMCCC_ARCH_FEATURES, 0],
)
def test_features_know_what_is_not_there(firmware, function):
    assert firmware.call(PSCI_FEATURES, function) == NOT_SUPPORTED


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (SMCCC_VERSION, SUCCESS),
        (SMCCC_ARCH_FEATURES, SUCCESS),
        (0x8000_8000, NOT_SUPPORTED),
        (0x8000_7FFF, NOT_SUPPORTED),
        (0x8000_3FFF, NOT_SUPPORTED),
        (PSCI_VERSION, NOT_SUPPORTED),
    ],
)
def test_architecture_features_are_the_conventions_own(firmware, function, answer):
    assert firmware.call(SMCCC_ARCH_FEATURES, function) == answer


# -- cores ------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [CPU_ON, CPU_ON | WIDE])
def test_core_starts_where_it_is_told_with_its_argument(firmware, call):
    assert firmware.call(call, 3, RAM + 0x100, 0xABCD) == SUCCESS

    assert [core.started for core in firmware.cores] == [[], [], [], [(RAM + 0x100, 0xABCD)]]


@pytest.mark.parametrize(
    ("core", "address", "error"),
    [
        (4, RAM, INVALID_PARAMETERS),
        (0x100, RAM, INVALID_PARAMETERS),
        (1 << 31, RAM, INVALID_PARAMETERS),
        (1 << 32, RAM, INVALID_PARAMETERS),
        (0, RAM, ALREADY_ON),
        (0, 0, ALREADY_ON),
        (1, 0, INVALID_ADDRESS),
        (1, RAM + 2, INVALID_ADDRESS),
        (1, RAM + RAM_SIZE, INVALID_ADDRESS),
        (1, ALL_ONES - 3, INVALID_ADDRESS),
        (1, 0x0900_0000, INVALID_ADDRESS),
    ],
)
def test_core_that_cannot_start_is_refused(firmware, core, address, error):
    assert firmware.call(CPU_ON | WIDE, core, address, 0) == error
    assert [each.stopped for each in firmware.cores] == [False, True, True, True]


def test_affinity_info_follows_on_and_off(firmware):
    before = firmware.call(AFFINITY_INFO, 1, 0)
    firmware.call(CPU_ON, 1, RAM, 0)
    started = firmware.call(AFFINITY_INFO | WIDE, 1, 0)
    firmware.call(CPU_OFF, core=1)
    stopped = firmware.call(AFFINITY_INFO, 1, 0)

    assert (before, started, stopped) == (1, 0, 1)


def test_core_that_went_off_starts_again(firmware):
    firmware.call(CPU_ON, 1, RAM, 1)
    again = firmware.call(CPU_ON, 1, RAM, 2)
    firmware.call(CPU_OFF, core=1)

    assert (again, firmware.call(CPU_ON, 1, RAM, 3)) == (ALREADY_ON, SUCCESS)
    assert firmware.cores[1].started == [(RAM, 1), (RAM, 3)]


def test_core_that_goes_off_gets_no_answer(firmware):
    firmware.call(CPU_ON, 1, RAM, 0)

    assert firmware.call(CPU_OFF, core=1) == CPU_OFF
    assert firmware.cores[1].stopped


@pytest.mark.parametrize(
    ("affinity", "level", "answer"),
    [
        (4, 0, INVALID_PARAMETERS),
        (0, 1, 0),
        (3, 3, 0),
        (0x100, 1, INVALID_PARAMETERS),
        (0x100, 2, 0),
        (0, 4, INVALID_PARAMETERS),
        (0, ALL_ONES, INVALID_PARAMETERS),
    ],
)
def test_affinity_info_of_levels(firmware, affinity, level, answer):
    assert firmware.call(AFFINITY_INFO | WIDE, affinity, level) == answer


def test_standby_waits_for_an_interrupt(firmware):
    assert firmware.call(CPU_SUSPEND, 0, 0, 0) == SUCCESS
    assert firmware.cores[0].waiting


@pytest.mark.parametrize("state", [1, 0x1_0000, 0x100_0000, 0x8000_0000])
@pytest.mark.parametrize("call", [CPU_SUSPEND, CPU_SUSPEND | WIDE])
def test_other_power_states_are_refused(firmware, call, state):
    assert firmware.call(call, state, RAM, 0) == INVALID_PARAMETERS
    assert not firmware.cores[0].waiting


# -- the system -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "request_made"), [(SYSTEM_OFF, "power-off 0"), (SYSTEM_RESET, "reset")]
)
def test_system_call_asks_for_what_it_says(firmware, function, request_made):
    firmware.call(function)

    assert firmware.control.requests == [request_made]
