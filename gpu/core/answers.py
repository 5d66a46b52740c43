"""What a command is answered, made when its submission is complete."""

from __future__ import annotations

from collections.abc import Iterable

from gpu import protocol
from gpu.host.builds import Build
from gpu.host.result import Built, KernelDescription
from gpu.opencl import Status

_BUILD_SUCCESS, _BUILD_NONE, _BUILD_ERROR = 0, -1, -2
KINDS_OF_RECORD: dict[str, type[protocol.Answer]] = {
    kind.__name__: kind
    for kind in (
        protocol.ProgramInfo,
        protocol.ProgramPrints,
        protocol.KernelInfo,
        protocol.ImageFormats,
    )
}
"""Answers that are complete before their time has come."""
_TYPES = {"build": 4, "binary": 4, "link": 4, "compile": 1}
"""CL_PROGRAM_BINARY_TYPE by the recipe."""
_LIBRARY = 2


def answer_bytes(size: int, status: Status, answer: protocol.Answer | None) -> bytes:
    """An answer as it is written: its header, and its fields where they fit into `size` bytes."""
    body = answer.pack() if answer is not None and status == Status.SUCCESS else b""
    if protocol.ANSWER_HEADER.size + len(body) > size:
        # The guest learns how much room it would have needed.
        return protocol.ANSWER_HEADER.pack(Status.INVALID_VALUE, len(body))
    return protocol.ANSWER_HEADER.pack(status, len(body)) + body


def program_info(built: Built | None) -> protocol.ProgramInfo:
    if built is None or built.status != Status.SUCCESS:
        return protocol.ProgramInfo(kernels=b"", key=b"")
    names = ";".join(kernel.name for kernel in built.kernels)
    return protocol.ProgramInfo(kernels=names.encode()[: 1 << 18], key=built.key.encode())


def kernel_info(kernel: KernelDescription) -> protocol.KernelInfo:
    arguments = kernel.arguments or ()
    return protocol.KernelInfo(
        compile_work_group_size=kernel.compile_group,
        work_group_size=kernel.group,
        preferred_work_group_size_multiple=kernel.multiple,
        local_mem_size=kernel.local,
        private_mem_size=kernel.private,
        num_args=kernel.count,
        has_arguments=int(kernel.arguments is not None),
        address_qualifiers=tuple(argument.address for argument in arguments),
        access_qualifiers=tuple(argument.access for argument in arguments),
        type_qualifiers=tuple(argument.qualifiers for argument in arguments),
        type_names=_names(argument.type_name for argument in arguments),
        names=_names(argument.name for argument in arguments),
        attributes=_names((kernel.attributes,)),
    )


def _names(names: Iterable[str]) -> bytes:
    return b"".join(name.encode() + b"\0" for name in names)[: 1 << 16]


def build_info(build: Build | None) -> protocol.ProgramBuild:
    if build is None:
        return protocol.ProgramBuild(build_status=_BUILD_NONE, binary_type=0, log=b"")
    built = build.join()
    log = built.log.encode()[: 1 << 18]
    if built.status != Status.SUCCESS:
        return protocol.ProgramBuild(build_status=_BUILD_ERROR, binary_type=0, log=log)
    kind = _TYPES[build.recipe[0]]
    if build.recipe[0] == "link" and b"-create-library" in build.recipe[2].split():
        kind = _LIBRARY
    return protocol.ProgramBuild(build_status=_BUILD_SUCCESS, binary_type=kind, log=log)
