"""Numbers and structures of virtio-gpu, as VIRTIO 1.2, section 5.7, "GPU Device", has them."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

F_VIRGL = 1 << 0
F_EDID = 1 << 1
F_RESOURCE_BLOB = 1 << 3
F_CONTEXT_INIT = 1 << 4

EVENT_DISPLAY = 1 << 0
"""Bit of events_read: the displays changed."""

FLAG_FENCE = 1 << 0
FLAG_INFO_RING_IDX = 1 << 1

BLOB_MEM_GUEST = 1
CAPSET_MASK = 0xFF
"""The bits of a context's `context_init` that name its capability set."""

MAX_SCANOUTS = 16
"""Entries of a display info, whatever there is."""
EDID_SIZE = 1024


class Command(IntEnum):
    """What the driver asks: virtio_gpu_ctrl_type."""

    GET_DISPLAY_INFO = 0x0100
    RESOURCE_CREATE_2D = 0x0101
    RESOURCE_UNREF = 0x0102
    SET_SCANOUT = 0x0103
    RESOURCE_FLUSH = 0x0104
    TRANSFER_TO_HOST_2D = 0x0105
    RESOURCE_ATTACH_BACKING = 0x0106
    RESOURCE_DETACH_BACKING = 0x0107
    GET_CAPSET_INFO = 0x0108
    GET_CAPSET = 0x0109
    GET_EDID = 0x010A
    RESOURCE_CREATE_BLOB = 0x010C
    SET_SCANOUT_BLOB = 0x010D
    CTX_CREATE = 0x0200
    CTX_DESTROY = 0x0201
    CTX_ATTACH_RESOURCE = 0x0202
    CTX_DETACH_RESOURCE = 0x0203
    SUBMIT_3D = 0x0207
    UPDATE_CURSOR = 0x0300
    MOVE_CURSOR = 0x0301


class Response(IntEnum):
    """What the device answers."""

    OK_NODATA = 0x1100
    OK_DISPLAY_INFO = 0x1101
    OK_CAPSET_INFO = 0x1102
    OK_CAPSET = 0x1103
    OK_EDID = 0x1104
    ERR_UNSPEC = 0x1200
    ERR_OUT_OF_MEMORY = 0x1201
    ERR_INVALID_SCANOUT_ID = 0x1202
    ERR_INVALID_RESOURCE_ID = 0x1203
    ERR_INVALID_CONTEXT_ID = 0x1204
    ERR_INVALID_PARAMETER = 0x1205


class Header(NamedTuple):
    """virtio_gpu_ctrl_hdr, which begins every request and every response."""

    type: int
    flags: int
    fence_id: int
    ctx_id: int
    ring_idx: int

    def pack(self) -> bytes:
        return HEADER.pack(*self)


HEADER = Struct("<IIQIB3x")

LAYOUTS: dict[Command, Struct] = {
    Command.GET_DISPLAY_INFO: Struct("<"),
    Command.RESOURCE_CREATE_2D: Struct("<4I"),  # resource_id, format, width, height
    Command.RESOURCE_UNREF: Struct("<I4x"),  # resource_id
    Command.SET_SCANOUT: Struct("<4I2I"),  # x, y, width, height, scanout_id, resource_id
    Command.RESOURCE_FLUSH: Struct("<4II4x"),  # x, y, width, height, resource_id
    Command.TRANSFER_TO_HOST_2D: Struct("<4IQI4x"),  # x, y, width, height, offset, resource_id
    Command.RESOURCE_ATTACH_BACKING: Struct("<2I"),  # resource_id, nr_entries
    Command.RESOURCE_DETACH_BACKING: Struct("<I4x"),  # resource_id
    Command.GET_CAPSET_INFO: Struct("<I4x"),  # capset_index
    Command.GET_CAPSET: Struct("<2I"),  # capset_id, capset_version
    Command.GET_EDID: Struct("<I4x"),  # scanout
    # resource_id, blob_mem, blob_flags, nr_entries, blob_id, size
    Command.RESOURCE_CREATE_BLOB: Struct("<4I2Q"),
    # x, y, width, height, scanout_id, resource_id, width, height, format, strides, offsets
    Command.SET_SCANOUT_BLOB: Struct("<4I2I3I4xI12xI12x"),
    Command.CTX_CREATE: Struct("<2I64s"),  # nlen, context_init, debug_name
    Command.CTX_DESTROY: Struct("<"),
    Command.CTX_ATTACH_RESOURCE: Struct("<I4x"),  # resource_id
    Command.CTX_DETACH_RESOURCE: Struct("<I4x"),  # resource_id
    Command.SUBMIT_3D: Struct("<I4x"),  # size
    # scanout_id, x, y, resource_id, hot_x, hot_y
    Command.UPDATE_CURSOR: Struct("<3I4x3I4x"),
    Command.MOVE_CURSOR: Struct("<3I4x3I4x"),
}
"""What follows the header of each request."""

DISPLAY = Struct("<6I")
"""x, y, width, height, enabled, flags."""
CAPSET_INFO = Struct("<3I4x")
"""capset_id, capset_max_version, capset_max_size."""
EDID = Struct(f"<I4x{EDID_SIZE}s")
"""size, edid."""
MEMORY_ENTRY = Struct("<QI4x")
"""addr, length."""


class CommandError(Exception):
    """A request that is answered with an error: its response, and what was wrong."""

    def __init__(self, response: Response, reason: str) -> None:
        super().__init__(reason)
        self.response = response
