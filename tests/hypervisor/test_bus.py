"""Guest accesses reach the right device with the right offset and size, once each."""

from __future__ import annotations

import pytest

from hypervisor.bus import Bus
from hypervisor.cpu.cells import NEVER, ClockCell
from hypervisor.device import BackendError, Device
from hypervisor.device.testing import Bench

WIDTHS = {
    "lbu": (1, "read"),
    "lhu": (2, "read"),
    "lwu": (4, "read"),
    "sb": (1, "write"),
    "sh": (2, "write"),
    "sw": (4, "write"),
}

OWN_DEVICES = """
from hypervisor.device import BackendError, Device


class Recorder(Device):
    '''Writes down every access; reads give the offset.'''

    type = "test.recorder"
    address_size = 0x1000

    def reset(self):
        super().reset()
        self.seen = []

    def read(self, offset, size):
        self.seen.append(("read", offset, size))
        return offset

    def write(self, offset, size, value):
        self.seen.append(("write", offset, size, value))


class Small(Recorder):
    type = "test.small"
    address_size = 0x10


class Interrupted(Recorder):
    type = "test.interrupted"

    def read(self, offset, size):
        raise KeyboardInterrupt


class Broken(Recorder):
    type = "test.broken"

    def read(self, offset, size):
        super().read(offset, size)
        raise KeyError("no such thing")

    def write(self, offset, size, value):
        super().write(offset, size, value)
        raise BackendError("the host's disk is full")
"""

RECORDER = 0x2000_0000
DEVICE = "\n  mine: {{type: './mine.py:{name}', at: 0x2000_0000}}\n"


@pytest.fixture
def run_with(workshop):
    """Run a guest in M-mode with one device of OWN_DEVICES at RECORDER, until it powers off."""
    (workshop.folder / "mine.py").write_text(OWN_DEVICES)

    def run(name, source, extra=""):
        program = f"li s0, {RECORDER}\n{source}\n li t0, 0x5555\n li t1, 0x100000\n sw t0, (t1)\n"
        return workshop.build(program + "1: j 1b", devices=DEVICE.format(name=name), extra=extra)

    return run


@pytest.mark.parametrize("instruction", WIDTHS)
def test_access_of_every_width_arrives_whole(run_with, instruction):
    machine = run_with("Recorder", f"li a1, 0x11223344\n {instruction} a1, 0x24(s0)")
    size, kind = WIDTHS[instruction]

    machine.run(timeout=10)

    (seen,) = machine.devices["mine"].seen
    assert seen[:3] == (kind, 0x24, size)
    assert seen[3:] == (0x11223344 & ((1 << 8 * size) - 1),) * (kind == "write")


def test_value_read_is_extended_as_the_load_says(run_with):
    machine = run_with("Recorder", "lb a1, 0xf4(s0)\n lbu a2, 0xf4(s0)\n lh a3, 0xf4(s0)")

    machine.run(timeout=10)

    registers = machine.cpu[0].registers
    assert [registers[name] for name in ("a1", "a2", "a3")] == [(1 << 64) - 12, 0xF4, 0xF4]


def test_eight_bytes_come_as_two_halves_low_first(run_with):
    machine = run_with("Recorder", "li a1, 0x1122334455667788\n sd a1, 8(s0)\n ld a2, 16(s0)")

    machine.run(timeout=10)

    assert machine.devices["mine"].seen == [
        ("write", 8, 4, 0x55667788),
        ("write", 12, 4, 0x11223344),
        ("read", 16, 4),
        ("read", 20, 4),
    ]
    assert machine.cpu[0].registers["a2"] == 20 << 32 | 16


def test_misaligned_accesses_come_as_bytes(run_with):
    machine = run_with("Recorder", "li a1, 0x11223344\n sw a1, 1(s0)\n lwu a2, 3(s0)")

    machine.run(timeout=10)

    seen = machine.devices["mine"].seen
    written = {offset: value for kind, offset, size, *rest in seen for value in rest}
    assert written == {1: 0x44, 2: 0x33, 3: 0x22, 4: 0x11}
    assert [entry[1:] for entry in seen if entry[0] == "read"] == [(0, 4), (4, 4)]


def test_atomic_instruction_reads_once_and_writes_once(run_with):
    machine = run_with("Recorder", "addi a0, s0, 0x40\n li a1, 2\n amoadd.w a2, a1, (a0)")

    machine.run(timeout=10)

    assert machine.devices["mine"].seen == [("read", 0x40, 4), ("write", 0x40, 4, 0x42)]
    assert machine.cpu[0].registers["a2"] == 0x40


