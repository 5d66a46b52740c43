"""Recordings: what came in is written down, and the same run is made of it again."""

from __future__ import annotations

import struct

import pytest

from hypervisor.console import KEPT_OUTPUT, Step
from hypervisor.history import History
from hypervisor.inputs import ReplayError
from hypervisor.machine import Machine
from hypervisor.recording import (
    MAGIC,
    Recorder,
    RecordingError,
    Replayer,
    check_files,
    file_digests,
    read_recording,
    state_check,
)

ECHO = """
    li s1, 0x10000000
1:  addi s2, s2, 1
    .rept 1000
    nop
    .endr
    lbu a1, 5(s1)
    andi a1, a1, 1
    bnez a1, 2f
    j 1b
2:
    lbu a0, (s1)
    add s3, s3, s2
    sb a0, (s1)
    li a2, 'q'
    beq a0, a2, 3f
    j 1b
3:
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
9:  j 9b
"""
"""Adds up when each key came: another moment makes another machine."""


@pytest.fixture
def recorded(workshop, tmp_path):
    """`recorded(drive)`: a machine that `drive` ran, closed; its recording and its digest."""

    def make(drive):
        machine = workshop.build(ECHO)
        recorder = Recorder(machine, tmp_path / "run.rec", file_digests(machine.description))
        drive(machine)
        digest = machine.state_sha256()
        recorder.close()
        return tmp_path / "run.rec", digest

    return make


def press(machine, keys="ab"):
    machine.run_to(machine.clock.cell.units + 100_000)
    for key in keys:
        machine.console.send(key)
        machine.run_to(machine.clock.cell.units + 1_234_567)


def quit_at_once(machine):
    press(machine)
    machine.console.send("q")
    machine.run(timeout=60)


def again(workshop, path, change=lambda items: items):
    """Replay; how it ended, the machine, the replayer."""
    recording = read_recording(path)
    recording.items[:] = change(recording.items)
    machine = Machine(workshop.build(ECHO).description, offline=True)
    workshop.machines.append(machine)
    replayer = Replayer(machine, recording)
    return machine.run(timeout=60), machine, replayer


def test_replay_ends_as_the_recording_did(recorded, workshop):
    path, digest = recorded(quit_at_once)

    outcome, machine, replayer = again(workshop, path)

    assert outcome.kind == "power-off"
    assert replayer.state == machine.state_sha256() == digest
    assert machine.console.text == "abq"


def test_replay_of_a_machine_that_was_left_ends_there(recorded, workshop):
    path, digest = recorded(press)

    outcome, machine, replayer = again(workshop, path)

    assert (outcome.kind, outcome.sentence) == ("replayed", "the recording ends here")
    assert replayer.state == machine.state_sha256() == digest
    assert machine.run(timeout=60).kind == "replayed"


def test_keys_of_a_script_and_of_another_thread_are_recorded(recorded, workshop):
    def drive(machine):
        machine.console.script([Step("send", b"x"), Step("until", b"x"), Step("send", b"y")])
        machine.run_to(3_000_000)
        machine.inbox.post(lambda: machine.console.send("zq"))
        machine.run(timeout=60)

    path, digest = recorded(drive)

    assert again(workshop, path)[1].state_sha256() == digest


def test_key_typed_at_a_breakpoint_waits_for_a_safe_point(recorded, workshop):
    def drive(machine):
        for _ in range(4):
            machine.step(timeout=60)
        assert machine.cpu[0].is_midway
        machine.console.send("a")
        press(machine, "bq")

    path, digest = recorded(drive)
    _, machine, _ = again(workshop, path)

    assert machine.state_sha256() == digest
    assert machine.console.text == "abq"


def test_breakpoints_steps_and_watchpoints_in_a_replay_change_nothing(recorded, workshop):
    path, digest = recorded(quit_at_once)
    machine = Machine(workshop.build(ECHO).description, offline=True)
    workshop.machines.append(machine)
    Replayer(machine, read_recording(path))
    code = machine.memory.read(machine.cpu[0].pc, 4096)
    machine.breakpoints.add(machine.cpu[0].pc + code.index(bytes.fromhex("23 80 a4 00")))
    machine.breakpoints.watch(0x8008_0000, 8, "access")
    stops = 0
    while (outcome := machine.run(timeout=60)).stop is not None:
        stops += 1
        for _ in range(10):
            machine.step(timeout=60)

    assert (outcome.kind, stops) == ("power-off", 3)
    assert machine.state_sha256() == digest


def test_quiet_run_takes_little_room(recorded):
    path, _ = recorded(lambda machine: machine.run_to(2_600_000_000))
    kinds = [item.kind for item in read_recording(path).items]

    assert kinds == ["check", "check", "end"]
    assert path.stat().st_size < 1800


