"""`make run`: Debian's kernel to a shell, or, where no package source can be reached, a guest that
is bundled: the one with a GPU where the host has OpenCL."""

from __future__ import annotations

import sys

import click

from gpu.host.linker import find_linker
from gpu.host.process import Workers
from gpu.options import OpenClOptions
from hypervisor.images import ImageError, Images
from tools.main import open_standard_streams, run
from tools.progress import progress
from tools.terminal import nothing_to_come

IMAGES = ("image:debian-riscv64/linux", "image:debian-riscv64/busybox")
DEBIAN = ("configs/riscv64-debian.yaml", "\n# ")
BUNDLED = ("configs/riscv64-hello.yaml", "hello> ")
WITH_GPU = ("configs/gpu-demo.yaml", "all passed")
"""A description, and the prompt that its guest comes to."""


def main() -> int:
    """Fetch the image, say how to leave, and run; the exit code."""
    try:
        machine, prompt = choose()
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return 130
    if nothing_to_come():
        click.echo("Nobody is here to type: the run ends at the guest's prompt.", err=True)
        return run(["run", machine, "--until", prompt.replace("\n", "\\n")])
    click.echo("Ctrl-A x leaves, Ctrl-A h helps.", err=True)
    return run(["run", machine])


def choose() -> tuple[str, str]:
    """What to run: Debian where its image can be had."""
    try:
        with progress() as report:
            images = Images(progress=report)
            for reference in IMAGES:
                images.path(reference)
    except ImageError as error:
        reason = " ".join(str(error).split())
        click.echo(f"Debian's image cannot be had, so the bundled guest runs: {reason}", err=True)
        return WITH_GPU if has_opencl() else BUNDLED
    return DEBIAN


def has_opencl() -> bool:
    """Whether the host can compute for a virtual GPU, and build programs."""
    if not find_linker():
        return False
    workers = Workers(OpenClOptions())
    try:
        return "error" not in workers.describe()
    finally:
        workers.close()


if __name__ == "__main__":
    open_standard_streams()
    sys.exit(main())
