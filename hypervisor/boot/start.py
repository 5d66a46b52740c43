"""What happens at power-on: boot files into RAM, and harts sent to their first instruction."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from hypervisor.boot import fdt
from hypervisor.boot.layout import place
from hypervisor.boot.loadable import BootError, Loadable
from hypervisor.boot.loader import load_file, read_file

if TYPE_CHECKING:
    from hypervisor.machine import Machine


def start(machine: Machine) -> None:
    """Load everything and make the harts ready. Raises BootError or ImageError."""
    boot = machine.description.boot
    arch = machine.description.cpu.arch
    programs = [
        _program(machine, file, arch) for file in (boot.firmware, boot.kernel) if file is not None
    ]
    machine.programs = programs
    initrd = None
    if boot.initrd is not None:
        initrd = read_file(machine.resolve_file(boot.initrd), boot.initrd)
    ram = (machine.memory.base, machine.memory.size - machine.arch.reserved)
    first = machine.arch.wants_tree_first(programs, is_firmware=boot.firmware is not None)
    placement = place(ram, programs, lambda span: device_tree(machine, span), initrd, first)
    for piece in placement.pieces:
        machine.memory.write(piece.address, piece.data)
    for blob in boot.load:
        data = read_file(machine.resolve_file(blob.file), blob.file)
        if not machine.memory.contains(blob.at, len(data)):
            raise BootError(f"{blob.file}: does not fit in RAM at {blob.at:#x}")
        machine.memory.write(blob.at, data)
    entry = boot.entry
    if entry is None:
        entry = placement.entry if placement.entries else machine.memory.base
    if entry % machine.arch.code_alignment:
        file = boot.firmware or boot.kernel or "boot.entry"
        raise BootError(
            f"{file}: nothing can be entered at {entry:#x}: instructions are at multiples of "
            f"{machine.arch.code_alignment}"
        )
    machine.arch.enter(machine, placement, entry)


def device_tree(machine: Machine, initrd: tuple[int, int] | None = None) -> bytes:
    """The blob the guest is given: generated, or the file the description names."""
    file = machine.description.boot.dtb
    if file is not None:
        blob = read_file(machine.resolve_file(file), file)
        try:
            fdt.parse(blob)
        except fdt.FdtError as error:
            raise BootError(f"{file}: is not a device tree blob: {error}") from None
        return blob
    return fdt.flatten(machine.arch.tree(machine, initrd))


def _program(machine: Machine, file: str, arch: str) -> Loadable:
    path = machine.resolve_file(file)
    try:
        status = os.stat(path)
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError:  # reading says what is wrong
        stamp = (0, 0, 0)
    return _read(path, arch, file, stamp)


@lru_cache(maxsize=8)
def _read(path: str, arch: str, name: str, stamp: tuple[int, int, int]) -> Loadable:
    """Kept, as a guest that reboots loads the same again; `stamp` tells a file that was changed."""
    return load_file(path, arch, name=name)
