"""Where the engine looks for a reason to stop, for every architecture.

It has every block call a function that looks, and every load and store too unless it is told
otherwise. Blocks need not: their first call is our BLOCK callback, which sees a deadline by itself
and leaves. So an engine that is told to look after no load and store (`Engine.check_exits`) has
those calls left out too, where code is generated. All calls in generated code are made by one
function of the engine, which its library calls by a table of addresses; the entry for it is made to
lead here. Engines of others in the process are not told so, and keep what they have.
"""

from __future__ import annotations

import os
import struct
from ctypes import c_uint64

from hypervisor.cpu import library

FUNCTIONS = ("generate_call",)

NO_EXIT_REQUEST = 0x7F2
"""Where `uc_struct` says, in a byte, that nothing looks after loads and stores. The next one says
that the CPU is there."""
_TCG_CONTEXT = 0x300
"""Where it points at the TCGContext."""
_BACK = {"riscv64": 0x8970, "aarch64": 0xA970}
"""Where that points back."""

IR = """
; End the run at the start of a block, with its pc in the state. Does not return.
define internal void @leave_run(ptr %hart, i64 %reason) {{
  call void @stop(ptr %hart, i64 %reason)
  %uc = call ptr @pointer(ptr %hart, i64 {uc})
  %leave = inttoptr i64 {check_exit_request} to ptr
  call void %leave(ptr %uc, i32 0)
  unreachable
}}

; In place of the engine's tcg_gen_callN.
define void @generate_call(ptr %context, ptr %function, ptr %result, i32 %count, ptr %arguments) {{
  %looks = inttoptr i64 {check_exit_request} to ptr
  %is_look = icmp eq ptr %function, %looks
  br i1 %is_look, label %ask, label %generate
ask:
  %uc = call ptr @pointer(ptr %context, i64 {context_uc})
  %flag = getelementptr i8, ptr %uc, i64 {no_exit_request}
  %never = load i8, ptr %flag
  %none = icmp eq i8 %never, 1
  br i1 %none, label %leave_out, label %generate
leave_out:
  ret void
generate:
  %engine = inttoptr i64 {tcg_gen_callN} to ptr
  call void %engine(ptr %context, ptr %function, ptr %result, i32 %count, ptr %arguments)
  ret void
}}
"""


def words(arch: str) -> dict[str, int]:
    """What the IR names, for the engine's functions of `arch`."""
    return {
        "no_exit_request": NO_EXIT_REQUEST,
        "context_uc": _BACK[arch],
        "check_exit_request": library.address_of(_function(f"helper_check_exit_request_{arch}")),
        "tcg_gen_callN": library.address_of(_function(f"tcg_gen_callN_{arch}")),
    }


def install(arch: str, generate_call: int) -> bool:
    """Have the engine generate calls by the native `generate_call`; whether it does now. Where it
    does not, blocks go on looking for themselves, which is slower and no different."""
    places = library.places_of(library.address_of(_function(f"tcg_gen_callN_{arch}")))
    if len(places) != 1:
        return False
    c_uint64.from_address(places[0]).value = generate_call
    return True


def is_known(handle: int) -> bool:
    """Whether an engine with a CPU keeps its flags, and what leads to them, where we take them to
    be. Memory is read through the kernel, so a wrong guess is an error and not a crash."""
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        flags = os.pread(memory, 2, handle + NO_EXIT_REQUEST)
        (context,) = struct.unpack("<Q", os.pread(memory, 8, handle + _TCG_CONTEXT))
        own = struct.pack("<Q", handle)
        leads_back = any(os.pread(memory, 8, context + at) == own for at in _BACK.values())
    except (OSError, OverflowError, struct.error):
        return False
    finally:
        os.close(memory)
    return flags == b"\0\1" and leads_back


def _function(name: str) -> object:
    return library.declare(name, None)
