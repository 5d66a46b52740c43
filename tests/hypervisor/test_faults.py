"""Faults in a machine: which occasions they take, what they do there, and that they repeat."""

from __future__ import annotations

import pytest

from hypervisor import state
from hypervisor.config.faults import (
    DelayedInterrupt,
    DiskDelay,
    DiskError,
    LostInterrupt,
    LostPacket,
    RegisterFault,
    SpuriousInterrupt,
)
from hypervisor.device import RequestFault
from hypervisor.events import FaultInjected, InterruptChange, MmioAccess
from hypervisor.faults import FaultError
from hypervisor.machine import Machine

FOREVER = "1: addi s0, s0, 1\n j 1b"
MORE = """
  disk0: {type: virtio.blk, at: 0x1000_1000, irq: plic.1, file: disk.img, overlay: discard}
  net0: {type: virtio.net, at: 0x1000_2000, irq: plic.2, backend: none}
  rtc: {type: goldfish.rtc, at: 0x1010_0000, irq: plic.11}
"""
MS = 1_000_000
LSR = 5
PLIC_DISK = 1 << 1

COUNT_STATUS = """
    li s1, 0x10000000
    li s2, 0
    li s3, 20
1:  lbu a0, 5(s1)
    bnez a0, 2f
    addi s2, s2, 1
2:  addi s3, s3, -1
    bnez s3, 1b
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
3:  j 3b
"""
"""Reads LSR 20 times; s2 is how often it was zero."""


@pytest.fixture
def make(workshop):
    """Builds a machine with a disk, a network interface and a clock, whose guest does nothing."""
    (workshop.folder / "disk.img").write_bytes(bytes(1 << 20))

    def build(source=FOREVER, extra=""):
        return workshop.build(source, devices=MORE, extra=extra)

    return build


@pytest.fixture
def machine(make) -> Machine:
    return make()


def pass_time(machine: Machine, nanoseconds: int) -> None:
    """Let idle time pass, with all that falls due in it."""
    end = machine.clock.now() + nanoseconds
    while (due := machine.clock.next_deadline()) is not None and due <= end:
        machine.clock.pass_idle(due)
        machine.clock.run_due()
    machine.clock.pass_idle(end)


def read(machine: Machine, device: str, offset: int, size: int) -> int:
    window = next(w for w in machine.bus.windows if w.device.name == device)
    return window.read(offset, size)


def pulses(machine: Machine, device: str, count: int) -> list[bool]:
    """Raise and lower a device's interrupt; whether its controller saw it, each time."""
    source = machine.description.devices[device].interrupt.number
    seen = []
    for _ in range(count):
        machine.devices[device].irq.set(True)
        seen.append(bool(machine.devices["plic"].high >> source & 1))
        machine.devices[device].irq.set(False)
    return seen


# -- which occasions --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "lost"),
    [
        ({}, [1]),
        ({"nth": 3}, [3]),
        ({"nth": 3, "count": 2}, [3, 4]),
        ({"count": "all"}, [1, 2, 3, 4, 5]),
        ({"nth": 4, "count": "all"}, [4, 5]),
        ({"nth": 9}, []),
        ({"at": MS}, []),
    ],
)
def test_an_occasion_is_chosen_by_its_number(machine, when, lost):
    machine.faults.add(LostInterrupt(device="disk0", **when))

    seen = pulses(machine, "disk0", 5)

    assert [number for number, got in enumerate(seen, 1) if not got] == lost


def test_occasions_before_the_time_are_not_counted(machine):
    machine.faults.add(LostInterrupt(device="disk0", at=MS, nth=2))

    before = pulses(machine, "disk0", 3)
    pass_time(machine, MS)

    assert (before, pulses(machine, "disk0", 3)) == ([True] * 3, [True, False, True])


def test_a_probability_takes_about_its_share(machine):
    injection = machine.faults.add(LostInterrupt(device="disk0", probability=0.25))

    seen = pulses(machine, "disk0", 2000)

    assert seen.count(False) == injection.taken
    assert 400 < injection.taken < 600


def test_seeds_choose_other_occasions(machine, make):
    chosen = []
    for seed in (0, 0, 1):
        machine.faults.clear()
        machine.faults.add(LostInterrupt(device="disk0", probability=0.5, seed=seed))
        chosen.append(tuple(pulses(machine, "disk0", 64)))

    assert chosen[0] == chosen[1] != chosen[2]


def test_another_device_s_interrupt_is_no_occasion(machine):
    injection = machine.faults.add(LostInterrupt(device="disk0"))

    assert pulses(machine, "rtc", 3) == [True] * 3
    assert injection.seen == 0


# -- interrupts -------------------------------------------------------------------------------


