"""The Unicorn engine as the machine uses it: its C functions and the internals its wheel exports.

Called through ctypes, not the `unicorn` package's own wrapper: a slice of a guest's run costs
one foreign call. Facts about the wheel are checked at start-up by `selftest`.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_bool,
    c_int,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

HOOK_INTR = 1
HOOK_CODE = 4
HOOK_BLOCK = 8
HOOK_MEM_WRITE_UNMAPPED = 1 << 5
HOOK_MEM_READ = 1 << 10
HOOK_MEM_WRITE = 1 << 11
HOOK_INSN_INVALID = 1 << 14
HOOK_EDGE_GENERATED = 1 << 15

MEM_READ, MEM_WRITE = 16, 17
"""What a memory hook is told of an access."""

PROT_ALL = 7
ERR_OK = 0
ERR_READ_UNMAPPED = 6
ERR_WRITE_UNMAPPED = 7
ERR_FETCH_UNMAPPED = 8
ERR_WRITE_PROT = 12
ERR_READ_PROT = 13
ERR_FETCH_PROT = 14
ERR_EXCEPTION = 21

MmioRead = CFUNCTYPE(c_uint64, c_void_p, c_uint64, c_uint32, c_void_p)
MmioWrite = CFUNCTYPE(None, c_void_p, c_uint64, c_uint32, c_uint64, c_void_p)
BlockHook = CFUNCTYPE(None, c_void_p, c_uint64, c_uint32, c_void_p)
InterruptHook = CFUNCTYPE(None, c_void_p, c_uint32, c_void_p)
InvalidHook = CFUNCTYPE(c_bool, c_void_p, c_void_p)
CsrRead = CFUNCTYPE(c_int, c_void_p, c_int, POINTER(c_uint64))
CsrPredicate = CFUNCTYPE(c_int, c_void_p, c_int)


class EngineError(Exception):
    """The engine cannot do what the machine needs: one sentence naming the wheel or the call."""


@cache
def wheel() -> str:
    """Which build of Unicorn this is, for error sentences."""
    return f"unicorn {version('unicorn')} ({os.uname().sysname} {os.uname().machine})"


@cache
def load() -> Any:
    """The shared object, with the signatures this package calls."""
    package = find_spec("unicorn")  # the package itself is not imported: it costs start-up time
    if package is None or package.origin is None:
        raise EngineError("the Python package unicorn is not installed")
    path = os.path.join(os.path.dirname(package.origin), "lib", "libunicorn.so.2")
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise EngineError(
            f"the engine's shared object of {wheel()} does not load: {error}"
        ) from None
    _declare(library, "uc_open", c_int, c_int, c_int, POINTER(c_void_p))
    _declare(library, "uc_close", c_int, c_void_p)
    _declare(library, "uc_strerror", ctypes.c_char_p, c_int)
    _declare(library, "uc_emu_start", c_int, c_void_p, c_uint64, c_uint64, c_uint64, c_size_t)
    _declare(library, "uc_emu_stop", c_int, c_void_p)
    hook = (c_void_p, POINTER(c_size_t), c_int, c_void_p, c_void_p, c_uint64, c_uint64)
    _declare(library, "uc_hook_add", c_int, *hook)
    _declare(library, "uc_hook_del", c_int, c_void_p, c_size_t)
    _declare(library, "uc_mem_map_ptr", c_int, c_void_p, c_uint64, c_size_t, c_uint32, c_void_p)
    _declare(library, "uc_mem_protect", c_int, c_void_p, c_uint64, c_size_t, c_uint32)
    mmio = (c_uint64, c_size_t, c_void_p, c_void_p, c_void_p, c_void_p)
    _declare(library, "uc_mmio_map", c_int, c_void_p, *mmio)
    _declare(library, "uc_mem_unmap", c_int, c_void_p, c_uint64, c_size_t)
    _declare(library, "uc_reg_read", c_int, c_void_p, c_int, c_void_p)
    _declare(library, "uc_reg_write", c_int, c_void_p, c_int, c_void_p)
    _declare(library, "uc_vmem_read", c_int, c_void_p, c_uint64, c_uint32, c_void_p, c_size_t)
    return library


def declare(name: str, result: Any, *arguments: Any) -> Any:
    """An internal function the wheel exports, ready to call; EngineError when it is not there."""
    return _declare(load(), name, result, *arguments)


def address_of(function: Any) -> int:
    """Where a C function or callback lives, for native code to call."""
    value = ctypes.cast(function, c_void_p).value
    assert value is not None
    return value


def places_of(function: int) -> list[int]:
    """Where in what it may write the engine's library holds the address of one of its functions:
    the table by which it calls them itself has it once."""
    path = os.path.realpath(load()._name)
    pattern = function.to_bytes(8, "little")
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        mappings = [line.split() for line in maps if line.rstrip().endswith(path)]
    found: list[int] = []
    for span, rights, *_ in mappings:
        if rights.startswith("rw"):
            begin, end = (int(part, 16) for part in span.split("-"))
            content = ctypes.string_at(begin, end - begin)
            at = content.find(pattern)
            while at >= 0:
                found += [begin + at] if at % 8 == 0 else []
                at = content.find(pattern, at + 1)
    return found


def _declare(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    try:
        function = getattr(library, name)
    except AttributeError:
        raise EngineError(
            f"{wheel()} does not export {name}; the machine needs unicorn 2.1.4's Linux wheel"
        ) from None
    function.restype = result
    function.argtypes = arguments
    return function
