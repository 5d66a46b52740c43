"""`make run`: Debian's kernel to a shell, or, where no package source can be reached, the guest
that is bundled."""

from __future__ import annotations

import sys

import click

from hypervisor.images import ImageError, Images
from tools.main import run
from tools.progress import progress

DEBIAN, BUNDLED = "configs/riscv64-debian.yaml", "configs/riscv64-hello.yaml"
IMAGE = "debian-riscv64"


def main() -> int:
    """Fetch the image, say how to leave, and run; the exit code."""
    machine = choose()
    click.echo("Ctrl-A x leaves, Ctrl-A h helps.", err=True)
    return run(["run", machine])


def choose() -> str:
    """The description to run: Debian's where its image can be had."""
    try:
        with progress() as report:
            images = Images(progress=report)
            for name in ("linux", "busybox"):
                images.path(f"image:{IMAGE}/{name}")
    except ImageError as error:
        reason = " ".join(str(error).split())
        click.echo(f"Debian's image cannot be had, so the bundled guest runs: {reason}", err=True)
        return BUNDLED
    return DEBIAN


if __name__ == "__main__":
    sys.exit(main())
