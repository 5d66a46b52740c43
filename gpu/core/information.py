"""What the virtual device says of itself: the host device's answers, and its own."""

from __future__ import annotations

import struct
from typing import Any

from gpu import protocol
from gpu.opencl import Status
from gpu.worker.printed import MOST as MAX_PRINTED

PLATFORM = {
    0x0900: "FULL_PROFILE",
    0x0901: "OpenCL 1.2 hypervisor",
    0x0902: "Hypervisor",
    0x0903: "Hypervisor",
    0x0904: "cl_khr_icd",
    0x0920: "HVGPU",
}
"""clGetPlatformInfo's answers."""
_GLOBAL_MEM_SIZE, _MAX_MEM_ALLOC_SIZE = 0x101F, 0x1010
_VERSION, _C_VERSION, _EXTENSIONS = 0x102F, 0x103D, 0x1030
_EXTENSIONS_KNOWN = (
    "cl_khr_3d_image_writes",
    "cl_khr_byte_addressable_store",
    "cl_khr_fp16",
    "cl_khr_fp64",
    "cl_khr_global_int32_base_atomics",
    "cl_khr_global_int32_extended_atomics",
    "cl_khr_int64_base_atomics",
    "cl_khr_int64_extended_atomics",
    "cl_khr_local_int32_base_atomics",
    "cl_khr_local_int32_extended_atomics",
)
"""Those of the language only: what needs the API stays the host's."""


class DeviceLimits:
    """The numbers that commands are checked against. `reason` says why there is no device."""

    def __init__(self, description: dict[str, Any], memory: int) -> None:
        self.reason = str(description.get("error", ""))
        self.missing: list[str] = description.get("missing", [])
        """What the worker's sandbox is without."""
        self.sharing = description.get("sharing", "copy")
        self.has_groups = description.get("groups") is True
        """Whether kernels are compiled for each size of work-groups that they are run in."""
        parameters = description.get("parameters", {})
        self.parameters = {int(name): bytes.fromhex(value) for name, value in parameters.items()}
        self.formats: dict[str, list[int]] = description.get("formats", {})
        self.platform = str(description.get("platform", ""))
        self.memory = min(memory, self.number(_GLOBAL_MEM_SIZE) or memory)
        self.max_alloc = min(self.memory, self.number(_MAX_MEM_ALLOC_SIZE) or self.memory)
        self.alignment = max(self.number(0x1019) // 8, 1)
        self.group = self.number(0x1004)
        sizes = self.parameters.get(0x1005, b"")
        self.item_sizes = struct.unpack(f"<{len(sizes) // 8}Q", sizes)
        self.local = self.number(0x1023)
        self.max_parameter = self.number(0x1017) or 1024
        self.has_images = bool(self.number(0x1016))
        self.image2d = self.number(0x1011), self.number(0x1012)
        self.image3d = self.number(0x1013), self.number(0x1014), self.number(0x1015)
        self.image_buffer = self.number(0x1040) or 65536
        self.image_array = self.number(0x1041) or 2048

    def number(self, name: int) -> int:
        """A parameter that is one number; 0 where the host does not have it."""
        return int.from_bytes(self.parameters.get(name, b""), "little")


def capset(limits: DeviceLimits) -> bytes:
    """The packed Capset."""
    platform = {name: text.encode() + b"\0" for name, text in PLATFORM.items()}
    if limits.reason:
        return protocol.Capset(
            status=Status.DEVICE_NOT_FOUND, platform=protocol.pack_parameters(platform)
        ).pack()
    device = dict(limits.parameters)
    device[_GLOBAL_MEM_SIZE] = struct.pack("<Q", limits.memory)
    device[_MAX_MEM_ALLOC_SIZE] = struct.pack("<Q", limits.max_alloc)
    device[_VERSION] = b"OpenCL 1.2 hypervisor\0"
    device[_C_VERSION] = b"OpenCL C 1.2 hypervisor\0"
    device[0x103F] = b"\0"  # no built-in kernels
    device[0x1049] = struct.pack("<Q", MAX_PRINTED)
    device[0x1043] = struct.pack("<I", 0)  # no sub-devices: partitions, properties, affinity, type
    device[0x1044] = device[0x1045] = struct.pack("<Q", 0)
    device[0x1046] = b""
    device[0x1047] = struct.pack("<I", 1)
    device[0x1048] = struct.pack("<I", 1)
    device[0x102A] = struct.pack("<Q", 3)
    device[_EXTENSIONS] = _extensions(limits) + b"\0"
    return protocol.Capset(
        platform=protocol.pack_parameters(platform), device=protocol.pack_parameters(device)
    ).pack()


def _extensions(limits: DeviceLimits) -> bytes:
    offered = limits.parameters.get(_EXTENSIONS, b"").rstrip(b"\0").decode().split()
    return " ".join(name for name in _EXTENSIONS_KNOWN if name in offered).encode()
