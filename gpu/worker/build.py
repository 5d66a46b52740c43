"""Compiles one program and is gone: nothing of it lives on in the process that executes.

What comes of it is a binary that the executing worker loads without a compiler, and all there is
to know of its kernels; or the kernels' code for one size of work-groups (see gpu.worker.groups).
PoCL loads what it has linked once, so that a source's constructors run here too: this process is
no more to be trusted than one that executes.
"""

from __future__ import annotations

from typing import Any

import pyopencl

from gpu.worker import groups

cl: Any = pyopencl
_low: Any = cl._cl
ARGUMENT_INFO = b"-cl-kernel-arg-info"
_SAME_EVERYWHERE = {
    b"__BASE_FILE__": b"program.cl",
    b"__DATE__": b"Jan  1 1970",
    b"__TIME__": b"00:00:00",
    b"__TIMESTAMP__": b"Thu Jan  1 00:00:00 1970",
}
"""Macros by which the host's clock and the names of its folders would be part of a program."""
_PRELUDE = b"\n".join(
    (
        b"#pragma clang diagnostic push",
        b'#pragma clang diagnostic ignored "-Wbuiltin-macro-redefined"',
        *(
            b'#undef %s\n#define %s "%s"' % (name, name, value)
            for name, value in _SAME_EVERYWHERE.items()
        ),
        b"#pragma clang diagnostic pop",
        b'#line 1 "%s"\n',
    )
)


def build(device: Any, recipe: Any) -> dict[str, Any]:
    """Follow a recipe: ["build", source, options], or ["link", [recipe...], options] of
    ["compile", source, [[name, recipe]...], options]. The result as plain data."""
    context = cl.Context([device])
    how = recipe[0]
    failure = {"build": -11, "compile": -15, "link": -17}[how]
    program = None
    try:
        if how == "link":
            parts = [_compile_part(context, device, part) for part in recipe[1]]
            program = _link(context, device, parts, recipe[2])
        else:
            program = _source(context, recipe[1])
            if how == "build":
                program._build(_options(recipe[2]), [device])
            else:
                _compile(program, context, device, recipe)
    except cl.Error as error:
        log = _log(program, device) or _log_of(error)
        code = error.code if error.code not in (-11, -15, -17) else failure
        return {"status": code, "log": log}
    result = {"status": 0, "log": _log(program, device), "kernels": [], "binary": ""}
    if how == "compile" or b"-create-library" in recipe[2].split():
        return result
    result["binary"] = program.get_info(cl.program_info.BINARIES)[0].hex()
    result["kernels"] = [_describe(kernel, device) for kernel in program.all_kernels()]
    return result


def build_for_group(device: Any, recipe: Any, binary: bytes) -> dict[str, Any]:
    """Follow a recipe ["group", "X-Y-Z", ["build" or "link"...]], whose program's `binary` is
    known: every kernel's code for work-groups of that size, as plain data."""
    context = cl.Context([device])
    _, size, (how, *rest) = recipe
    # With it comes the code for any size, which then needs not be compiled again.
    known = _low._Program(context, [device], [binary])
    known._build(b"", [device])
    if how == "build":
        program = _source(context, rest[0])
        program._build(_options(rest[1]), [device])
    else:
        program = _compile_part(context, device, recipe[2])
    objects = groups.compile_for(size, program, cl.program_info.BINARIES)
    status = 0 if objects else -11
    return {"status": status, "log": "", "kernels": [], "binary": "", "objects": objects}


def _source(context: Any, text: bytes, name: bytes = b"program.cl") -> Any:
    return _low._Program(context, _PRELUDE % name + text)


def _options(options: bytes) -> bytes:
    return options if ARGUMENT_INFO in options else b" ".join((options, ARGUMENT_INFO)).strip()


def _compile(program: Any, context: Any, device: Any, recipe: Any) -> None:
    _, _, headers, options = recipe
    named = [(name.decode(), _source(context, part[1], name)) for name, part in headers]
    program.compile(_options(options), [device], named)


def _compile_part(context: Any, device: Any, recipe: Any) -> Any:
    if recipe[0] == "compile":
        program = _source(context, recipe[1])
        _compile(program, context, device, recipe)
        return program
    parts = [_compile_part(context, device, part) for part in recipe[1]]
    return _link(context, device, parts, recipe[2])


def _link(context: Any, device: Any, parts: Any, options: bytes) -> Any:
    # PoCL's linker has to be asked for what its compiler was asked for.
    wanted = _options(options) if groups.is_supported(device) else options
    return _low._Program.link(context, parts, wanted, [device])


def _log(program: Any, device: Any) -> str:
    if program is None:
        return ""
    try:
        return str(program.get_build_info(device, cl.program_build_info.LOG))
    except cl.Error:
        return ""


def _log_of(error: Any) -> str:
    return str(getattr(error, "what", error))


def _describe(kernel: Any, device: Any) -> dict[str, Any]:
    group, argument = cl.kernel_work_group_info, cl.kernel_arg_info
    count = kernel.get_info(cl.kernel_info.NUM_ARGS)

    def of_group(what: int, default: Any = 0) -> Any:
        try:
            return kernel.get_work_group_info(what, device)
        except cl.Error:
            return default

    arguments = []
    for index in range(count):
        try:
            arguments.append(
                [
                    kernel.get_arg_info(index, argument.ADDRESS_QUALIFIER),
                    kernel.get_arg_info(index, argument.ACCESS_QUALIFIER),
                    kernel.get_arg_info(index, argument.TYPE_QUALIFIER),
                    kernel.get_arg_info(index, argument.TYPE_NAME),
                    kernel.get_arg_info(index, argument.NAME),
                ]
            )
        except cl.Error:
            break
    try:
        attributes = kernel.get_info(cl.kernel_info.ATTRIBUTES)
    except cl.Error:
        attributes = ""
    return {
        "name": kernel.get_info(cl.kernel_info.FUNCTION_NAME),
        "count": count,
        "arguments": arguments if len(arguments) == count else None,
        "compile_group": list(of_group(group.COMPILE_WORK_GROUP_SIZE, [0, 0, 0])),
        "group": of_group(group.WORK_GROUP_SIZE),
        "multiple": of_group(group.PREFERRED_WORK_GROUP_SIZE_MULTIPLE, 1),
        "local": of_group(group.LOCAL_MEM_SIZE),
        "private": of_group(group.PRIVATE_MEM_SIZE),
        "attributes": attributes,
    }
