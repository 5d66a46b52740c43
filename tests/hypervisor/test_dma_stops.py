"""Watchpoints on memory that a device writes: where they stop, that they change no run, and the way
back to the write."""

from __future__ import annotations

import struct

import pytest

from hypervisor.history import History

DISK, RNG = 0x1000_1000, 0x1000_2000
RINGS, HEADER, BUFFER = 0x8004_0000, 0x8005_0000, 0x8006_0000
STATUS = BUFFER + 0x1000
READS, WRITES, NEXT = 0, 2, 1

GUEST = """
    li s0, 0
    li s1, 3000
    li s2, 1000
    li s3, {notify:#x}
    li s4, 0x80060000
1:  addi s0, s0, 1
    ld s5, (s4)
    bne s0, s2, 2f
    sw zero, (s3)
2:  bne s0, s1, 1b
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
9:  j 9b
"""
"""Has the device serve its queue in round 1000 of 3000."""

BUFFERS = {
    RNG: [(BUFFER, 64, WRITES)],
    DISK: [(HEADER, 16, READS | NEXT), (BUFFER, 512, WRITES | NEXT), (STATUS, 1, WRITES)],
}
"""Address, size and flags of the descriptors of a request for random bytes, and for sector 0."""


@pytest.fixture
def offering(workshop, tmp_path):
    """`offering(base)`: a machine whose device at `base` will be notified of a buffer."""
    (tmp_path / "disk.img").write_bytes(b"sector 0".ljust(512, b".") * 8)
    devices = (
        f"  disk0: {{type: virtio.blk, at: {DISK:#x}, irq: plic.1, file: disk.img, "
        "overlay: discard, latency: 5us}\n"
        f"  rng0: {{type: virtio.rng, at: {RNG:#x}, irq: plic.2, seed: 7}}\n"
    )

    def make(base):
        machine = workshop.build(GUEST.format(notify=base + 0x50), devices=devices)
        device = machine.devices["rng0" if base == RNG else "disk0"]
        settings = [(0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11), (0x38, 8)]
        settings += [(0x80, RINGS), (0x90, RINGS + 0x1000), (0xA0, RINGS + 0x2000)]
        for offset, value in [*settings, (0x44, 1), (0x70, 15)]:
            device.write(offset, 4, value)
        for n, (address, size, flags) in enumerate(BUFFERS[base]):
            entry = struct.pack("<QIHH", address, size, flags, n + 1)
            machine.memory.write(RINGS + 16 * n, entry)
        machine.memory.write(RINGS + 0x1000, struct.pack("<HHH", 0, 1, 0))
        machine.memory.write(BUFFER, bytes(512))
        return machine

    return make


def finish(machine):
    outcome = machine.run(timeout=60)
    assert outcome.kind == "power-off"
    return machine.state_sha256()


BOTH = pytest.mark.parametrize(("base", "name"), [(RNG, "rng0"), (DISK, "disk0")])


@BOTH
def test_write_by_a_device_stops_behind_it_and_changes_nothing(base, name, offering):
    plain = finish(offering(base))
    machine = offering(base)
    point = machine.breakpoints.watch(BUFFER + 8, 4)

    outcome = machine.run(timeout=60)

    stop = outcome.stop
    assert (outcome.kind, stop.watchpoint, stop.device) == ("watchpoint", point, name)
    assert (stop.address, stop.size, stop.is_write) == (BUFFER + 8, 4, True)
    assert outcome.sentence.startswith(f"{name} wrote 4 bytes at {BUFFER + 8:#x}; hart 0 is at 0x8")
    assert machine.memory.read(BUFFER + 8, 4) != bytes(4)
    assert finish(machine) == plain


def test_read_by_a_device_stops_a_watchpoint_for_reads(offering):
    machine = offering(DISK)
    machine.breakpoints.watch(HEADER, 4, "write")
    machine.breakpoints.watch(HEADER + 8, 4, "read")

    stop = machine.run(timeout=60).stop

    assert (stop.device, stop.is_write, stop.address) == ("disk0", False, HEADER + 8)


@BOTH
def test_last_write_is_found_though_a_device_did_it(base, name, offering):
    plain = finish(offering(base))
    machine = offering(base)
    machine.history = History(machine, 8 << 20)
    machine.run_to(25_000)
    written = machine.memory.read(BUFFER, 8)

    stop = machine.history.to_last_write(BUFFER).stop

    assert (stop.device, stop.is_write) == (name, True)
    assert machine.memory.read(BUFFER, 8) == written
    machine.history.step_back()
    assert machine.memory.read(BUFFER, 8) == bytes(8)
    assert finish(machine) == plain


def test_way_back_meets_a_devices_write(offering):
    machine = offering(DISK)
    machine.history = History(machine, 8 << 20)
    machine.run_to(25_000)
    machine.breakpoints.watch(BUFFER, 8)

    outcome = machine.history.run_back(behind=True)

    assert (outcome.kind, outcome.stop.device) == ("watchpoint", "disk0")
    machine.history.step_back()
    assert machine.memory.read(BUFFER, 8) == bytes(8)
    assert machine.run(timeout=60).stop.device == "disk0"


def test_no_device_is_followed_any_more_when_nothing_is_watched(offering):
    machine = offering(RNG)
    memory = machine.devices["rng0"].board.memory
    point = machine.breakpoints.watch(BUFFER, 8)
    followed = memory.write

    machine.breakpoints.remove(point)

    assert memory.write == machine.memory.write != followed
