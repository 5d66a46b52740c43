"""Runs a guest on this project's machine and on QEMU, and times both the same way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.perf.child import BenchmarkError, Marks, memory_status
from tests.perf.guests import ROOT, Guest

TIMEOUT = 300
RAM_MIB = 512


@dataclass
class Timing:
    """What one run took. Seconds and bytes of the host."""

    wall: float
    marks: Marks
    overhead: int = 0
    """Peak of memory besides the guest's RAM."""


def boot_ours(guest: Guest, folder: Path) -> Timing:
    """The command line from start to exit."""
    begun = time.monotonic()
    run(_ours(guest, folder))
    return Timing(time.monotonic() - begun, Marks())


def start_ours(guest: Guest, folder: Path) -> float:
    """Seconds to the first guest instruction. The figures that say so cost a run the digest of all
    of RAM, so none that is timed is asked for them."""
    stats = folder / "stats.json"
    run([*_ours(guest, folder), "--stats", str(stats)])
    startup: float = json.loads(stats.read_text())["startup_s"]
    return startup


def _ours(guest: Guest, folder: Path) -> list[str]:
    arguments = [sys.executable, "-m", "tools.main", "run", *description_of(guest, "--set")]
    return [*arguments, "--console", f"file:{folder / 'ours.log'}"]


def boot_qemu(guest: Guest, folder: Path) -> Timing:
    """QEMU from start to exit."""
    arguments = [*_qemu(guest), "-serial", f"file:{folder / 'qemu.log'}"]
    begun = time.monotonic()
    run(arguments)
    return Timing(time.monotonic() - begun, Marks())


def time_ours(guest: Guest) -> Timing:
    """Our machine, with the times of the guest's markers."""
    arguments = [sys.executable, "-m", "tests.perf.child", *description_of(guest, None)]
    begun = time.monotonic()
    figures = json.loads(run(arguments))
    marks = Marks()
    marks.times = figures["times"]
    overhead = figures["peak"] - figures["ram"]
    return Timing(time.monotonic() - begun, marks, overhead=overhead)


def time_qemu(guest: Guest) -> Timing:
    """QEMU, with the times of the guest's markers as they come through a pipe."""
    begun = time.monotonic()
    marks = Marks()
    overhead = 0
    arguments = [*_qemu(guest), "-serial", "stdio"]
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 65536):
            known = len(marks.times)
            marks(data)
            if len(marks.times) != known:
                peak = memory_status(process.pid)["VmHWM"]
                overhead = max(overhead, peak - _guest_ram(process.pid))
            if time.monotonic() - begun > TIMEOUT:
                process.kill()
                raise BenchmarkError("QEMU's guest did not end in time")
    return Timing(time.monotonic() - begun, marks, overhead=overhead)


def qemu_version() -> str:
    text = subprocess.run(
        ["qemu-system-riscv64", "--version"], capture_output=True, text=True, check=True
    ).stdout
    return text.split("version ", 1)[1].split()[0]


def run(arguments: list[str]) -> bytes:
    """Run a program to its end; its output. BenchmarkError when it fails."""
    # Modules are compiled once and kept, as they are for every user.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    try:
        process = subprocess.run(
            arguments,
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        name = " ".join(arguments[:4])
        raise BenchmarkError(f"{name} did not end within {TIMEOUT} s") from None
    if process.returncode != 0:
        errors = process.stderr.decode(errors="replace")[-3000:]
        raise BenchmarkError(f"{' '.join(arguments[:4])} failed:\n{errors}")
    return process.stdout


def description_of(guest: Guest, option: str | None) -> list[str]:
    overrides = [
        f"boot.kernel={guest.kernel}",
        f"boot.initrd={guest.initrd}",
        f"boot.command_line={guest.command_line}",
    ]
    if guest.disk is not None:
        overrides += [f"devices.disk0.file={guest.disk}", "devices.disk0.overlay=none"]
    if option is None:
        return [guest.machine, *overrides]
    return [guest.machine, *(word for override in overrides for word in (option, override))]


def _qemu(guest: Guest) -> list[str]:
    arguments = [
        *(*guest.qemu, "-m", f"{RAM_MIB}M", "-display", "none", "-monitor", "none", "-nic", "none"),
        *("-kernel", str(guest.kernel), "-initrd", str(guest.initrd)),
        *("-append", guest.command_line),
    ]
    if guest.disk is not None:
        arguments += ["-drive", f"if=none,format=raw,file={guest.disk},id=d0"]
        arguments += ["-device", "virtio-blk-device,drive=d0"]
    return arguments


def _guest_ram(pid: int) -> int:
    """Bytes that QEMU holds of the guest's RAM: the mapping of just that size."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    sizes = re.findall(r"^Size:\s+(\d+) kB\n(?:.*\n)*?Rss:\s+(\d+) kB", text, re.MULTILINE)
    return sum(int(rss) << 10 for size, rss in sizes if int(size) == RAM_MIB << 10)
