"""Programs: source, binaries from the cache, building, compiling and linking."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from gpu import protocol
from gpu.core.answers import program_info
from gpu.core.commands.registry import Found, check_scope, handles, refuse
from gpu.core.objects import Program
from gpu.core.schedule import Schedule
from gpu.core.work import Producer
from gpu.host.result import Built
from gpu.opencl import Status
from gpu.worker.printed import prints

if TYPE_CHECKING:
    from gpu.host.result import Recipe

MAX_BUILDS = 4
"""Builds of one context that are under way at once."""
MAX_RECIPE = 32 << 20
"""Bytes of all sources of a program, those of its parts as often as they are named."""
_PART = 1 << 16
"""What a part counts besides its sources."""
_FLAGS = re.compile(
    r"-cl-(single-precision-constant|denorms-are-zero|fp32-correctly-rounded-divide-sqrt"
    r"|opt-disable|strict-aliasing|mad-enable|no-signed-zeros|unsafe-math-optimizations"
    r"|finite-math-only|fast-relaxed-math|kernel-arg-info|std=CL1\.[012])|-w|-Werror|-g"
)
_LINK_FLAGS = re.compile(
    r"-create-library|-enable-link-options|-cl-(denorms-are-zero|no-signed-zeros"
    r"|unsafe-math-optimizations|finite-math-only|fast-relaxed-math)"
)
_LANGUAGE = "-cl-std=CL1.2"
"""What a build that names no version of OpenCL C is of, as the device's is; hosts may differ."""
_DEFINITION = re.compile(r"[A-Za-z_]\w*(\(.*\))?(=.*)?", re.DOTALL)


def clean_options(options: bytes, error: Status) -> bytes:
    """Compiler options of the specification (OpenCL 1.2, 5.6.4) only. Where headers are looked for
    is a folder of the guest's, which means nothing here."""
    try:
        words = shlex.split(options.rstrip(b"\0").decode())
    except ValueError:
        raise refuse(error) from None
    cleaned = []
    pending = iter(words)
    for word in pending:
        if word[:2] in ("-D", "-I"):
            value = word[2:] or next(pending, "")
            if word[:2] == "-I":
                continue
            if not _DEFINITION.fullmatch(value) or any(c in value for c in "\n\r\0\"'\\"):
                raise refuse(error)
            cleaned.append(f"-D{value}" if " " not in value else f'-D"{value}"')
        elif _FLAGS.fullmatch(word):
            cleaned.append(word)
        else:
            raise refuse(error)
    if not any(word.startswith("-cl-std=") for word in cleaned):
        cleaned.insert(0, _LANGUAGE)
    return " ".join(cleaned).encode()


def _link_options(options: bytes) -> bytes:
    words = options.rstrip(b"\0").split()
    if not all(_LINK_FLAGS.fullmatch(word.decode(errors="replace")) for word in words):
        raise refuse(Status.INVALID_LINKER_OPTIONS)
    return b" ".join(words)


@handles(protocol.CreateProgram)
def create_program(context: Schedule, command: protocol.CreateProgram, found: Found) -> None:
    source = command.source.rstrip(b"\0")
    if not source or b"\0" in source:
        raise refuse(Status.INVALID_VALUE)
    program = Program(
        context.new_number(), found["context"], recipe=("source", source), host=len(source)
    )
    context.add(command.id, program)


@handles(protocol.CreateProgramWithBinary)
def create_program_with_binary(
    context: Schedule, command: protocol.CreateProgramWithBinary, found: Found
) -> None:
    key = command.key.decode(errors="replace")
    built = context.gpu.builds.cached(key)
    if built is None or not built.binary:
        raise refuse(Status.INVALID_BINARY)
    program = Program(context.new_number(), found["context"], recipe=("binary", key))
    context.add(command.id, program)


@handles(protocol.BuildProgram)
def build_program(context: Schedule, command: protocol.BuildProgram, found: Found) -> Producer:
    program: Program = found["program"]
    options = clean_options(command.options, Status.INVALID_BUILD_OPTIONS)
    how = program.recipe[0]
    if program.kernels:
        raise refuse(Status.INVALID_OPERATION)
    if how == "binary":
        _start(context, program, None)
    elif how == "source":
        _start(context, program, ("build", program.recipe[1], options))
    else:  # it was linked, and is
        raise refuse(Status.INVALID_OPERATION)
    return "build", program.build


