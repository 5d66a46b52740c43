"""Turns LLVM IR text into callable native code, once per process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_keep: list[Any] = []


def compile_ir(text: str, functions: tuple[str, ...]) -> Mapping[str, int]:
    """Compile a module; the addresses of its `functions`. The code lives as long as the process."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _keep.append(engine)
    return {name: engine.get_function_address(name) for name in functions}
