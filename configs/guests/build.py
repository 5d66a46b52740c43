"""Builds the bundled guest programs, byte for byte the same wherever it runs.

    python configs/guests/build.py [FOLDER]

writes `NAME.elf` for each folder of sources beside this file, next to them or into FOLDER. The
compiler is the `ziglang` package of the development extras; another version of it gives other
bytes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = ["-target", "riscv64-freestanding-none"]
PROCESSOR = "-mcpu=generic_rv64+m+a+c+zicsr"
EXTRA = {"gpu-demo": [f"{PROCESSOR}+f+d", "-mabi=lp64d", "-I../../../gpu/guest"]}
"""What some folders need besides."""
COMPILE = ["-std=c11", "-Os", "-g0", "-ffreestanding", "-fno-builtin", "-mcmodel=medany"]
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
    """Compile and link the sources in `folder`."""
    sources = sorted(path.name for path in folder.iterdir() if path.suffix in (".c", ".S"))
    extra = EXTRA.get(folder.name, [PROCESSOR])
    command = [sys.executable, "-m", "ziglang", "cc", *TARGET, *extra, *COMPILE, *LINK, *sources]
    # Relative names from the sources' own folder: where they lie leaves no trace.
    subprocess.run([*command, "-o", str(output.resolve())], cwd=folder, check=True, timeout=600)


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for linker_script in sorted(HERE.glob("*/guest.ld")):
        folder = linker_script.parent
        build(folder, target / f"{folder.name}.elf")


if __name__ == "__main__":
    main()