def test_other_key_is_noticed(recorded, workshop):
    path, _ = recorded(lambda machine: [press(machine), machine.run_to(2_600_000_000)])

    def change(items):
        return [replace_data(item, b"c") if item.data == b"b" else item for item in items]

    with pytest.raises(ReplayError, match=r"state differs at 1\.0\d+ s, with hart 0 at 0x8"):
        again(workshop, path, change)


def replace_data(item, data):
    return type(item)(item.at, item.pc, item.late, item.kind, item.name, data)


def test_other_moment_is_noticed(recorded, workshop):
    path, _ = recorded(press)

    def change(items):
        first = items[0]
        return [type(first)(first.at + 1, *[getattr(first, n) for n in type(first).__slots__[1:]])]

    with pytest.raises(ReplayError, match="not the one recorded: it passed"):
        again(workshop, path, change)


def test_recording_that_was_cut_goes_as_far_as_it_does(recorded, workshop):
    path, _ = recorded(quit_at_once)
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])

    outcome, machine, _ = again(workshop, path)

    assert outcome.sentence == "the recording ends here, without the end of its run"
    assert machine.console.text == "a"  # it ends where b comes in


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not a recording"),
        (b"something else entirely", "is not a recording"),
        (MAGIC + b"\x63\0\0\0", "of format 99; this program reads 2"),
        (MAGIC + b"\2\0\0\0", "its header cannot be read"),
    ],
)
def test_foreign_file_is_refused(data, said, tmp_path):
    (tmp_path / "x.rec").write_bytes(data)

    with pytest.raises(RecordingError, match=said):
        read_recording(tmp_path / "x.rec")


def test_damaged_record_is_refused(recorded):
    path, _ = recorded(press)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)

    with pytest.raises(RecordingError, match="is damaged at byte"):
        read_recording(path)


def test_other_file_is_refused_by_digest(recorded, workshop):
    path, _ = recorded(press)
    description = workshop.build("nop\n" + ECHO).description

    with pytest.raises(RecordingError, match=r"guest\.bin is not what it was when .* was recorded"):
        check_files(read_recording(path), description)


def test_run_with_the_hosts_randomness_is_not_recorded(workshop, tmp_path):
    machine = Machine.load(workshop.describe(ECHO), "boot.rng_seed=host")
    workshop.machines.append(machine)

    with pytest.raises(RecordingError, match="needs a seed and a date"):
        Recorder(machine, tmp_path / "run.rec", {})


def test_recording_to_where_nothing_can_be_written(workshop, tmp_path):
    with pytest.raises(RecordingError, match="cannot be written: No such file"):
        Recorder(workshop.build(ECHO), tmp_path / "none" / "run.rec", {})


def test_recording_begins_at_power_on(workshop, tmp_path):
    machine = workshop.build(ECHO)
    machine.run_to(1000)

    with pytest.raises(RecordingError, match="begins when a machine is switched on or restored"):
        Recorder(machine, tmp_path / "run.rec", {})


@pytest.mark.parametrize("steps", [0, 4])
def test_reset_from_outside_is_replayed(steps, recorded, workshop):
    """Also one that is asked for within straight-line code, and waits for its end."""

    def drive(machine):
        press(machine)
        for _ in range(steps):
            machine.step(timeout=60)
        machine.reset_button()
        press(machine, "q")
        assert machine.resets == 1

    path, digest = recorded(drive)
    _, machine, replayer = again(workshop, path)

    assert ("power", "reset") in [(i.kind, i.name) for i in read_recording(path).items]
    assert (machine.resets, machine.console.text) == (1, "abq")
    assert replayer.state == machine.state_sha256() == digest


def test_recording_of_a_restored_machine_begins_at_its_snapshot(workshop, tmp_path):
    first = workshop.build(ECHO)
    press(first)
    first.snapshot(tmp_path / "begin")
    machine = workshop.build(ECHO)
    machine.restore(tmp_path / "begin")
    files = file_digests(machine.description)
    recorder = Recorder(machine, tmp_path / "run.rec", files, tmp_path / "begin")
    machine.run_to(machine.clock.cell.units + 2_000_000_000)
    machine.console.send("q")
    machine.run(timeout=60)
    digest = machine.state_sha256()
    recorder.close()

    recording = read_recording(tmp_path / "run.rec")
    replayed = Machine(machine.description, offline=True)
    workshop.machines.append(replayed)
    replayed.restore(recording.snapshot.find())
    Replayer(replayed, recording)

    assert replayed.run(timeout=60).kind == "power-off"
    assert replayed.state_sha256() == digest
    assert [item.kind for item in recording.items] == ["check", "console", "end"]


