"""What the benchmarks boot: initramfs archives with a script to start, a program, a disk."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gpu.guest.build import HERE as LIBRARY_SOURCES
from gpu.guest.build import build_library
from hypervisor.images import Images, cpio

ROOT = Path(__file__).parents[2]
COMMAND_LINE = "console=ttyS0 no4lvl"
ARM64_COMMAND_LINE = "console=ttyAMA0"
SETTLED = f"{COMMAND_LINE} cryptomgr.notests rdinit=/bench.sh"
"""Without the kernel's tests of its cryptography, which go on in the background for seconds and
would be most of what is measured."""
FORKS = 200
STEPS = 100_000
DISK_BYTES = 256 << 20
RANDOM_READS = 4_000

LOOPS = f"""#!/bin/busybox sh
echo '<begin fork>'
i=0; while [ $i -lt {FORKS} ]; do /bin/busybox true; i=$((i+1)); done
echo '<end fork>'
echo '<begin loop>'
i=0; while [ $i -lt {STEPS} ]; do i=$((i+1)); done
echo '<end loop>'
exec /bin/busybox poweroff -f
"""

CALLS = """#!/bin/busybox sh
/getppid
exec /bin/busybox poweroff -f
"""

READS = f"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in virtio_mmio virtio_blk; do /bin/busybox modprobe $module; done
while [ ! -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/diskread /dev/vda sequential {DISK_BYTES}
/diskread /dev/vda random {RANDOM_READS}
/diskread /dev/vda deep {RANDOM_READS}
exec /bin/busybox poweroff -f
"""

LAUNCHES = 1000
GPU = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in $(/bin/busybox cat /etc/modules); do /bin/busybox modprobe $module; done
/gpulaunch
exec /bin/busybox poweroff -f
"""

MARKER = re.compile(rb"<(begin|end) (\w+)>")


@dataclass(frozen=True)
class Guest:
    """What both emulators are given."""

    machine: str
    """Our description; the rest overrides what it says."""
    kernel: Path
    initrd: Path
    command_line: str
    disk: Path | None = None
    qemu: tuple[str, ...] = ("qemu-system-riscv64", "-M", "virt")
    """QEMU's program, machine and processor."""


CORTEX_A72 = ("qemu-system-aarch64", "-M", "virt,gic-version=2", "-cpu", "cortex-a72")


def arm64_power_off_guest(images: Images) -> Guest:
    """Busybox as the first process powers off at once."""
    return Guest(
        str(ROOT / "configs" / "aarch64-debian.yaml"),
        images.path("image:debian-arm64/linux"),
        images.path("image:debian-arm64/busybox"),
        f"{ARM64_COMMAND_LINE} rdinit=/bin/busybox -- poweroff -f",
        qemu=CORTEX_A72,
    )


def arm64_calls_guest(images: Images, folder: Path) -> Guest:
    """Calls the kernel many times."""
    program = folder / "getppid"
    compile_program("getppid", program, "aarch64-linux-musl")
    base = images.path("image:debian-arm64/busybox")
    return Guest(
        str(ROOT / "configs" / "aarch64-debian.yaml"),
        images.path("image:debian-arm64/linux"),
        _archive(base, folder / "calls.cpio", CALLS, program),
        f"{ARM64_COMMAND_LINE} cryptomgr.notests rdinit=/bench.sh",
        qemu=CORTEX_A72,
    )


def power_off_guest(images: Images) -> Guest:
    """Busybox as the first process powers off at once."""
    return Guest(
        str(ROOT / "configs" / "riscv64-debian.yaml"),
        images.path("image:debian-riscv64/linux"),
        images.path("image:debian-riscv64/busybox"),
        f"{COMMAND_LINE} rdinit=/bin/busybox -- poweroff -f",
    )


def loops_guest(images: Images, folder: Path) -> Guest:
    """Forks, then counts."""
    return Guest(
        str(ROOT / "configs" / "riscv64-debian.yaml"),
        images.path("image:debian-riscv64/linux"),
        _archive(images.path("image:debian-riscv64/busybox"), folder / "loops.cpio", LOOPS),
        SETTLED,
    )


def disk_guest(images: Images, folder: Path) -> Guest:
    """Reads a disk that the host has in its page cache."""
    program = folder / "diskread"
    compile_program("diskread", program)
    disk = folder / "disk.img"
    with disk.open("wb") as file:
        for _ in range(DISK_BYTES >> 20):
            file.write(os.urandom(1 << 20))
    base = images.path("image:debian-riscv64-current/boot")
    return Guest(
        str(ROOT / "configs" / "riscv64-disk.yaml"),
        images.path("image:debian-riscv64-current/linux"),
        _archive(base, folder / "reads.cpio", READS, program),
        SETTLED,
        disk,
    )


def gpu_guest(images: Images, folder: Path) -> Guest:
    """Launches empty kernels by OpenCL on the virtual GPU."""
    library = build_library("riscv64", "gnu", folder)
    program = folder / "gpulaunch"
    options = [f"-I{LIBRARY_SOURCES / 'linux'}", f"-I{LIBRARY_SOURCES / 'examples'}", str(library)]
    compile_program("gpulaunch", program, "riscv64-linux-gnu.2.31", *options)
    return Guest(
        str(ROOT / "configs" / "riscv64-gpu.yaml"),
        images.path("image:debian-riscv64-current/linux"),
        _archive(
            images.path("image:debian-riscv64-current/gpu"), folder / "gpu.cpio", GPU, program
        ),
        SETTLED,
    )


def compile_program(
    name: str, output: Path, target: str = "riscv64-linux-musl", *options: str
) -> None:
    """A program of ours for the guest; static, where there are no `options` for the linker."""
    source = Path(__file__).with_name("programs") / f"{name}.c"
    subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", "-target", target),
            *(options or ("-static",)),
            *("-O2", "-s", "-Wall", "-Wextra", "-o", str(output), str(source)),
        ],
        check=True,
    )


def _archive(base: Path, output: Path, script: str, program: Path | None = None) -> Path:
    """An image's initramfs with /bench.sh behind it: Linux takes archives in a row."""
    members = [cpio.Member("bench.sh", stat.S_IFREG | 0o755, script.encode())]
    if program is not None:
        members.append(cpio.Member(program.name, stat.S_IFREG | 0o755, program.read_bytes()))
    output.write_bytes(base.read_bytes() + cpio.write(members))
    return output
