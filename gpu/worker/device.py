"""The host's OpenCL device: which one, and what it says of itself."""

from __future__ import annotations

import struct
from typing import Any

import pyopencl

from gpu.worker import direct, groups

cl: Any = pyopencl
KIND_NAMES = {"cpu": cl.device_type.CPU, "gpu": cl.device_type.GPU}

_U32, _U64, _TEXT, _SIZES = "<I", "<Q", "text", "sizes"

_DEVICE = {
    **dict.fromkeys((0x1000, 0x1010, 0x101E, 0x101F, 0x1020, 0x1023), _U64),
    **dict.fromkeys((0x1001, 0x1002, 0x1003, *range(0x1006, 0x1010)), _U32),
    **dict.fromkeys((0x1004, 0x1011, 0x1012, 0x1013, 0x1014, 0x1015, 0x1017, 0x1025), _U64),
    **dict.fromkeys((0x1016, 0x1018, 0x1019, 0x101A, 0x101C, 0x101D, 0x1021, 0x1022), _U32),
    **dict.fromkeys((0x1024, 0x1026, 0x1027, 0x1028, *range(0x1034, 0x103D), 0x103E), _U32),
    **dict.fromkeys((0x101B, 0x1029, 0x102A, 0x1032, 0x1033), _U64),
    **dict.fromkeys((0x102B, 0x102C, 0x102D, 0x102E, 0x102F, 0x1030, 0x103D, 0x103F), _TEXT),
    **dict.fromkeys((0x1040, 0x1041), _U64),
    0x1005: _SIZES,
    0x1048: _U32,
}
"""clGetDeviceInfo's parameters (OpenCL 1.2, table 4.3) by the type of their value. What the virtual
device answers for itself is the hypervisor's: partitions, references, the printf buffer."""


def choose(platform: str, device: str) -> Any:
    """The device of these options. LookupError with a sentence where there is none."""
    try:
        platforms = cl.get_platforms()
    except cl.Error:
        platforms = []
    if not platforms:
        raise LookupError("the host has no OpenCL platform")
    # An interpreter is for those who ask for it.
    platforms.sort(key=lambda each: "oclgrind" in each.name.lower())
    named = [p for p in platforms if platform == "auto" or platform.lower() in p.name.lower()]
    if not named:
        names = ", ".join(p.name for p in platforms)
        raise LookupError(f"no OpenCL platform is named '{platform}'; there are: {names}")
    found = []
    for each in named:
        try:
            # What helps another device is for those who ask for it.
            found += sorted(each.get_devices(), key=direct.is_direct)
        except cl.Error:  # DEVICE_NOT_FOUND: a platform without devices
            continue
    kind = KIND_NAMES.get(device)
    for each in found:
        if device == "auto" or (kind is not None and each.type & kind):
            return each
        if kind is None and device.lower() in each.name.lower():
            return each
    names = ", ".join(d.name for d in found) or "none"
    raise LookupError(f"no OpenCL device is '{device}'; there are: {names}")


def describe(device: Any) -> dict[str, Any]:
    """Plain data for the hypervisor: parameters in hex, image formats, how memory is shared."""
    parameters = {}
    for name, kind in _DEVICE.items():
        try:
            value = device.get_info(name)
        except cl.Error:
            continue
        parameters[str(name)] = _bytes(value, kind).hex()
    is_cpu = bool(device.type & cl.device_type.CPU)
    unified = bool(device.get_info(0x1035))
    return {
        "platform": device.platform.name,
        "platform_version": device.platform.version,
        "parameters": parameters,
        "formats": _formats(device) if device.image_support else {},
        "groups": groups.is_supported(device),
        "executes_itself": direct.is_direct(device) or direct.beside(device) is not None,
        "sharing": "zero-copy" if is_cpu and unified else "map" if unified else "copy",
    }


def _bytes(value: Any, kind: str) -> bytes:
    if kind == _TEXT:
        return str(value).encode() + b"\0"
    if kind == _SIZES:
        return struct.pack(f"<{len(value)}Q", *value)
    return struct.pack(kind, int(value))


def _formats(device: Any) -> dict[str, list[int]]:
    """Channel orders and types one after another, by "access,type". LookupError where the device
    makes no context."""
    try:
        context = cl.Context([device])
    except cl.Error as error:
        raise LookupError(f"the OpenCL device '{device.name}' cannot be used: {error}") from None
    found = {}
    for access in (1, 2, 4):
        for kind in range(0x10F1, 0x10F7):
            try:
                formats = cl._cl.get_supported_image_formats(context, access, kind)
            except cl.Error:
                formats = []
            flat = [n for f in formats for n in (f.channel_order, f.channel_data_type)]
            found[f"{access},{kind}"] = flat
    return found