def test_snapshot_that_is_another_or_gone_is_refused(workshop, tmp_path):
    machine = workshop.build(ECHO)
    press(machine)
    machine.snapshot(tmp_path / "begin")
    Recorder(machine, tmp_path / "run.rec", {}, tmp_path / "begin").abandon()
    snapshot = read_recording(tmp_path / "run.rec").snapshot
    machine.run_to(machine.clock.cell.units + 1_000_000)
    machine.snapshot(tmp_path / "begin")

    with pytest.raises(RecordingError, match="begin is not the one that the recording begins at"):
        snapshot.find()
    with pytest.raises(RecordingError, match="none, which cannot be read: No such file"):
        snapshot.find(tmp_path / "none")


def test_machine_with_another_state_at_the_beginning_is_refused(recorded, workshop):
    path, _ = recorded(press)
    machine = Machine(workshop.build(ECHO).description, offline=True)
    workshop.machines.append(machine)
    machine.devices["uart0"].SCR = 1

    with pytest.raises(RecordingError, match="uart0 is not what it was when"):
        Replayer(machine, read_recording(path))


def test_check_is_the_same_where_the_console_dropped_output(workshop):
    """After a way back only what was kept of the output is known."""
    machine = workshop.build(ECHO)
    machine.console.write(b"x" * (KEPT_OUTPUT + 100))
    before = state_check(machine)

    machine.console.load(machine.console.save())

    assert state_check(machine) == before
    machine.console.write(b"y")
    assert state_check(machine) != before


DISK, RINGS, REQUEST = 0x1000_1000, 0x8004_0000, 0x8005_0000
SECTOR = b"written".ljust(512, b".")

WRITE = f"""
    li s0, {DISK + 0x50:#x}
    sw zero, (s0)
    li s1, 3000
1:  addi s1, s1, -1
    bnez s1, 1b
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
9:  j 9b
"""
"""Has the disk take the request that is there, and waits a little."""


def offer_a_sector(machine):
    """A driver's work: the queue is set up, and a write of sector 1 is in it."""
    settings = [(0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11), (0x38, 8)]
    settings += [(0x80, RINGS), (0x90, RINGS + 0x1000), (0xA0, RINGS + 0x2000)]
    for offset, value in [*settings, (0x44, 1), (0x70, 15)]:
        machine.devices["disk0"].write(offset, 4, value)
    parts = [(REQUEST, 16, 1), (REQUEST + 0x100, 512, 1), (REQUEST + 0x400, 1, 2)]
    for n, (address, size, flags) in enumerate(parts):
        machine.memory.write(RINGS + 16 * n, struct.pack("<QIHH", address, size, flags, n + 1))
    machine.memory.write(RINGS + 0x1000, struct.pack("<HHH", 0, 1, 0))
    machine.memory.write(REQUEST, struct.pack("<IIQ", 1, 0, 1))
    machine.memory.write(REQUEST + 0x100, SECTOR)


@pytest.mark.parametrize("overlay", ["none", "keep"])
def test_run_that_wrote_to_its_disk_is_replayed_on_the_disk_of_before(overlay, workshop, tmp_path):
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 16))
    options = f"file: disk.img, overlay: {overlay}, latency: 5us"
    disk = f"  disk0: {{type: virtio.blk, at: {DISK:#x}, {options}}}\n"
    machine = workshop.build(WRITE, devices=disk)
    offer_a_sector(machine)
    recorder = Recorder(machine, tmp_path / "run.rec", file_digests(machine.description))
    assert machine.run(timeout=60).kind == "power-off"
    digest, written = machine.state_sha256(), machine.devices["disk0"].backend.read(512, 512)
    recorder.close()
    machine.close()
    image.write_bytes(bytes(1 << 16))
    (tmp_path / "disk.img.overlay").unlink(missing_ok=True)

    recording = read_recording(tmp_path / "run.rec")
    check_files(recording, recording.description())
    replayed = Machine(recording.description(), offline=True)
    workshop.machines.append(replayed)
    offer_a_sector(replayed)
    replayer = Replayer(replayed, recording)
    replayed.history = History(replayed, 8 << 20)
    assert replayed.run(timeout=60).kind == "power-off"

    assert written == replayed.devices["disk0"].backend.read(512, 512) == SECTOR
    assert replayer.state == replayed.state_sha256() == digest
    assert image.read_bytes() == bytes(1 << 16)
    replayed.history.go_to_time(0)
    assert replayed.devices["disk0"].backend.read(512, 512) == bytes(512)
