"""Builds the bundled guest programs, byte for byte the same wherever it runs.

    python configs/guests/build.py [FOLDER]

writes `NAME.elf` for each folder beside this file that has a linker script, next to them or into
FOLDER. The compiler is the `ziglang` package of the development extras; another version of it gives
other bytes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RISCV64 = ["-target", "riscv64-freestanding-none", "-mcmodel=medany"]
MACHINE_MODE = "-mcpu=generic_rv64+m+a+c+zicsr"
AARCH64 = ["-target", "aarch64-freestanding-none", "-mcpu=generic+strict_align"]
GPU = "-I../../../gpu/guest"
FLAGS = {
    "hello-riscv64": [*RISCV64, MACHINE_MODE],
    "hello-aarch64": [*AARCH64, "-mgeneral-regs-only"],
    "gpu-demo-riscv64": [*RISCV64, f"{MACHINE_MODE}+f+d", "-mabi=lp64d", GPU],
    "gpu-demo-aarch64": [*AARCH64, GPU],
}
COMPILE = ["-std=c11", "-Os", "-g0", "-ffreestanding", "-fno-builtin"]
COMPILE += ["-fno-sanitize=all", "-fno-stack-protector", "-fno-unwind-tables"]
COMPILE += ["-fno-asynchronous-unwind-tables", "-Wall", "-Wextra", "-Wno-unused-parameter"]
COMPILE += ["-Werror", "-ffile-prefix-map=.=guest"]
LINK = [
    "-nostdlib",
    "-static",
    "-s",
    "-Wl,--build-id=none",
    "-Wl,-z,max-page-size=64",
    "-T",
    "guest.ld",
]


def build(folder: Path, output: Path) -> None:
    """Compile and link the sources of the guest in `folder`."""
    sources = sorted(path.name for path in folder.iterdir() if path.suffix in (".c", ".S"))
    shared = folder.name.rpartition("-")[0]  # what it has in common with other architectures
    sources += sorted(f"../{shared}/{path.name}" for path in (HERE / shared).glob("*.c"))
    flags = [*FLAGS[folder.name], "-I.", f"-I../{shared}"]
    command = [sys.executable, "-m", "ziglang", "cc", *flags, *COMPILE, *LINK, *sources]
    # Relative names from the sources' own folder: where they lie leaves no trace.
    subprocess.run([*command, "-o", str(output.resolve())], cwd=folder, check=True, timeout=600)


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for linker_script in sorted(HERE.glob("*/guest.ld")):
        folder = linker_script.parent
        build(folder, target / f"{folder.name}.elf")


if __name__ == "__main__":
    main()
