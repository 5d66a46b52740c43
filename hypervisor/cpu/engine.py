"""One Unicorn instance: guest RAM and device windows mapped, hooks placed, its CPUState found."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Callable
from ctypes import c_size_t, c_uint64, c_void_p
from typing import Any

from hypervisor.cpu import library, native_exits
from hypervisor.cpu.library import EngineError
from hypervisor.cpu.native_faults import SIZE_RECUR_MEM

TRANSLATION_BUFFER = 32 << 20
_CTL_PAGE_SIZE = 1
_CTL_TCG_BUFFER_SIZE = 13
_CTL_USE_EXITS = 4
_CTL_CPU_MODEL = 7
_WRITE, _READ = 1, 2
_ONE_CORE = 1 << 32 | 1
"""How a CPUState begins: nr_cores and nr_threads, both 1."""

Read = Callable[[int, int], int]
Write = Callable[[int, int, int], None]


class Engine:
    """A CPU instance of `arch` and `mode` (Unicorn's numbers), whose translations and TLB go by
    pages of `page` bytes where the engine lets one choose. Used by one thread."""

    def __init__(
        self, arch: int, mode: int, model: int | None = None, page: int | None = None
    ) -> None:
        self._lib = library.load()
        handle = c_void_p()
        self.check(self._lib.uc_open(arch, mode, ctypes.byref(handle)), "open the CPU")
        assert handle.value is not None
        self.handle: int = handle.value
        if model is not None:
            self._control(_CTL_CPU_MODEL, _WRITE, 1, ctypes.c_int(model))
        if page is not None:
            self._control(_CTL_PAGE_SIZE, _WRITE, 1, ctypes.c_uint32(page))
        self._control(_CTL_TCG_BUFFER_SIZE, _WRITE, 1, ctypes.c_uint32(TRANSLATION_BUFFER))
        # Without it leaving a run translates the block before `until` (and corrupts x86 state).
        self._control(_CTL_USE_EXITS, _WRITE, 1, ctypes.c_int(1))
        self._start = self._lib.uc_emu_start
        self._keep: list[Any] = []

    def check(self, error: int, doing: str) -> None:
        """Raise EngineError unless `error` is UC_ERR_OK."""
        if error != library.ERR_OK:
            reason = self._lib.uc_strerror(error).decode()
            raise EngineError(f"{library.wheel()} cannot {doing}: {reason}")

    def _control(self, kind: int, direction: int, count: int, *arguments: Any) -> None:
        self._lib.uc_ctl.restype = ctypes.c_int
        word = kind | count << 26 | direction << 30
        signed = ctypes.c_int(word if word < 1 << 31 else word - (1 << 32))
        self.check(self._lib.uc_ctl(c_void_p(self.handle), signed, *arguments), "be configured")

    @property
    def page_size(self) -> int:
        """Bytes of the pages that translations and the TLB go by."""
        size = ctypes.c_uint32()
        self._control(_CTL_PAGE_SIZE, _READ, 1, ctypes.byref(size))
        return size.value

    def map_ram(self, address: int, size: int, host: int) -> None:
        """Guest-physical RAM on host memory at address `host`."""
        self.check(
            self._lib.uc_mem_map_ptr(self.handle, address, size, library.PROT_ALL, host),
            f"map RAM at {address:#x}",
        )

    def allow_all(self, address: int, size: int) -> None:
        """Take back a protection of mapped memory."""
        self.check(
            self._lib.uc_mem_protect(self.handle, address, size, library.PROT_ALL), "unlock RAM"
        )

    def map_mmio(self, address: int, size: int, read: Any, write: Any) -> None:
        """A device window; `read` and `write` are library.MmioRead/MmioWrite callbacks."""
        self._keep += [read, write]
        self.check(
            self._lib.uc_mmio_map(
                self.handle,
                address,
                size,
                library.address_of(read),
                None,
                library.address_of(write),
                None,
            ),
            f"map a device at {address:#x}",
        )

    def hook(self, kind: int, callback: int, user_data: int, begin: int = 1, end: int = 0) -> int:
        """Place a native callback for addresses from `begin` to `end`, inclusive (all, if `end`
        is less); the hook's handle. Code that is translated already does not call it."""
        handle = c_size_t()
        place = (self.handle, ctypes.byref(handle), kind, callback, user_data, begin, end)
        self.check(self._lib.uc_hook_add(*place), "place a hook")
        return handle.value

    def read_into(self, register: int, value: ctypes.Structure) -> None:
        """Read a register whose value is a struct."""
        self.check(
            self._lib.uc_reg_read(self.handle, register, ctypes.byref(value)), "read a register"
        )

    def write_from(self, register: int, value: ctypes.Structure) -> None:
        self.check(
            self._lib.uc_reg_write(self.handle, register, ctypes.byref(value)), "write a register"
        )

    def check_exits(self, wanted: bool) -> None:
        """Whether code that is translated from now on looks for a reason to stop where a block
        begins, after each load and store and in hooks on instructions. Else it is left by the BLOCK
        callback, and by what leaves by itself."""
        ctypes.c_uint8.from_address(self.handle + native_exits.NO_EXIT_REQUEST).value = not wanted

    def forget_access(self) -> None:
        """A load or store was left midway: the engine may still believe to be in one."""
        ctypes.c_int32.from_address(self.handle + SIZE_RECUR_MEM).value = 0

    def unhook(self, handle: int) -> None:
        self.check(self._lib.uc_hook_del(self.handle, handle), "remove a hook")

    def prime(self, code: bytes) -> None:
        """Run `code`, a jump and then a wait, on a page that is there for it only.

        The engine tells of no translation before a first block has run to its end: without this
        the first code of a guest could become stale unnoticed.
        """
        page = mmap.mmap(-1, mmap.PAGESIZE)
        page[: len(code)] = code
        anchor = ctypes.c_char.from_buffer(page)
        self.map_ram(0, mmap.PAGESIZE, ctypes.addressof(anchor))
        self.check(self.start(0), "run its first instruction")
        self.check(self._lib.uc_mem_unmap(self.handle, 0, mmap.PAGESIZE), "unmap a page")
        if not native_exits.is_known(self.handle):
            raise EngineError(f"{library.wheel()} keeps its flags where they cannot be found")

    def start(self, pc: int) -> int:
        """Run from `pc` until something stops it; Unicorn's error number."""
        error: int = self._start(self.handle, pc, 0, 0, 0)
        return error

    def read_register(self, register: int) -> int:
        """Through the public API, as the guest's present privilege may read it."""
        value = c_uint64()
        self.check(
            self._lib.uc_reg_read(self.handle, register, ctypes.byref(value)), "read a register"
        )
        return value.value

    def write_register(self, register: int, value: int) -> None:
        self.check(
            self._lib.uc_reg_write(self.handle, register, ctypes.byref(c_uint64(value))),
            "write a register",
        )

    def close(self) -> None:
        if self.handle:
            self._lib.uc_close(self.handle)
            self.handle = 0
            self._keep.clear()

    def find_cpu(self, env: int) -> int:
        """The CPUState that holds `env`: a pointer in `uc_struct` to an object before `env` that
        points back at both. Foreign memory is read through the kernel, so a wrong guess is an
        error and not a crash."""
        memory = os.open("/proc/self/mem", os.O_RDONLY)
        try:
            words = struct.unpack("<600Q", os.pread(memory, 4800, self.handle))
            found: set[int] = set()
            for candidate in set(words):
                if candidate % 8 or not 0 < env - candidate < 0x40000:
                    continue
                try:
                    body = os.pread(memory, env - candidate, candidate)
                except OSError:
                    continue
                fields = struct.unpack(f"<{len(body) // 8}Q", body[: len(body) & ~7])
                if fields[0] == _ONE_CORE and env in fields and self.handle in fields:
                    found.add(candidate)
        finally:
            os.close(memory)
        if len(found) != 1:
            raise EngineError(f"{library.wheel()} keeps its CPU state where it cannot be found")
        return found.pop()
