"""Native callbacks: LLVM IR text made into code the engine calls, once per process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from typing import Any, TypeVar

from hypervisor.cpu.cells import (
    TRAP_CAUSES,
    UNITS_PER_TICK,
    ClockCell,
    HartCell,
    Reason,
    WatchCell,
    offset,
)

_Made = TypeVar("_Made")
_keep: list[Any] = []
_making = threading.RLock()

HELPERS = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

define internal i64 @get(ptr %base, i64 %at) alwaysinline {{
  %p = getelementptr i8, ptr %base, i64 %at
  %v = load i64, ptr %p
  ret i64 %v
}}
define internal void @put(ptr %base, i64 %at, i64 %value) alwaysinline {{
  %p = getelementptr i8, ptr %base, i64 %at
  store i64 %value, ptr %p
  ret void
}}
define internal ptr @pointer(ptr %base, i64 %at) alwaysinline {{
  %v = call i64 @get(ptr %base, i64 %at)
  %p = inttoptr i64 %v to ptr
  ret ptr %p
}}
define internal void @add(ptr %base, i64 %at, i64 %value) alwaysinline {{
  %old = call i64 @get(ptr %base, i64 %at)
  %new = add i64 %old, %value
  call void @put(ptr %base, i64 %at, i64 %new)
  ret void
}}
define internal void @stop(ptr %hart, i64 %reason) alwaysinline {{
  call void @put(ptr %hart, i64 {reason}, i64 %reason)
  %uc = call ptr @pointer(ptr %hart, i64 {uc})
  %f = inttoptr i64 {uc_emu_stop} to ptr
  %r = call i32 %f(ptr %uc)
  ret void
}}
"""
"""Words of memory by byte offset, and ending a run; the first part of every module."""


def once(make: Callable[[], _Made]) -> Callable[[], _Made]:
    """`functools.cache` for what changes the process: of several threads one makes it, and the
    others wait."""
    made = cache(make)

    @wraps(make)
    def get() -> _Made:
        with _making:
            return made()

    return get


def cell_words() -> dict[str, int]:
    """What IR text may name of the cells: fields as byte offsets, reasons as numbers."""
    words = {name: offset(HartCell, name) for name, *_ in HartCell._fields_}
    words |= {name: offset(ClockCell, name) for name, *_ in ClockCell._fields_}
    words |= {name: offset(WatchCell, name) for name, *_ in WatchCell._fields_}
    words |= {"cause_mask": TRAP_CAUSES - 1, "units_per_tick": UNITS_PER_TICK}
    names = ("DEADLINE", "FIRMWARE_CALL", "DOUBLE_FAULT", "CODE_CHECK")
    for name in (*names, "BREAKPOINT", "STEP", "WATCHPOINT"):
        words[name] = getattr(Reason, name)
    return words


def compile_ir(
    text: str, functions: Sequence[str], often: Sequence[str] | None = None
) -> Mapping[str, int]:
    """Compile a module; the addresses of its `functions`. The code lives as long as the process.

    `often`: those of them that make a difference to a guest's speed; all, unless it is given. The
    others are compiled as they stand, which takes a fifth of the time.
    """
    if often is None:
        return _compile(text, functions, optimize=True)
    return _compile(text, functions, optimize=False) | _compile(text, often, optimize=True)


def _compile(text: str, functions: Sequence[str], optimize: bool) -> dict[str, int]:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    module.verify()
    for function in module.functions:
        if not function.is_declaration and function.name not in functions:
            function.linkage = "internal"
    level = 2 if optimize else 0
    machine = llvm.Target.from_default_triple().create_target_machine(opt=level)
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    if optimize:
        # What this text needs, and no more: the whole of -O2 takes ten times as long and gains
        # nothing.
        passes.add_sroa_pass()
        passes.add_new_gvn_pass()
        passes.add_instruction_combine_pass()
        passes.add_simplify_cfg_pass()
        passes.add_tail_call_elimination_pass()
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    passes.run(module, llvm.create_pass_builder(machine, options))
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _keep.append(engine)
    return {name: engine.get_function_address(name) for name in functions}