def test_a_lost_interrupt_stays_lost_while_its_line_is_high(machine):
    machine.faults.add(LostInterrupt(device="disk0"))
    line, plic = machine.devices["disk0"].irq, machine.devices["plic"]

    line.set(True)
    pass_time(machine, 1000 * MS)
    lost = plic.pending
    line.set(False)
    line.set(True)

    assert (lost, plic.pending) == (0, PLIC_DISK)


def test_a_delayed_interrupt_comes_later(machine):
    machine.faults.add(DelayedInterrupt(device="disk0", delay=2 * MS))
    plic = machine.devices["plic"]
    machine.devices["disk0"].irq.set(True)

    pass_time(machine, 2 * MS - 1)
    before = plic.pending
    pass_time(machine, 1)

    assert (before, plic.pending) == (0, PLIC_DISK)


def test_a_delayed_interrupt_that_falls_before_is_not_seen(machine):
    machine.faults.add(DelayedInterrupt(device="disk0", delay=2 * MS))
    line, plic = machine.devices["disk0"].irq, machine.devices["plic"]

    line.set(True)
    pass_time(machine, MS)
    line.set(False)
    pass_time(machine, 10 * MS)

    assert (plic.high, plic.pending) == (0, 0)
    assert pulses(machine, "disk0", 1) == [True]


