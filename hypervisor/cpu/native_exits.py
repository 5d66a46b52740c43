"""Where the engine looks for a reason to stop, for every architecture.

It has every block call a function that looks, and every load and store too unless it is told
otherwise. Blocks need not: their first call is our BLOCK callback, which sees a deadline by itself
and leaves. So while nobody wants to stop within a block, those calls are left out where code is
generated. All calls in generated code are made by one function of the engine, which its library
calls by a table of addresses; the entry for it is made to lead here.
"""

from __future__ import annotations

import ctypes
from ctypes import c_uint64

from hypervisor.cpu import library

FUNCTIONS = ("generate_call",)

kept = c_uint64(0)
"""How many engines of this process want to stop within blocks: unless 0 all calls are made."""

IR = """
; End the run at the start of a block, with its pc in the state. Does not return.
define internal void @leave_run(ptr %hart, i64 %reason) {{
  call void @stop(ptr %hart, i64 %reason)
  %uc = call ptr @pointer(ptr %hart, i64 {uc})
  %leave = inttoptr i64 {check_exit_request} to ptr
  call void %leave(ptr %uc, i32 0)
  ret void
}}

; In place of the engine's tcg_gen_callN.
define void @generate_call(ptr %context, ptr %function, ptr %result, i32 %count, ptr %arguments) {{
  %looks = inttoptr i64 {check_exit_request} to ptr
  %is_look = icmp eq ptr %function, %looks
  br i1 %is_look, label %ask, label %generate
ask:
  %kept_at = inttoptr i64 {kept_exits} to ptr
  %kept = load i64, ptr %kept_at
  %none = icmp eq i64 %kept, 0
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
        "kept_exits": ctypes.addressof(kept),
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


def _function(name: str) -> object:
    return library.declare(name, None)
