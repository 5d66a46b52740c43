"""Boot files of any kind: found out by their contents, unpacked and checked."""

from __future__ import annotations

import os
import stat

from hypervisor.boot.compression import compression_of, decompress
from hypervisor.boot.linux import LinuxImage, read_linux
from hypervisor.boot.loadable import SIZE_LIMIT, BootError, Loadable

_ELF_MAGIC = b"\x7fELF"
_X86_MAGIC = b"HdrS"


def load_file(
    path: str | os.PathLike[str],
    arch: str | None = None,
    address: int | None = None,
    name: str | None = None,
) -> Loadable:
    """Read a kernel, firmware or program: Linux image, ELF, or else raw bytes for `address`.

    `arch`: refuse programs that say they are for another. `address`: where raw bytes go, None:
    wherever the layout puts them; ignored for what has addresses of its own. `name`: the file's
    name in messages. BootError says what is wrong.
    """
    name = name or os.fspath(path)
    loadable = load_bytes(read_file(path, name), name, address)
    if arch is not None and loadable.arch not in (None, arch):
        raise BootError(f"{name}: is for {loadable.arch}, this machine is {arch}")
    return loadable


def load_bytes(data: bytes, name: str, address: int | None = None) -> Loadable:
    """The same for contents already read."""
    kind = compression_of(data)
    if kind is not None:
        data = decompress(data, kind, name)
    image = read_linux(data, name)
    if image is not None:
        return _from_linux(image, name, address)
    if data.startswith(_ELF_MAGIC):
        # Imported here: the library costs start-up time that kernels need not pay.
        from hypervisor.boot.elf import read_elf

        return read_elf(data, name)
    if data[0x202:0x206] == _X86_MAGIC:
        raise BootError(f"{name}: is an x86 Linux kernel; RISC-V and AArch64 ones can be booted")
    if not data:
        raise BootError(f"{name}: is empty")
    return Loadable(name, "raw", [(address, data)], address or 0, size=len(data))


def read_file(path: str | os.PathLike[str], name: str | None = None) -> bytes:
    """A boot file's contents, such as an initial RAM disk's: a regular file of bounded size."""
    name = name or os.fspath(path)
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BootError(f"{name}: is not a regular file")
            if status.st_size > SIZE_LIMIT:
                size = f"{status.st_size >> 20} MiB"
                raise BootError(f"{name}: is {size} large; {SIZE_LIMIT >> 20} MiB at most")
            return file.read(SIZE_LIMIT)
    except OSError as error:
        raise BootError(f"{name}: cannot be read ({error.strerror})") from None


def _from_linux(image: LinuxImage, name: str, address: int | None) -> Loadable:
    from hypervisor.boot.kallsyms import KernelSymbols, aarch64_anchor, link_address

    return Loadable(
        name,
        "linux",
        [(address, image.data)],
        address or 0,
        image.arch,
        image.image_size,
        image.text_offset,
        KernelSymbols(
            image.data,
            link_address(image.data, image.arch),
            aarch64_anchor if image.arch == "aarch64" else None,
        ),
    )


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe without a writer must not hang the start."""
    return os.open(path, flags | os.O_NONBLOCK)
