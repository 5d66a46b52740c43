"""`python -m tests.perf`: what this machine costs, beside QEMU on the same guests, and what its GPU
does, beside OpenCL without it.

Everything is the host's wall time, the median of some runs that alternate between the two, so
that a busy host is unfair to neither. Needs the guest images, QEMU and ziglang.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypervisor.images import Images
from tests.perf import debugging, gpu, guests, mmio
from tests.perf.child import BenchmarkError
from tests.perf.emulators import (
    Timing,
    boot_ours,
    boot_qemu,
    qemu_version,
    start_ours,
    time_ours,
    time_qemu,
)
from tests.perf.table import PEERS, Row, as_markdown, as_text, put_in_readme, tables

MEBIBYTE = 1 << 20


def boot_rows(runs: int, folder: Path) -> list[Row]:
    guest = guests.power_off_guest(Images())
    boot_ours(guest, folder)  # from here on modules are compiled and files are in memory
    ours, qemu = _alternate(
        runs, lambda: boot_ours(guest, folder), lambda: boot_qemu(guest, folder)
    )
    startup = statistics.median(start_ours(guest, folder) for _ in range(runs))
    return [
        Row("boot to userspace and power off", "s", _wall(ours), _wall(qemu), 1.2, "ratio"),
        Row("start to the first guest instruction", "s", startup, target=1.0),
    ]


def loop_rows(runs: int, folder: Path) -> list[Row]:
    guest = guests.loops_guest(Images(), folder)
    ours, qemu = _alternate(runs, lambda: time_ours(guest), lambda: time_qemu(guest))
    fork, loop = f"{guests.FORKS} fork and exec", f"sh counting to {guests.STEPS:,}"
    besides = "memory besides the guest's RAM"
    return [
        Row(fork, "s", _between(ours, "fork"), _between(qemu, "fork"), 1.2, "ratio"),
        Row(loop, "s", _between(ours, "loop"), _between(qemu, "loop"), 2.5, "ratio"),
        Row(besides, "MiB", _overhead(ours), _overhead(qemu), 400),
    ]


def arm64_rows(runs: int, folder: Path) -> list[Row]:
    guest = guests.arm64_power_off_guest(Images())
    boot_ours(guest, folder)
    ours, qemu = _alternate(
        runs, lambda: boot_ours(guest, folder), lambda: boot_qemu(guest, folder)
    )
    calls = guests.arm64_calls_guest(Images(), folder)
    ours_calls, qemu_calls = _alternate(runs, lambda: time_ours(calls), lambda: time_qemu(calls))
    figures = _between(ours_calls, "getppid"), _between(qemu_calls, "getppid")
    return [
        Row("arm64: boot to userspace and power off", "s", _wall(ours), _wall(qemu), 1.5, "ratio"),
        Row("arm64: 100,000 getppid", "s", *figures, 0.6, "ratio"),
    ]


def disk_rows(runs: int, folder: Path) -> list[Row]:
    guest = guests.disk_guest(Images(), folder)
    ours, qemu = _alternate(runs, lambda: time_ours(guest), lambda: time_qemu(guest))
    megabytes, reads = guests.DISK_BYTES / 1e6, guests.RANDOM_READS
    rates = [
        ("virtio-blk sequential read", "MB/s", "sequential", megabytes, 200),
        ("virtio-blk 4 KiB random reads, 16 in flight", "/s", "deep", reads, 5000),
        ("virtio-blk 4 KiB random reads, one at a time", "/s", "random", reads, 5000),
    ]
    return [
        Row(
            name,
            unit,
            amount / _between(ours, marker),
            amount / _between(qemu, marker),
            target,
            "least",
        )
        for name, unit, marker, amount, target in rates
    ]


def mmio_rows(runs: int, folder: Path) -> list[Row]:
    figures = mmio.measure(runs)
    return [Row(name, "us", seconds * 1e6, target=3.0) for name, seconds in figures.items()]


def gpu_rows(runs: int, folder: Path) -> list[Row]:
    guest = guests.gpu_guest(Images(), folder)
    time_ours(guest)  # from here on what the guest compiles is in the cache
    return gpu.rows(
        runs, folder, lambda: time_ours(guest).marks.between("launches") / guests.LAUNCHES
    )


GROUPS: dict[str, Callable[[int, Path], list[Row]]] = {
    "boot": boot_rows,
    "loops": loop_rows,
    "arm64": arm64_rows,
    "mmio": mmio_rows,
    "disk": disk_rows,
    "tools": debugging.rows,
    "gpu": gpu_rows,
}


def main() -> int:
    options = _parser().parse_args()
    rows: list[Row] = []
    hosts = {name: _host(options.runs, name) for name in PEERS}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in options.only or GROUPS:
            try:
                rows += GROUPS[name](options.runs, Path(folder))
            except BenchmarkError as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 1
    found = tables(rows)
    for name, each in found.items():
        print(f"{as_text(each)}\n\n{hosts[name]}\n")
    if options.json is not None:
        document = {"hosts": hosts, "rows": [row.data() for row in rows]}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    if options.readme:
        try:
            for name, each in found.items():
                put_in_readme(guests.ROOT / "README.md", name, as_markdown(each, hosts[name]))
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.perf", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs to take medians of")
    parser.add_argument("--only", action="append", choices=GROUPS, help="may repeat")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--readme", action="store_true", help="put the tables in README.md")
    return parser


def _alternate(
    runs: int, ours: Callable[[], Timing], qemu: Callable[[], Timing]
) -> tuple[list[Timing], list[Timing]]:
    pairs = []
    for number in range(runs):
        if sys.stderr.isatty():
            print(f"run {number + 1} of {runs}", end="\r", file=sys.stderr, flush=True)
        pairs.append((ours(), qemu()))
    return [first for first, _ in pairs], [second for _, second in pairs]


def _wall(timings: list[Timing]) -> float:
    return statistics.median(timing.wall for timing in timings)


def _between(timings: list[Timing], name: str) -> float:
    return statistics.median(timing.marks.between(name) for timing in timings)


def _overhead(timings: list[Timing]) -> float:
    return max(timing.overhead for timing in timings) / MEBIBYTE


def _host(runs: int, table: str) -> str:
    """A sentence on where the figures come from."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = f"{len(models)} x {models[0]}" if models else platform.machine()
    if table == "gpu-bench":
        peers = "in turn with pyopencl on the same OpenCL device"
    else:
        peers = f"in turn with QEMU {qemu_version()} (TCG)"
    return (
        f"Medians of {runs} runs {peers} on {processor}, "
        f"Python {platform.python_version()}; the host's load before was {os.getloadavg()[0]:.1f}."
    )


if __name__ == "__main__":
    sys.exit(main())
