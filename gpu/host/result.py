"""What a compiler's process answered, as far as it makes sense.

A source can take that process over, so its answer may be anything that JSON can say. `parse` makes
the result anew, of what is known only: text that can be encoded, numbers that fit their fields,
nothing without a bound. `plain` is the same again as plain data, for the disk to keep.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gpu.opencl import Status

Recipe = tuple[Any, ...]
MAX_LOG = 1 << 18
MAX_CODE = 32 << 20
"""Bytes of a binary, and of all the objects that a result has."""
_MAX_KERNELS = 1 << 14
_MAX_ARGUMENTS = 1 << 10
_MAX_NAME = 1 << 12
_MAX_KERNEL_NAME = 512
"""Events of a kernel's runs keep it. PoCL makes files of that name, so its own are shorter."""
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.]*")
"""A kernel's name, which logs and monitors show."""
_MAX_ATTRIBUTES = 1 << 16
_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1
_TEXT_BYTES = 64
"""Of a text in the hypervisor's memory, besides its characters."""
_PART_BYTES = 256
"""Of the description of a kernel or an argument, besides its texts, about."""


@dataclass(frozen=True)
class ArgumentDescription:
    """clGetKernelArgInfo's numbers and names."""

    address: int
    access: int
    qualifiers: int
    type_name: str
    name: str


@dataclass(frozen=True)
class KernelDescription:
    """All there is to know of a kernel."""

    name: str
    count: int
    arguments: tuple[ArgumentDescription, ...] | None
    compile_group: tuple[int, int, int]
    group: int
    multiple: int
    local: int
    private: int
    attributes: str


@dataclass(frozen=True)
class Built:
    """What came of a recipe."""

    status: Status
    log: str = ""
    binary: bytes = b""
    kernels: tuple[KernelDescription, ...] = ()
    key: str = ""
    recipe: Recipe = ()
    objects: tuple[tuple[str, bytes], ...] = ()
    """Of a recipe "group": kernels' names and code."""
    is_lost: bool = False
    """Its compiler was ended, or did not start: what comes of the recipe next time may be else."""

    @property
    def size(self) -> int:
        """Bytes of the hypervisor's memory, about."""
        objects = sum(_held(name) + len(code) for name, code in self.objects)
        return _held(self.log) + len(self.binary) + sum(map(_described, self.kernels)) + objects

    def kernel(self, name: str) -> KernelDescription | None:
        return next((kernel for kernel in self.kernels if kernel.name == name), None)


def _described(kernel: KernelDescription) -> int:
    arguments = sum(
        _PART_BYTES + _held(each.type_name) + _held(each.name) for each in kernel.arguments or ()
    )
    return _PART_BYTES + _held(kernel.name) + _held(kernel.attributes) + arguments


def _held(text: str) -> int:
    # One character beyond ASCII may have all of a text take four bytes each.
    return _TEXT_BYTES + len(text) * (1 if text.isascii() else 4)


def parse(result: Any, failure: Status, key: str, recipe: Recipe = ()) -> Built:
    """The result of a recipe, from what its compiler's process said or what `plain` made of it.
    `failure` is the status of what makes no sense."""
    try:
        code = result["status"]
        log = _text(scrub(_text(result["log"], MAX_LOG)), MAX_LOG)
        if code != 0:
            known = type(code) is int and code < 0 and code in Status._value2member_map_
            return Built(Status(code) if known else failure, log)
        if recipe[:1] == ("group",):
            objects = _objects(result["objects"])
            return Built(Status.SUCCESS, log, key=key, recipe=recipe, objects=objects)
        kernels = tuple(_kernel(each) for each in _list(result["kernels"], _MAX_KERNELS))
        binary = _code(result["binary"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return Built(failure, "the compiler failed\n")
    return Built(Status.SUCCESS, log, binary, kernels, key, recipe)


def plain(built: Built) -> dict[str, Any]:
    """A result that succeeded, as `parse` takes it."""
    return {
        "status": 0,
        "log": built.log,
        "kernels": [_plain_kernel(kernel) for kernel in built.kernels],
        "binary": built.binary.hex(),
        "objects": {name: code.hex() for name, code in built.objects},
    }


def _plain_kernel(kernel: KernelDescription) -> dict[str, Any]:
    arguments = None
    if kernel.arguments is not None:
        arguments = [list(vars(each).values()) for each in kernel.arguments]
    return {**vars(kernel), "arguments": arguments, "compile_group": list(kernel.compile_group)}


_PATH = re.compile(r"(?<![\w.])/(?:[\w.+@~-]+/)*[\w.+@~-]+")


def scrub(log: str) -> str:
    """A build log without the host's paths."""
    return _PATH.sub(lambda match: _name(match[0]), log)


def _name(path: str) -> str:
    return "program.cl" if path.endswith(".cl") else "..."


def _kernel(data: dict[str, Any]) -> KernelDescription:
    count = _number(data["count"], _MAX_ARGUMENTS)
    described = None
    if data["arguments"] is not None:
        described = tuple(_argument(each) for each in _list(data["arguments"], count))
        if len(described) != count:
            raise ValueError("arguments")
    x, y, z = (_number(size, _U64) for size in data["compile_group"])
    name = _text(data["name"], _MAX_NAME)
    if len(name) > _MAX_KERNEL_NAME or _IDENTIFIER.fullmatch(name) is None:
        raise ValueError("name")
    return KernelDescription(
        name,
        count,
        described,
        (x, y, z),
        _number(data["group"], _U64),
        _number(data["multiple"], _U64),
        _number(data["local"], _U64),
        _number(data["private"], _U64),
        _text(data["attributes"], _MAX_ATTRIBUTES),
    )


def _argument(data: Any) -> ArgumentDescription:
    address, access, qualifiers, type_name, name = data
    return ArgumentDescription(
        _number(address, _U32),
        _number(access, _U32),
        _number(qualifiers, _U32),
        _text(type_name, _MAX_NAME),
        _text(name, _MAX_NAME),
    )


def _objects(data: Any) -> tuple[tuple[str, bytes], ...]:
    if len(data) > _MAX_KERNELS:
        raise ValueError("objects")
    objects = tuple((_text(name, _MAX_NAME), _code(code)) for name, code in data.items())
    if sum(len(code) for _, code in objects) > MAX_CODE:
        raise ValueError("objects")
    return objects


def _code(data: Any) -> bytes:
    code = bytes.fromhex(data)
    if len(code) > MAX_CODE:
        raise ValueError("code")
    return code


def _text(data: Any, most: int) -> str:
    """At most `most` bytes of a text that can be encoded: JSON's may have half a character."""
    if not isinstance(data, str):
        raise TypeError("text")
    return data[:most].encode(errors="replace")[:most].decode(errors="ignore")


def _number(data: Any, most: int) -> int:
    if type(data) is not int or not 0 <= data <= most:
        raise ValueError("number")
    return data


def _list(data: Any, most: int) -> list[Any]:
    if not isinstance(data, list) or len(data) > most:
        raise ValueError("list")
    return data
