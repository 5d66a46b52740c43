"""The device test kit: names, fields, time, wires, host work and snapshots."""

import pytest

from hypervisor.config import load_text
from hypervisor.device import Device, Register
from hypervisor.device.testing import MILLISECOND, Kit, KitError


class Pump(Device):
    """A pump that fills a tank by asking the host, and interrupts when it is full."""

    type = "pump"
    CONTROL = Register(0x0, writable=0x31, fields={"RUN": 0, "SPEED": (5, 4)})
    STATUS = Register(0x4, writable=0, w1c=1, fields={"FULL": 0})
    LEVEL = Register(0x10, count=3, access="ro")
    SECRET = Register(0x20, size=1, access="wo", bank=0)
    OPEN = Register(0x20, size=1, bank=1)

    def __init__(self, name, options, board):
        super().__init__(name, options, board)
        self.full = self.timer("full", self._fill)

    @CONTROL.on_write
    def _control_written(self, value):
        if self.CONTROL & 1:
            self.full.arm(self.clock.now() + 5 * MILLISECOND)

    @STATUS.on_write
    def _status_written(self, value):
        self.irq.set(bool(self.STATUS))

    def _fill(self):
        now = self.clock.now()
        self.board.host.submit(self, lambda: 7, now + MILLISECOND, self._filled)

    def _filled(self, result):
        self.values["LEVEL"][2] = result
        self.memory.write(0x8000_0000, bytes([result]))
        self.STATUS = 1
        self.irq.set(True)


@pytest.fixture
def kit():
    with Kit() as kit:
        kit.add("plic", "riscv.plic", at=0x0C00_0000)
        kit.add("pump0", Pump, at=0x1000_0000, irq="plic.3")
        yield kit


def test_register_is_written_and_read_by_name(kit):
    kit.write("pump0.CONTROL", 0x20)

    assert kit.read("pump0.CONTROL") == 0x20


def test_field_is_written_and_the_others_kept(kit):
    kit.write("pump0.CONTROL", 0x10)

    kit.write("pump0.CONTROL.SPEED", 3)

    assert (kit.read("pump0.CONTROL.SPEED"), kit.read("pump0.CONTROL")) == (3, 0x30)


def test_writing_a_field_does_not_clear_bits_beside_it(kit):
    kit.devices["pump0"].STATUS = 1

    kit.write("pump0.STATUS.FULL", 0)

    assert kit.read("pump0.STATUS.FULL") == 1


def test_interrupt_comes_when_the_hosts_work_is_done(kit):
    kit.write("pump0.CONTROL.RUN", 1)

    took = kit.await_interrupt("pump0", within=20 * MILLISECOND)

    assert took == 6 * MILLISECOND
    assert kit.read("pump0.LEVEL[2]") == 7
    assert kit.memory.read(0x8000_0000, 1) == b"\x07"
    assert kit.interrupts("pump0") == [(6 * MILLISECOND, True)]


def test_line_reaches_the_hart_through_the_controller(kit):
    kit.write("plic.PRIORITY[3]", 1)
    kit.write("plic.ENABLE[0]", 1 << 3)
    kit.write("pump0.CONTROL.RUN", 1)

    kit.advance(6 * MILLISECOND)

    assert kit.hart_line(0, 11)
    assert kit.read("plic.CLAIM[0]") == 3


def test_interrupt_that_does_not_come_is_said(kit):
    with pytest.raises(AssertionError, match="pump0 did not interrupt within 1000 ns"):
        kit.await_interrupt("pump0", within=1000)


def test_settle_waits_for_the_host(kit):
    kit.write("pump0.CONTROL.RUN", 1)
    kit.advance(5 * MILLISECOND)
    assert kit.host.pending == 1

    kit.settle()

    assert (kit.host.pending, kit.level("pump0")) == (0, True)


def test_acknowledging_lowers_the_line(kit):
    kit.write("pump0.CONTROL.RUN", 1)
    kit.await_interrupt("pump0", within=20 * MILLISECOND)
    kit.forget("pump0")

    kit.write("pump0.STATUS", 1)

    assert kit.interrupts("pump0") == [(6 * MILLISECOND, False)]


def test_addresses_reach_devices_and_memory(kit):
    kit.store(0x1000_0000, 0x10)
    kit.store(0x8000_0100, 0x1234, size=2)

    assert kit.load(0x1000_0000) == 0x10
    assert kit.load(0x8000_0100, 2) == 0x1234


def test_snapshot_goes_on_in_another_kit(kit):
    kit.write("pump0.CONTROL.RUN", 1)
    saved = kit.snapshot()
    with Kit() as other:
        other.add("plic", "riscv.plic", at=0x0C00_0000)
        other.add("pump0", Pump, at=0x1000_0000, irq="plic.3")
        other.restore(saved)

        other.await_interrupt("pump0", within=20 * MILLISECOND)

        assert other.read("pump0.LEVEL[2]") == 7


def test_devices_of_a_description_are_built(kit):
    text = (
        "machine: board\ncpu: {arch: riscv64}\nmemory: {ram: {at: 0x80000000, size: 1M}}\n"
        "boot: {entry: 0x80000000}\ndevices:\n"
        "  uart0: {type: ns16550a, at: 0x10000000, irq: plic.10, backend: stdio}\n"
        "  plic: {type: riscv.plic, at: 0x0c000000}\n"
    )
    with Kit() as other:
        other.add_all(load_text(text, "board.yaml").devices.values())
        other.write("uart0.THR", 65)

        assert other.console.output == b"A"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pump0", "'pump0' is not DEVICE.REGISTER"),
        ("pump1.CONTROL", "no device 'pump1'; there is: plic, pump0"),
        ("pump0.CTRL", "pump has no register 'CTRL'; it has CONTROL, STATUS"),
        ("pump0.CONTROL.FAST", "pump0.CONTROL has no field 'FAST'; it has RUN, SPEED"),
        ("pump0.LEVEL[3]", "pump0.LEVEL has 3, from 0"),
        ("pump0.STATUS[0]", "pump0.STATUS is no array"),
        ("pump0.OPEN", "pump0.OPEN cannot be read now: at its offset is SECRET"),
    ],
)
def test_wrong_name_is_a_sentence(kit, name, sentence):
    with pytest.raises(KitError) as caught:
        kit.read(name)

    assert sentence in str(caught.value)


def test_value_that_does_not_fit_is_refused(kit):
    with pytest.raises(KitError, match=r"0x4 does not fit into pump0.CONTROL.SPEED"):
        kit.write("pump0.CONTROL.SPEED", 4)


def test_name_taken_twice_is_refused(kit):
    with pytest.raises(KitError, match="already is a device 'pump0'"):
        kit.add("pump0", Pump)


def test_unknown_type_is_refused(kit):
    with pytest.raises(KitError, match="no device type 'ns16550'; there are arm"):
        kit.add("uart0", "ns16550")
