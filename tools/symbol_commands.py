"""`hypervisor symbols`: names of a guest kernel's functions, for GDB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tools.errors import HostError
from tools.run_command import overrides_option

if TYPE_CHECKING:
    from hypervisor.boot.symbol_file import Symbol
    from hypervisor.config import Description


@click.command()
@click.argument("machine", metavar="MACHINE.yaml")
@overrides_option
@click.option(
    "-o", "--output", required=True, metavar="FILE.elf", help="Write there; GDB loads it as `file`."
)
@click.option(
    "--map",
    "system_map",
    metavar="SYSTEM.MAP",
    help="Take the symbols from there instead of from the kernel itself.",
)
def symbols(machine: str, overrides: tuple[str, ...], output: str, system_map: str | None) -> None:
    """Write the symbols of a machine's kernel as an ELF file that GDB loads.

    They come from the tables that a Linux kernel carries for its own reports, so that no debug
    package is needed. There are no types or lines in them.
    """
    from hypervisor.boot.symbol_file import SymbolFileError, write_symbol_file
    from hypervisor.config import check_catalogue, load_description

    description = load_description(machine, overrides, check_image=check_catalogue)
    if system_map is not None:
        found = _of_map(system_map)
    else:
        from tools.run import fetch_images

        fetch_images(description)
        found = _of_kernel(description)
    try:
        data = write_symbol_file(found, description.cpu.arch)
        Path(output).write_bytes(data)
    except SymbolFileError as error:
        raise HostError(f"no file for GDB can be written: {error}") from None
    except OSError as error:
        raise HostError(f"{output} cannot be written: {error.strerror}") from None
    click.echo(f"{output}: {len(found)} symbols")


def _of_kernel(description: Description) -> list[Symbol]:
    """Of the kernel that a description boots. Raises BootError, ImageError or HostError."""
    from hypervisor.boot.kallsyms import KernelSymbols
    from hypervisor.boot.loader import load_file
    from hypervisor.boot.symbol_file import Symbol

    file = description.boot.kernel
    if file is None:
        raise HostError(f"{description.path} boots no kernel: GDB loads its program's own file")
    kernel = load_file(description.resolve(file), description.cpu.arch, name=file).symbols
    if not isinstance(kernel, KernelSymbols):
        raise HostError(f"{file} is no Linux kernel: GDB loads it as it is")
    found = [Symbol(*entry) for entry in kernel.all()]
    if not found:
        raise HostError(f"{file} carries no symbol tables that are understood; use --map")
    return found


def _of_map(path: str) -> list[Symbol]:
    from hypervisor.boot.symbol_file import SymbolFileError, parse_system_map

    try:
        return parse_system_map(Path(path).read_text(errors="replace"))
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror}") from None
    except SymbolFileError as error:
        raise HostError(f"{path} is no System.map: {error}") from None
