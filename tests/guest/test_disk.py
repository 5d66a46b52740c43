"""Debian on an ext4 disk: what was synced is there after the hypervisor was killed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from devices.disk import commit, info, overlay_path

pytestmark = pytest.mark.guest

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
Build = Callable[[str], Path]


@dataclass(frozen=True)
class Kind:
    """A machine and how its disk and its initial RAM disk are made."""

    config: Path
    disk: str
    initrd: str
    suffix: str


RISCV64 = (CONFIGS / "riscv64-disk.yaml", "notes-disk.yaml", "quick-boot.yaml")
ARM64 = (CONFIGS / "aarch64-disk.yaml", "notes-disk-arm64.yaml", "quick-boot-arm64.yaml")
KINDS = {
    "raw": Kind(*RISCV64, "img"),
    "qcow2": Kind(*RISCV64, "qcow2"),
    "arm64": Kind(*ARM64, "qcow2"),
}

KEPT = "".join(f"{number}\n" for number in range(1, 20_001)).encode()
LATER = b"of the second run\n"
NOISE = "while :; do seq 1 9999 >/root/noise; mv /root/noise /root/old; echo round $((n+=1)); done"


class Process:
    """`hypervisor run` on a disk, its console in a file."""

    def __init__(self, config: Path, disk: Path, initrd: Path, log: Path, *steps: str) -> None:
        self.log = log
        self.overlay = Path(overlay_path(str(disk)))
        self._log = log.open("wb")
        settings = (
            f"boot.initrd={initrd}",
            f"devices.disk0.file={disk}",
            "devices.disk0.overlay=keep",
        )
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tools.main", "run", str(config)),
                *(word for setting in settings for word in ("--set", setting)),
                *(*steps, "--timeout", "400"),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def console(self) -> str:
        return self.log.read_text(errors="replace").replace("\r", "")

    def expect(self, text: str, seconds: float = 200) -> None:
        """Wait until the guest has printed it."""
        end = time.monotonic() + seconds
        while text not in self.console:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no '{text}' came:\n{self.console[-3000:]}")
            time.sleep(0.02)

    def finish(self) -> int:
        """Wait for the run's end: its exit code."""
        return self._process.wait(timeout=400)

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()
        self._process.wait()
        self._log.close()


@dataclass
class Story:
    """A disk through a run that was killed, and one that followed."""

    disk: Path
    digest: str
    """Of the base, before the first run."""
    killed: Process
    crashed: Path
    """What the disk held when the hypervisor was killed, as a raw image."""
    next: Process
    exit_code: int
    left: Path
    """What it held after the next run."""


