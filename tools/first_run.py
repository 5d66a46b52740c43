"""`make run`: Debian's kernel to a shell, or, where no package source can be reached, the guest
that is bundled."""

from __future__ import annotations

import sys

import click

from hypervisor.images import ImageError, Images
from tools.main import open_standard_streams, run
from tools.progress import progress
from tools.terminal import nothing_to_come

IMAGES = ("image:debian-riscv64/linux", "image:debian-riscv64/busybox")
DEBIAN = ("configs/riscv64-debian.yaml", "\n# ")
BUNDLED = ("configs/riscv64-hello.yaml", "hello> ")
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
        return BUNDLED
    return DEBIAN


if __name__ == "__main__":
    open_standard_streams()
    sys.exit(main())
