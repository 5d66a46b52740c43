"""Snapshot files: what is in them comes back, and nothing else is taken for one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hypervisor import Machine
from hypervisor.snapshot import SnapshotError

pytestmark = pytest.mark.guest

COUNTER = """
    li s0, 0x10000000
    li s1, 0x80400000
1:  addi s2, s2, 1
    sd s2, 0(s1)
    addi s1, s1, 1024
    andi t0, s2, 1023
    bnez t0, 1b
    li t1, '.'
    sb t1, 0(s0)
    li s1, 0x80400000
    j 1b
"""

BARE = """
machine: riscv64-virt
cpu: {arch: riscv64, harts: 2}
memory: {ram: {at: 0x8000_0000, size: 16M}}
boot: {firmware: counter.bin}
devices:
  plic: {type: riscv.plic, at: 0x0c00_0000}
  clint: {type: riscv.clint, at: 0x0200_0000}
  uart0: {type: ns16550a, at: 0x1000_0000, irq: plic.10, backend: stdio}
"""


@pytest.fixture(scope="module")
def folder(assemble: Callable[[str], bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a small machine's description, `bare.yaml`, and a snapshot of it, `ten`."""
    folder = tmp_path_factory.mktemp("snapshots")
    (folder / "counter.bin").write_bytes(assemble(COUNTER))
    (folder / "bare.yaml").write_text(BARE)
    with Machine.load(folder / "bare.yaml") as machine:
        machine.console.expect("." * 10)
        machine.snapshot(folder / "ten")
    return folder


@pytest.fixture
def machine(folder: Path) -> Iterator[Machine]:
    with Machine.load(folder / "bare.yaml") as machine:
        machine.console.expect("...")
        yield machine


def damaged(folder: Path, change: Callable[[bytearray], object]) -> Path:
    data = bytearray((folder / "ten").read_bytes())
    change(data)
    path = folder / "damaged"
    path.write_bytes(data)
    return path


def test_restored_machine_goes_on_as_the_saved_one(folder: Path, machine: Machine) -> None:
    machine.console.expect("." * 17)
    uninterrupted = machine.state_sha256()

    machine.restore(folder / "ten")
    machine.console.expect("." * 10)

    assert machine.console.written == 20
    assert machine.state_sha256() == uninterrupted


def test_digest_of_a_restored_machine_is_the_saved_one_s(folder: Path, machine: Machine) -> None:
    machine.restore(folder / "ten")
    first = machine.state_sha256()
    machine.console.expect("." * 5)
    machine.restore(folder / "ten")

    assert machine.state_sha256() == first


def test_snapshot_of_a_restored_machine_is_the_same_file(folder: Path, machine: Machine) -> None:
    machine.restore(folder / "ten")
    machine.snapshot(folder / "again")

    assert (folder / "again").read_bytes() == (folder / "ten").read_bytes()


@pytest.mark.parametrize("share", [0, 0.0001, 0.3, 0.6, 0.9, 0.9999])
def test_truncated_file_is_refused_and_changes_nothing(
    share: float, folder: Path, machine: Machine
) -> None:
    size = (folder / "ten").stat().st_size
    path = damaged(folder, lambda data: data.__delitem__(slice(int(size * share), None)))
    before = machine.state_sha256()

    with pytest.raises(SnapshotError, match=r"not of the length it had|not a snapshot file"):
        machine.restore(path)

    assert machine.state_sha256() == before


@pytest.mark.parametrize("cut", range(1, 16))
def test_file_without_its_last_bytes_is_refused(cut: int, folder: Path, machine: Machine) -> None:
    path = damaged(folder, lambda data: data.__delitem__(slice(-cut, None)))

    with pytest.raises(SnapshotError):
        machine.restore(path)


def test_no_flipped_bit_makes_another_machine(folder: Path, machine: Machine) -> None:
    size = (folder / "ten").stat().st_size
    machine.restore(folder / "ten")
    saved = machine.state_sha256()
    chance = random.Random(1)
    places = [*range(32), *range(size - 24, size), *(chance.randrange(size) for _ in range(400))]

    refused = 0
    for place in places:
        # Some bits mean nothing to the decompressor; what is in the file is then the same.
        path = damaged(folder, partial(_flip, place=place, bit=chance.randrange(8)))
        with suppress(SnapshotError):
            machine.restore(path)
            refused -= 1
        refused += 1
        assert machine.state_sha256() == saved

    assert refused > len(places) * 0.9