def test_accesses_are_counted_by_device(run_with):
    machine = run_with("Recorder", "lw a1, (s0)\n lw a1, 4(s0)\n sw a1, 8(s0)")

    machine.run(timeout=10)

    mmio = machine.stats()["mmio"]
    assert mmio["mine"] == {"reads": 2, "writes": 1}
    assert mmio["finisher"] == {"reads": 0, "writes": 1}
    assert mmio["uart0"] == {"reads": 0, "writes": 0}


def test_page_beside_a_small_device_reads_zero_and_is_named_once(run_with):
    machine = run_with(
        "Small", "li a1, 5\n lw a1, 0x10(s0)\n sw a1, 0x20(s0)\n lw a2, 0x400(s0)\n lw a3, 12(s0)"
    )

    machine.run(timeout=10)

    registers = machine.cpu[0].registers
    assert [registers[name] for name in ("a1", "a2", "a3")] == [0, 0, 12]
    assert machine.devices["mine"].seen == [("read", 12, 4)]
    assert [message for message in machine.messages if "beside" in message] == [
        "access to 0x20000010, beside mine, where no device is"
    ]


def test_strict_machine_ends_where_no_device_is(run_with):
    machine = run_with("Small", "lw a1, 0x10(s0)", extra="strict: true")

    outcome = machine.run(timeout=10)

    assert (outcome.kind, outcome.code) == ("failed", 1)
    assert "0x20000010" in outcome.sentence


@pytest.mark.parametrize(
    ("instruction", "error"),
    [("sw a1, 8(s0)", BackendError), ("lw a1, 8(s0)", KeyError), ("sb a1, 8(s0)", BackendError)],
)
def test_what_a_device_raises_ends_the_run_after_one_access(run_with, instruction, error):
    machine = run_with("Broken", f"li s1, 0\n {instruction}\n addi s1, s1, 1\n j 2f\n2:")

    with pytest.raises(error):
        machine.run(timeout=10)

    assert len(machine.devices["mine"].seen) == 1
    assert machine.cpu[0].registers["s1"] == 1


def test_interrupt_key_during_an_access_is_not_lost(run_with):
    machine = run_with("Interrupted", "lw a1, 8(s0)")

    with pytest.raises(KeyboardInterrupt):
        machine.run(timeout=10)


def test_run_goes_on_after_a_device_raised(run_with):
    machine = run_with("Broken", "sw a1, 8(s0)")
    with pytest.raises(BackendError):
        machine.run(timeout=10)

    outcome = machine.run(timeout=10)

    assert outcome.kind == "power-off"
    assert len(machine.devices["mine"].seen) == 1


def test_first_of_two_failures_is_the_one_reported(run_with):
    machine = run_with("Broken", "lw a1, 8(s0)\n sw a1, 8(s0)")

    with pytest.raises(KeyError, match="no such thing"):
        machine.run(timeout=10)


def test_what_a_system_register_raises_is_kept_for_the_run_loop():
    cell = ClockCell(deadline=NEVER)
    bus = Bus(cell, print)
    error = BackendError("the host's disk is full")

    def fail(*_value):
        raise error

    registers = bus.guarded({(3, 0, 12, 12, 0): (fail, None), (3, 0, 12, 12, 1): (None, fail)})
    (load, no_store), (no_load, store) = registers.values()
    store(1)

    assert (load(), no_store, no_load) == (0, None, None)
    assert (bus.failure, cell.deadline) == (error, 0)


class Two(Device):
    """Bytes of its own name, at any offset."""

    type = "test.two"
    address_size = 0x10

    def read(self, offset, size):
        return offset | ord(self.name[0]) << 8

    def write(self, offset, size, value):
        self.last = (offset, value)


def test_two_devices_share_a_page(rig):
    bench = Bench()
    one, other = (bench.build(Two, name, at=0) for name in ("a", "b"))
    rig.bus.add(other, 0x2000_0108, 0x10)
    rig.bus.add(one, 0x2000_0100, 0x8)
    rig.connect()

    hart = rig.run("""
        li s0, 0x20000000
        lwu a1, 0x104(s0)
        lwu a2, 0x108(s0)
        lwu a3, 0x114(s0)
        sw a1, 0x10c(s0)
        lwu a4, 0x118(s0)
        wfi
    """)

    assert [hart.registers[f"a{n}"] for n in range(1, 5)] == [0x6104, 0x6200, 0x620C, 0]
    assert other.last == (4, 0x6104)
    assert rig.messages == ["access to 0x20000118, beside a, where no device is"]
