"""`hypervisor disk`: disk images on the host."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click


def _bytes(ctx: click.Context, argument: click.Parameter, value: str) -> int:
    """`4096`, `64K`, `2G`: bytes, in binary units."""
    from hypervisor.device.options import parse_size

    try:
        return int(parse_size(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group()
def disk() -> None:
    """Look at, make and commit disk images."""


@disk.command()
@click.argument("path", metavar="FILE")
def info(path: str) -> None:
    """Describe a raw or qcow2 image or an overlay."""
    from devices.disk import info as disk_info

    _show(asdict(disk_info(path)))


@disk.command()
@click.argument("path", metavar="FILE")
@click.argument("size", callback=_bytes, metavar="SIZE")
def create(path: str, size: int) -> None:
    """Make an empty raw disk of SIZE (such as 512M or 4G), which takes no room until written."""
    from devices.disk import create as disk_create

    _show(asdict(disk_create(path, size)))


@disk.command()
@click.argument("overlay", metavar="OVERLAY")
@click.option("--into", metavar="FILE", help="Write a new raw disk; leave base and overlay alone.")
def commit(overlay: str, into: str | None) -> None:
    """Write an overlay's changes into its base and remove the overlay.

    Run it again where it was interrupted.
    """
    from devices.disk import commit as disk_commit
    from tools.progress import progress

    task = f"committing {overlay}"
    with progress() as report:
        path = disk_commit(
            overlay, into=into, progress=lambda done, total: report(task, done / (total or 1))
        )
    click.echo(path)


def _show(facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        if value is not None and value is not False:
            words = name.replace("_", " ")
            shown = "yes" if value is True else value
            click.echo(f"{click.style(words, bold=True)}: {shown}{_human(name, value)}")


def _human(name: str, value: Any) -> str:
    if name not in ("size", "allocated", "changed", "block_size") or value < 1 << 10:
        return " bytes" if isinstance(value, int) and name != "version" else ""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if value >= 1 << shift:
            return f" bytes ({value / (1 << shift):.4g} {unit})"
    return ""