def test_a_spurious_interrupt_rises_at_its_time_and_falls(machine):
    machine.faults.add(SpuriousInterrupt(device="disk0", at=5 * MS, width=MS))
    plic = machine.devices["plic"]
    levels = []

    for _ in range(4):
        levels.append(plic.high)
        pass_time(machine, 2 * MS + MS // 2)

    assert levels == [0, 0, PLIC_DISK, 0]
    assert plic.pending == PLIC_DISK
    assert not machine.devices["disk0"].irq.level


def test_spurious_interrupts_repeat(machine):
    machine.faults.add(SpuriousInterrupt(device="disk0", at=MS, every=10 * MS, nth=2, count=3))
    seen = []
    machine.events.subscribe(FaultInjected, seen.append)

    pass_time(machine, 1000 * MS)

    assert [event.time for event in seen] == [11 * MS, 21 * MS, 31 * MS]
    assert machine.clock.next_deadline() is None


def test_a_spurious_interrupt_leaves_a_high_line_high(machine):
    machine.faults.add(SpuriousInterrupt(device="disk0", at=MS))
    machine.devices["disk0"].irq.set(True)

    pass_time(machine, 10 * MS)

    assert machine.devices["plic"].high == PLIC_DISK


def test_faults_of_one_line_act_one_behind_the_other(machine):
    machine.faults.add(DelayedInterrupt(device="disk0", delay=MS, count="all"))
    machine.faults.add(LostInterrupt(device="disk0", nth=2))
    line, plic = machine.devices["disk0"].irq, machine.devices["plic"]
    seen = []

    for _ in range(3):
        line.set(True)
        pass_time(machine, MS)
        seen.append(bool(plic.high))
        line.set(False)

    assert seen == [True, False, True]


def test_a_fault_added_under_a_high_line_leaves_it(machine):
    line, plic = machine.devices["disk0"].irq, machine.devices["plic"]
    line.set(True)

    machine.faults.add(LostInterrupt(device="disk0"))
    held = plic.high
    line.set(False)

    assert (held, plic.high) == (PLIC_DISK, 0)


def test_cleared_faults_let_lost_interrupts_through(machine):
    machine.faults.add(LostInterrupt(device="disk0", count="all"))
    machine.devices["disk0"].irq.set(True)

    machine.faults.clear()

    assert machine.devices["plic"].pending == PLIC_DISK


# -- registers --------------------------------------------------------------------------------


def test_a_register_reads_the_given_value_once(machine):
    machine.faults.add(RegisterFault(device="uart0", name="LSR", value=0x9F, nth=2))

    assert [read(machine, "uart0", LSR, 1) for _ in range(3)] == [0x60, 0x9F, 0x60]


def test_a_mask_chooses_bits(machine):
    machine.faults.add(RegisterFault(device="uart0", name="LSR", value=0x01, mask=0x21))

    assert read(machine, "uart0", LSR, 1) == 0x41


def test_a_wide_access_sees_the_register_s_bytes(machine):
    machine.faults.add(RegisterFault(device="rtc", name="TIME_HIGH", value=0xAABB_CCDD))

    low = machine.devices["rtc"].read(0, 4)

    assert read(machine, "rtc", 0, 8) == 0xAABB_CCDD << 32 | low


def test_a_narrow_access_sees_its_part_of_the_register(machine):
    machine.faults.add(
        RegisterFault(device="rtc", name="TIME_HIGH", value=0xAABB_CCDD, count="all")
    )

    assert [read(machine, "rtc", 4 + byte, 1) for byte in range(4)] == [0xDD, 0xCC, 0xBB, 0xAA]


def test_one_of_an_array_of_registers_can_be_meant(machine):
    machine.faults.add(RegisterFault(device="plic", name="PRIORITY[2]", value=7, count="all"))

    assert [read(machine, "plic", 4 * number, 4) for number in (1, 2, 3)] == [0, 7, 0]


def test_another_bank_at_the_same_offset_is_no_occasion(machine):
    machine.faults.add(RegisterFault(device="uart0", name="IER", value=0x0F, count="all"))
    uart = machine.devices["uart0"]

    plain = read(machine, "uart0", 1, 1)
    uart.write(3, 1, 0x80)

    assert (plain, read(machine, "uart0", 1, 1)) == (0x0F, 0)


def test_a_watcher_sees_what_the_guest_reads(machine):
    seen = []
    machine.events.subscribe(MmioAccess, seen.append)
    machine.faults.add(RegisterFault(device="uart0", name="LSR", value=0))

    read(machine, "uart0", LSR, 1)

    assert [(event.register, event.value) for event in seen] == [("LSR", 0)]


def test_without_faults_a_window_goes_straight_to_its_device(machine):
    window = next(w for w in machine.bus.windows if w.device.name == "uart0")
    machine.faults.add(RegisterFault(device="uart0", name="LSR", value=0))
    machine.faults.clear()

    assert window.read == window.device.read


def test_the_guest_reads_it(make):
    fault = "{kind: register, device: uart0, name: LSR, value: 0, nth: 4, count: 3}"
    machine = make(COUNT_STATUS, extra=f"faults: [{fault}]")

    machine.run(timeout=10)

    assert machine.cpu[0].registers["s2"] == 3


# -- requests and packets ---------------------------------------------------------------------


def test_requests_fail_or_take_longer_by_operation_and_sector(machine):
    machine.faults.add(DiskError(device="disk0", operation="write", count="all"))
    machine.faults.add(DiskDelay(device="disk0", sector=8, sectors=8, delay=MS, count="all"))
    ask = machine.devices["disk0"].request_fault

    assert ask("read", 0, 4096) is None
    assert ask("read", 4096, 512) == ask("read", 0, 4608) == RequestFault(MS)
    assert ask("read", 8192, 512) is None
    assert ask("flush", 4096, 0) is None
    failed = ask("write", 4096, 512)
    assert failed is not None
    assert failed.delay == MS
    assert failed.error == "faults.0: a write of 512 bytes at sector 8 of disk0 fails"


def test_delays_of_one_request_add_up(machine):
    machine.faults.add(DiskDelay(device="disk0", delay=MS))
    machine.faults.add(DiskDelay(device="disk0", delay=2 * MS))

    assert machine.devices["disk0"].request_fault("flush", 0, 0) == RequestFault(3 * MS)


@pytest.mark.parametrize(
    ("direction", "lost"),
    [("any", [True, True]), ("sent", [True, False]), ("received", [False, True])],
)
def test_packets_are_lost_by_direction(machine, direction, lost):
    machine.faults.add(LostPacket(device="net0", direction=direction, count="all"))
    loses = machine.devices["net0"].packet_fault

    assert [loses("sent", 60), loses("received", 60)] == lost


def test_devices_have_no_hook_without_a_fault(machine):
    machine.faults.add(LostPacket(device="net0"))
    machine.faults.add(DiskError(device="disk0"))
    machine.faults.clear()

    assert machine.devices["net0"].packet_fault is None
    assert machine.devices["disk0"].request_fault is None


# -- what is said -----------------------------------------------------------------------------


def test_events_say_what_happened_after_the_line_rose(machine):
    seen = []
    for kind in (InterruptChange, FaultInjected):
        machine.events.subscribe(kind, seen.append)
    machine.faults.add(LostInterrupt(device="disk0"))

    machine.devices["disk0"].irq.set(True)

    assert [str(event) for event in seen] == [
        *("irq disk0 raised", "fault faults.0: the interrupt of disk0 was lost")
    ]


def test_the_user_is_told_of_a_fault_once(machine):
    machine.faults.add(LostInterrupt(device="disk0", count="all"))

    pulses(machine, "disk0", 3)

    assert machine.messages == ["faults.0: the interrupt of disk0 was lost at 0.000000 s"]


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (LostInterrupt(device="disk1"), "no device named 'disk1'"),
        (
            LostInterrupt(device="finisher"),
            "device: 'finisher' has no interrupt (irq), which interrupt.lost is about",
        ),
        (
            RegisterFault(device="rtc", name="LSR", value=0),
            "name: goldfish.rtc has no register 'LSR'; valid are ",
        ),
    ],
)
def test_a_fault_that_cannot_be_is_refused(machine, fault, sentence):
    with pytest.raises(FaultError) as caught:
        machine.faults.add(fault)

    assert str(caught.value).startswith(sentence)
    assert machine.faults.injections == []


