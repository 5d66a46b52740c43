"""Commands about descriptions and snapshots: `check`, `schema`, `devices`, `dtb`, `screenshot`."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tools.errors import HostError
from tools.run_command import overrides_option

if TYPE_CHECKING:
    from hypervisor.config import Description


@click.command()
@click.argument("machine", metavar="MACHINE.yaml")
@overrides_option
def check(machine: str, overrides: tuple[str, ...]) -> None:
    """Check a description and report everything that is wrong with it.

    Exit code: 0 it is right; 2 it is wrong; 3 it only names files that cannot be read.
    """
    from hypervisor.config import check_catalogue, load_description

    found = load_description(machine, overrides, check_image=check_catalogue)
    count = len(found.devices)
    devices = f"{count} device{'' if count == 1 else 's'}"
    ram = f"{found.memory.ram.size >> 20} MiB of RAM"
    harts = f"{found.cpu.harts} hart{'' if found.cpu.harts == 1 else 's'}"
    click.echo(f"{found.path}: OK: {found.machine} with {harts}, {ram} and {devices}")


@click.command()
def schema() -> None:
    """Print the JSON Schema of descriptions, for editors."""
    import json

    from hypervisor.config.schema import description_schema

    click.echo(json.dumps(description_schema(), indent=2))


@click.command()
@click.argument("device_type", metavar="[TYPE]", required=False)
def devices(device_type: str | None) -> None:
    """List the device types, or show the options and registers of one.

    TYPE may be one of your own: ./file.py:Class.
    """
    from tools.device_page import print_type, print_types

    if device_type is None:
        print_types()
    else:
        print_type(device_type)


@click.command()
@click.argument("machine", metavar="MACHINE.yaml")
@overrides_option
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to standard output.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["dtb", "dts"]),
    help="Blob or source. By default source on a terminal and for a FILE.dts, else the blob.",
)
def dtb(machine: str, overrides: tuple[str, ...], output: str | None, form: str | None) -> None:
    """Print the device tree that the guest gets."""
    from hypervisor.config import check_catalogue, load_description

    description = load_description(machine, overrides, check_image=check_catalogue)
    if form is None:
        terminal = output is None and sys.stdout is not None and sys.stdout.isatty()
        form = "dts" if terminal or (output or "").endswith(".dts") else "dtb"
    data = _tree(description, form)
    if output is None:
        click.echo(data, nl=False)
        return
    try:
        Path(output).write_bytes(data)
    except OSError as error:
        raise HostError(f"{output} cannot be written: {error.strerror}") from None


@click.command()
@click.argument("what", metavar="MACHINE.yaml|SOCKET")
@click.argument(
    "files", metavar="[SNAPSHOT] FILE.png", nargs=-1, type=click.Path(path_type=Path), required=True
)
@overrides_option
def screenshot(what: str, files: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Write what a machine's display shows.

    In a SNAPSHOT of the MACHINE, or now, in a machine that runs with --qmp unix:SOCKET. Of a run's
    end, `hypervisor run --screenshot` writes one.
    """
    import asyncio

    from hypervisor.machine import Machine
    from tools.run import check_output, display_of, write_screenshot

    *before, output = files
    path = what.removeprefix("unix:")
    runs = os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode)
    if len(before) != (0 if runs else 1):
        wanted = "SOCKET FILE.png" if runs else "MACHINE.yaml SNAPSHOT FILE.png"
        raise click.UsageError(f"what is wanted is: hypervisor screenshot {wanted}")
    check_output("screenshot", output)
    if runs:
        asyncio.run(_screendump(path, output.absolute()))
        return
    with Machine.load(what, overrides) as restored:
        display_of(restored, "MACHINE.yaml")
        restored.restore(before[0])
        write_screenshot(restored, output)


async def _screendump(path: str, output: Path) -> None:
    """Have a machine that runs write its picture."""
    from tools.inspector.link import Link, LinkError

    link = Link(path, lambda name, data: None)
    try:
        await link.open()
        await link.ask("screendump", filename=str(output))
    except LinkError as error:
        raise HostError(str(error)) from None
    finally:
        await link.close()


def _tree(description: Description, form: str) -> bytes:
    from hypervisor.boot import fdt
    from hypervisor.boot.dts import to_dts
    from hypervisor.boot.loader import read_file
    from tools.paper_machine import device_tree_of

    file = description.boot.dtb
    if file is None:
        tree = device_tree_of(description)
    else:
        blob = read_file(description.resolve(file), file)
        tree = fdt.parse(blob)
        if form == "dtb":
            return blob
    return fdt.flatten(tree) if form == "dtb" else to_dts(tree).encode()