def _flip(data: bytearray, place: int, bit: int) -> None:
    data[place] ^= 1 << bit


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a snapshot file"),
        (b"\x7fELF" + bytes(1000), "is not a snapshot file"),
        (b"HVSNAP\r\n" + (99).to_bytes(4, "little") + bytes(99), "of format 99"),
        (b"HVSNAP\r\n" + (1).to_bytes(4, "little") + b"\xff" * 40, "is damaged"),
    ],
)
def test_foreign_file_is_refused(
    content: bytes, sentence: str, folder: Path, machine: Machine
) -> None:
    path = folder / "foreign"
    path.write_bytes(content)

    with pytest.raises(SnapshotError, match=sentence):
        machine.restore(path)


def test_missing_file_and_folder_are_refused(folder: Path, machine: Machine) -> None:
    with pytest.raises(SnapshotError, match="cannot be read: No such file"):
        machine.restore(folder / "nowhere")
    with pytest.raises(SnapshotError, match="cannot be read: Is a directory"):
        machine.restore(folder)


@pytest.mark.parametrize("override", ["cpu.harts=1", "memory.ram.size=32M", "clock.pace=free"])
def test_snapshot_of_another_machine_is_refused(override: str, folder: Path) -> None:
    with Machine.load(folder / "bare.yaml", [override]) as other:
        before = other.state_sha256()

        with pytest.raises(SnapshotError, match="of a machine with another description"):
            other.restore(folder / "ten")

        assert other.state_sha256() == before


def test_snapshot_that_cannot_be_written_is_one_sentence(folder: Path, machine: Machine) -> None:
    with pytest.raises(SnapshotError, match=r"cannot be written to .*: No such file"):
        machine.snapshot(folder / "missing" / "file")


def test_failed_snapshot_leaves_the_old_file(folder: Path, machine: Machine) -> None:
    machine.snapshot(folder / "kept")
    before = (folder / "kept").read_bytes()
    machine.console.expect("...")

    result = subprocess.run(
        # -B: Python would keep what the limit leaves of a compiled module, for all who come after.
        [sys.executable, "-B", "-c", SNAPSHOT, folder / "bare.yaml", folder / "kept", "4096"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "the snapshot cannot be written to" in result.stderr
    assert (folder / "kept").read_bytes() == before
    assert not list(folder.glob("kept?*"))


SNAPSHOT = """
import resource, signal, sys
from hypervisor import Machine
machine = Machine.load(sys.argv[1])
for limit in map(int, sys.argv[3:]):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
while True:
    machine.console.expect("...")
    machine.snapshot(sys.argv[2])
    print("saved", flush=True)
"""


def kill_amid_snapshots(folder: Path, path: Path, delay: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SNAPSHOT, folder / "bare.yaml", path], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def check_kills(folder: Path, machine: Machine, times: int) -> None:
    chance = random.Random(2)
    for _ in range(times):
        kill_amid_snapshots(folder, folder / "killed", chance.uniform(0, 0.1))
        machine.restore(folder / "killed")
        machine.console.expect("...")


def test_file_is_whole_whenever_its_writer_is_killed(folder: Path, machine: Machine) -> None:
    check_kills(folder, machine, 3)


@pytest.mark.slow
def test_file_is_whole_whenever_its_writer_is_killed_many_times(
    folder: Path, machine: Machine
) -> None:
    check_kills(folder, machine, 100)


def test_machine_that_powered_off_can_be_restored(
    reference_of: Callable[[int], Any], restored: Callable[[int], Machine]
) -> None:
    machine = restored(1)
    machine.console.send("poweroff -f\n")
    ended = machine.run(timeout=60)

    machine.restore(reference_of(1).snapshots["shell"])
    machine.console.send("echo $((6*7)) again\n")
    machine.console.expect("42 again", timeout=60)

    assert ended.kind == "power-off"


def test_snapshots_of_debian_are_small_and_quick(
    reference_of: Callable[[int], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    reference = reference_of(4)
    seconds = reference.disturbed.wait()["snapshots"]

    sizes = {name: path.stat().st_size for name, path in reference.snapshots.items()}

    with capsys.disabled():
        for name, path in reference.snapshots.items():
            print(f"\nsnapshot '{name}': {sizes[name] / 1e6:.1f} MB, {seconds[str(path)]} s")
    assert max(sizes.values()) < 64 << 20