# -- snapshots and repetition -----------------------------------------------------------------

ALL = """faults:
- {kind: interrupt.lost, device: disk0, nth: 2, count: all}
- {kind: interrupt.delayed, device: rtc, delay: 2ms}
- {kind: interrupt.spurious, device: net0, at: 1ms, width: 5ms, every: 10ms}
- {kind: register, device: uart0, name: LSR, value: 0, probability: 0.5, seed: 3}
"""


def stir(machine: Machine) -> None:
    """Bring every fault amid of what it does."""
    pulses(machine, "disk0", 1)
    machine.devices["disk0"].irq.set(True)
    machine.devices["rtc"].irq.set(True)
    pass_time(machine, MS)


def look(machine: Machine) -> list[object]:
    """What the guest could see from here on."""
    plic = machine.devices["plic"]
    seen: list[object] = []
    for _ in range(5):
        seen.append((plic.high, plic.pending, read(machine, "uart0", LSR, 1)))
        pass_time(machine, MS)
    return seen


@pytest.fixture
def stirred(make) -> Machine:
    machine = make(extra=ALL)
    stir(machine)
    return machine


def test_a_snapshot_carries_faults_amid_of_their_work(stirred, make):
    snapshot = stirred.snapshot()
    other = make(extra=ALL)

    other.restore(snapshot)

    assert other.state_sha256() == stirred.state_sha256()
    assert look(other) == look(stirred)
    assert pulses(other, "disk0", 2) == pulses(stirred, "disk0", 2) == [False, False]
    assert pulses(other, "rtc", 1) == [True]


def test_a_snapshot_undoes_what_came_after_it(stirred):
    snapshot, before = stirred.snapshot(), stirred.state_sha256()
    first = look(stirred)
    for name in ("disk0", "rtc", "net0"):
        pulses(stirred, name, 3)

    stirred.restore(snapshot)

    assert stirred.state_sha256() == before
    assert look(stirred) == first


def test_a_snapshot_carries_added_faults(machine, make):
    machine.faults.add(LostInterrupt(device="disk0", nth=2))
    pulses(machine, "disk0", 1)
    snapshot = machine.snapshot()
    other = make()

    other.restore(snapshot)

    assert pulses(other, "disk0", 2) == [False, True]


def test_a_snapshot_from_before_a_fault_takes_it_away(machine):
    snapshot = machine.snapshot()
    machine.faults.add(LostInterrupt(device="disk0"))

    machine.restore(snapshot)

    assert pulses(machine, "disk0", 1) == [True]


def test_faults_may_follow_a_snapshot(machine):
    machine.restore(machine.snapshot())

    machine.faults.add(LostInterrupt(device="disk0"))

    assert pulses(machine, "disk0", 1) == [False]


@pytest.mark.parametrize(
    "damage",
    [
        {"fault": {"kind": "nothing", "device": "disk0"}},
        {"fault": {"kind": "interrupt.lost", "device": "disk9"}},
        {"fault": {"kind": "packet.lost", "device": "disk0"}},
        {"fault": {"kind": "interrupt.lost", "device": "disk0", "nth": 0}},
        {"fault": {}},
        {"fault": 7},
        {"seen": -1},
        {"taken": "x"},
    ],
)
def test_a_damaged_state_is_refused_before_anything_changes(stirred, damage):
    saved = state.save(stirred)
    before = stirred.state_sha256()
    saved["faults"][0] |= damage

    with pytest.raises((ValueError, KeyError, TypeError)):
        state.check(stirred, saved)

    assert stirred.state_sha256() == before


def test_a_reset_lowers_what_a_fault_holds(stirred):
    stirred.reset()

    assert stirred.devices["plic"].high == 1 << 2  # the spurious one, until its time is over


def test_runs_with_faults_repeat(make):
    fault = "{kind: register, device: uart0, name: LSR, value: 0, probability: 0.3}"
    digests = set()
    for _ in range(2):
        machine = make(COUNT_STATUS, extra=f"faults: [{fault}]")
        machine.run(timeout=10)
        digests.add((machine.state_sha256(), machine.cpu[0].registers["s2"]))

    assert len(digests) == 1
    assert 0 < digests.pop()[1] < 20