@pytest.fixture(scope="module")
def disks(build: Build, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A built disk by its kind: a copy, or a compressed qcow2 image."""
    folder = tmp_path_factory.mktemp("disks")
    made = {name: folder / f"{name}.{kind.suffix}" for name, kind in KINDS.items()}
    for name, kind in KINDS.items():
        built = build(kind.disk)
        if kind.suffix == "img":
            shutil.copyfile(built, made[name])
        else:
            convert = ("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2")
            subprocess.run([*convert, str(built), str(made[name])], check=True)
    return made


@pytest.fixture(scope="module")
def stories(disks: dict[str, Path], build: Build) -> Iterator[dict[str, Story]]:
    """The disks' stories, told side by side."""
    digests = {kind: sha256(disk) for kind, disk in disks.items()}
    initrds = {kind: build(KINDS[kind].initrd) for kind in disks}
    processes: list[Process] = []

    def start(run: str, *steps: str) -> dict[str, Process]:
        started = {
            kind: Process(
                *(KINDS[kind].config, disk, initrds[kind]),
                *(disk.with_name(f"{kind}-{run}.log"), *steps),
            )
            for kind, disk in disks.items()
        }
        processes.extend(started.values())
        return started

    def export(run: str) -> dict[str, Path]:
        images = {kind: disk.with_name(f"{kind}-{run}.img") for kind, disk in disks.items()}
        for kind, disk in disks.items():
            commit(overlay_path(str(disk)), into=images[kind])
        return images

    try:
        killed = start(
            "killed",
            *("--until", r"\n# ", "--send", r"cat /etc/notes; grep ' / ' /proc/mounts\n"),
            *("--until", r"\n# ", "--send", r"seq 1 20000 >/root/kept; sync; echo now $((6*7))\n"),
            *("--until", "now 42", "--send", NOISE + r"\n"),
        )
        for process in killed.values():
            process.expect("\nround 5\n")  # the guest goes on writing: the kill is amid of it
            process.kill()
        crashed = export("killed")
        following = start(
            "next",
            *("--until", r"\n# ", "--send", r"sha256sum /root/kept; wc -c </root/kept\n"),
            *("--until", r"\n# ", "--send", r"ps -o comm,args | grep -c '^sh .*sh$'\n"),
            *("--until", r"\n# ", "--send", rf"echo {LATER.decode().strip()} >/root/later\n"),
            *("--until", r"\n# ", "--send", r"poweroff\n"),
        )
        codes = {kind: process.finish() for kind, process in following.items()}
        left = export("next")
        yield {
            kind: Story(
                *(disk, digests[kind], killed[kind], crashed[kind]),
                *(following[kind], codes[kind], left[kind]),
            )
            for kind, disk in disks.items()
        }
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(params=KINDS)
def story(stories: dict[str, Story], request: pytest.FixtureRequest) -> Story:
    told = stories[request.param]
    for process in (told.killed, told.next):
        request.node.add_report_section("call", process.log.name, process.console[-3000:])
    return told


def test_built_disk_boots_to_a_shell(story: Story) -> None:
    console = story.killed.console

    assert "\nwritten by image build\n" in console
    assert "\n/dev/vda / ext4 rw" in console


def test_synced_file_survives_kill(story: Story, tmp_path: Path) -> None:
    recovered = tmp_path / "recovered.img"
    shutil.copyfile(story.crashed, recovered)

    recovery = subprocess.run(
        ["e2fsck", "-p", str(recovered)], capture_output=True, text=True, check=False
    )

    # 1: something was corrected, which -p does for what a crash leaves and for nothing else.
    assert recovery.returncode in (0, 1), recovery.stdout + recovery.stderr
    assert "recovering journal" in recovery.stdout
    check_file_system(recovered)
    assert content(recovered, "/root/kept") == KEPT


def test_next_run_reads_the_file_back(story: Story) -> None:
    console = story.next.console

    assert f"{hashlib.sha256(KEPT).hexdigest()}  /root/kept\n{len(KEPT)}\n" in console
    assert "recovery complete" in console


def test_init_starts_one_shell(story: Story) -> None:
    console = story.next.console

    assert "grep -c '^sh .*sh$'\n1\n" in console
    assert console.count("built-in shell") == 1


def test_powered_off_disk_is_clean(story: Story) -> None:
    assert story.exit_code == 0
    check_file_system(story.left)
    assert content(story.left, "/root/kept") == KEPT
    assert content(story.left, "/root/later") == LATER


def test_base_is_as_it_was(story: Story) -> None:
    assert sha256(story.disk) == story.digest
    assert info(story.disk).overlay == str(story.next.overlay)


def test_commit_puts_everything_into_the_raw_base(
    stories: dict[str, Story], tmp_path: Path
) -> None:
    story = stories["raw"]
    disk = tmp_path / story.disk.name  # as the overlay knows it
    shutil.copy2(story.disk, disk)  # an overlay knows its base by size and time
    shutil.copyfile(story.next.overlay, overlay_path(str(disk)))

    commit(overlay_path(str(disk)))

    assert sha256(disk) == sha256(story.left)
    assert not Path(overlay_path(str(disk))).exists()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file_system(image: Path) -> None:
    """Have e2fsck look at all of it and change nothing."""
    result = subprocess.run(
        ["e2fsck", "-fn", str(image)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def content(image: Path, path: str) -> bytes:
    """A file of the image, read without a guest."""
    return subprocess.run(
        ["debugfs", "-R", f"cat {path}", str(image)], capture_output=True, check=True
    ).stdout