@handles(protocol.CompileProgram)
def compile_program(context: Schedule, command: protocol.CompileProgram, found: Found) -> Producer:
    program: Program = found["program"]
    options = clean_options(command.options, Status.INVALID_COMPILER_OPTIONS)
    names = command.names.split(b"\0")[:-1]
    if len(names) != len(found["headers"]) or not all(_is_header(name) for name in names):
        raise refuse(Status.INVALID_VALUE)
    if program.kernels or program.recipe[0] != "source":
        raise refuse(Status.INVALID_OPERATION)
    headers = []
    for name, header in zip(names, found["headers"], strict=True):
        if header.recipe[0] != "source":
            raise refuse(Status.INVALID_PROGRAM)
        headers.append((name, header.recipe))
    recipe = ("compile", program.recipe[1], tuple(headers), options)
    weight = _weight(recipe)
    if weight > MAX_RECIPE:
        raise refuse(Status.OUT_OF_HOST_MEMORY)
    context.hold(len(program.recipe[1]) + weight - program.host)
    program.host = len(program.recipe[1]) + weight
    _start(context, program, recipe)
    return "build", program.build


def _is_header(name: bytes) -> bool:
    return bool(name) and not name.startswith(b"/") and b".." not in name.split(b"/")


@handles(protocol.LinkProgram)
def link_program(context: Schedule, command: protocol.LinkProgram, found: Found) -> Producer:
    options = _link_options(command.options)
    check_scope(found["context"], *found["programs"])
    parts = []
    weight = _PART
    for part in found["programs"]:
        if part.build is None or not _is_compiled(part):
            raise refuse(Status.INVALID_PROGRAM)
        weight += _weight(part.build.recipe)
        if weight > MAX_RECIPE:
            raise refuse(Status.OUT_OF_HOST_MEMORY)
        parts.append(part.build.recipe)
    recipe = ("link", tuple(parts), options)
    program = Program(context.new_number(), found["context"], recipe=recipe, host=weight)
    context.add(command.id, program)
    _start(context, program, recipe)
    return "build", program.build


def _weight(recipe: Recipe) -> int:
    if recipe[0] == "link":
        return _PART + sum(_weight(part) for part in recipe[1])
    _, source, headers, _ = recipe
    return _PART + len(source) + sum(len(header[1]) for _, header in headers)


def _is_compiled(program: Program) -> bool:
    recipe = program.build.recipe if program.build is not None else ("",)
    is_library = recipe[0] == "link" and b"-create-library" in recipe[2].split()
    return (recipe[0] == "compile" or is_library) and built_of(program) is not None


def _start(context: Schedule, program: Program, recipe: Recipe | None) -> None:
    """Begin a build. It costs its queue-less time on the submission's fence."""
    under_way = context.under_way = [each for each in context.under_way if each.is_running]
    if len(under_way) >= MAX_BUILDS:
        under_way[0].join()
    builds = context.gpu.builds
    before, program.build = program.build, None
    if before is not None:
        context.let_go(before)
    program.build = builds.known(program.recipe[1]) if recipe is None else builds.build(recipe)
    context.keep(program.build)
    under_way.append(program.build)
    if program.is_loaded:
        context.operate("drop", program.number)
        program.is_loaded = False
        program.groups = program.refused = ()
    submission = context.submission
    assert submission is not None
    cost = context.gpu.options.model.build if context.gpu.is_modelled else 0
    submission.ready = max(submission.ready, context.now() + cost)


def built_of(program: Program) -> Built | None:
    """What was built, None where it was not or failed. Waits for the build."""
    if program.build is None:
        return None
    built = program.build.join()
    return built if built.status == Status.SUCCESS else None


@handles(protocol.GetProgramBuild)
def get_program_build(
    context: Schedule, command: protocol.GetProgramBuild, found: Found
) -> Producer:
    return "build_info", found["program"].build


@handles(protocol.GetProgramPrints)
def get_program_prints(
    context: Schedule, command: protocol.GetProgramPrints, found: Found
) -> Producer:
    built = built_of(found["program"])
    binary = built.binary if built is not None else b""
    return "record", protocol.ProgramPrints(prints=int(prints(binary)))


@handles(protocol.GetProgramInfo)
def get_program_info(context: Schedule, command: protocol.GetProgramInfo, found: Found) -> Producer:
    return "record", program_info(built_of(found["program"]))
