"""Numbers of the OpenCL 1.2 specification (revision 19, appendix and header) that the GPU uses."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Status(IntEnum):
    """Error codes of the API; also what an event's status below zero means."""

    SUCCESS = 0
    DEVICE_NOT_FOUND = -1
    DEVICE_NOT_AVAILABLE = -2
    COMPILER_NOT_AVAILABLE = -3
    MEM_OBJECT_ALLOCATION_FAILURE = -4
    OUT_OF_RESOURCES = -5
    OUT_OF_HOST_MEMORY = -6
    PROFILING_INFO_NOT_AVAILABLE = -7
    MEM_COPY_OVERLAP = -8
    IMAGE_FORMAT_MISMATCH = -9
    IMAGE_FORMAT_NOT_SUPPORTED = -10
    BUILD_PROGRAM_FAILURE = -11
    MAP_FAILURE = -12
    MISALIGNED_SUB_BUFFER_OFFSET = -13
    EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST = -14
    COMPILE_PROGRAM_FAILURE = -15
    LINKER_NOT_AVAILABLE = -16
    LINK_PROGRAM_FAILURE = -17
    DEVICE_PARTITION_FAILED = -18
    KERNEL_ARG_INFO_NOT_AVAILABLE = -19
    INVALID_VALUE = -30
    INVALID_DEVICE_TYPE = -31
    INVALID_PLATFORM = -32
    INVALID_DEVICE = -33
    INVALID_CONTEXT = -34
    INVALID_QUEUE_PROPERTIES = -35
    INVALID_COMMAND_QUEUE = -36
    INVALID_HOST_PTR = -37
    INVALID_MEM_OBJECT = -38
    INVALID_IMAGE_FORMAT_DESCRIPTOR = -39
    INVALID_IMAGE_SIZE = -40
    INVALID_SAMPLER = -41
    INVALID_BINARY = -42
    INVALID_BUILD_OPTIONS = -43
    INVALID_PROGRAM = -44
    INVALID_PROGRAM_EXECUTABLE = -45
    INVALID_KERNEL_NAME = -46
    INVALID_KERNEL_DEFINITION = -47
    INVALID_KERNEL = -48
    INVALID_ARG_INDEX = -49
    INVALID_ARG_VALUE = -50
    INVALID_ARG_SIZE = -51
    INVALID_KERNEL_ARGS = -52
    INVALID_WORK_DIMENSION = -53
    INVALID_WORK_GROUP_SIZE = -54
    INVALID_WORK_ITEM_SIZE = -55
    INVALID_GLOBAL_OFFSET = -56
    INVALID_EVENT_WAIT_LIST = -57
    INVALID_EVENT = -58
    INVALID_OPERATION = -59
    INVALID_GL_OBJECT = -60
    INVALID_BUFFER_SIZE = -61
    INVALID_MIP_LEVEL = -62
    INVALID_GLOBAL_WORK_SIZE = -63
    INVALID_PROPERTY = -64
    INVALID_IMAGE_DESCRIPTOR = -65
    INVALID_COMPILER_OPTIONS = -66
    INVALID_LINKER_OPTIONS = -67
    INVALID_DEVICE_PARTITION_COUNT = -68


class Execution(IntEnum):
    """Status of a command that has not failed."""

    COMPLETE = 0
    RUNNING = 1
    SUBMITTED = 2
    QUEUED = 3


class MemFlags(IntFlag):
    READ_WRITE = 1 << 0
    WRITE_ONLY = 1 << 1
    READ_ONLY = 1 << 2
    USE_HOST_PTR = 1 << 3
    ALLOC_HOST_PTR = 1 << 4
    COPY_HOST_PTR = 1 << 5
    HOST_WRITE_ONLY = 1 << 7
    HOST_READ_ONLY = 1 << 8
    HOST_NO_ACCESS = 1 << 9


class MapFlags(IntFlag):
    READ = 1 << 0
    WRITE = 1 << 1
    WRITE_INVALIDATE_REGION = 1 << 2


class MigrateFlags(IntFlag):
    HOST = 1 << 0
    CONTENT_UNDEFINED = 1 << 1


class QueueProperties(IntFlag):
    OUT_OF_ORDER_EXEC_MODE = 1 << 0
    PROFILING = 1 << 1


class MemObject(IntEnum):
    """cl_mem_object_type."""

    BUFFER = 0x10F0
    IMAGE2D = 0x10F1
    IMAGE3D = 0x10F2
    IMAGE2D_ARRAY = 0x10F3
    IMAGE1D = 0x10F4
    IMAGE1D_ARRAY = 0x10F5
    IMAGE1D_BUFFER = 0x10F6


class ChannelOrder(IntEnum):
    R = 0x10B0
    A = 0x10B1
    RG = 0x10B2
    RA = 0x10B3
    RGB = 0x10B4
    RGBA = 0x10B5
    BGRA = 0x10B6
    ARGB = 0x10B7
    INTENSITY = 0x10B8
    LUMINANCE = 0x10B9
    RX = 0x10BA
    RGX = 0x10BB
    RGBX = 0x10BC
    DEPTH = 0x10BD
    DEPTH_STENCIL = 0x10BE


class ChannelType(IntEnum):
    SNORM_INT8 = 0x10D0
    SNORM_INT16 = 0x10D1
    UNORM_INT8 = 0x10D2
    UNORM_INT16 = 0x10D3
    UNORM_SHORT_565 = 0x10D4
    UNORM_SHORT_555 = 0x10D5
    UNORM_INT_101010 = 0x10D6
    SIGNED_INT8 = 0x10D7
    SIGNED_INT16 = 0x10D8
    SIGNED_INT32 = 0x10D9
    UNSIGNED_INT8 = 0x10DA
    UNSIGNED_INT16 = 0x10DB
    UNSIGNED_INT32 = 0x10DC
    HALF_FLOAT = 0x10DD
    FLOAT = 0x10DE
    UNORM_INT24 = 0x10DF


class AddressingMode(IntEnum):
    NONE = 0x1130
    CLAMP_TO_EDGE = 0x1131
    CLAMP = 0x1132
    REPEAT = 0x1133
    MIRRORED_REPEAT = 0x1134


class FilterMode(IntEnum):
    NEAREST = 0x1140
    LINEAR = 0x1141


_CHANNELS = {
    ChannelOrder.R: 1,
    ChannelOrder.A: 1,
    ChannelOrder.RG: 2,
    ChannelOrder.RA: 2,
    ChannelOrder.RGB: 3,
    ChannelOrder.RGBA: 4,
    ChannelOrder.BGRA: 4,
    ChannelOrder.ARGB: 4,
    ChannelOrder.INTENSITY: 1,
    ChannelOrder.LUMINANCE: 1,
    ChannelOrder.RX: 2,
    ChannelOrder.RGX: 3,
    ChannelOrder.RGBX: 4,
    ChannelOrder.DEPTH: 1,
    ChannelOrder.DEPTH_STENCIL: 1,
}
_PACKED = {
    ChannelType.UNORM_SHORT_565: 2,
    ChannelType.UNORM_SHORT_555: 2,
    ChannelType.UNORM_INT_101010: 4,
    ChannelType.UNORM_INT24: 4,
}
_CHANNEL_BYTES = {
    ChannelType.SNORM_INT8: 1,
    ChannelType.SNORM_INT16: 2,
    ChannelType.UNORM_INT8: 1,
    ChannelType.UNORM_INT16: 2,
    ChannelType.SIGNED_INT8: 1,
    ChannelType.SIGNED_INT16: 2,
    ChannelType.SIGNED_INT32: 4,
    ChannelType.UNSIGNED_INT8: 1,
    ChannelType.UNSIGNED_INT16: 2,
    ChannelType.UNSIGNED_INT32: 4,
    ChannelType.HALF_FLOAT: 2,
    ChannelType.FLOAT: 4,
}


def pixel_size(order: int, kind: int) -> int:
    """Bytes of one image element (section 5.3.1.1); 0 where there is no such format."""
    packed = _PACKED.get(kind)  # type: ignore[call-overload]
    if packed is not None:
        return int(packed)
    channels = _CHANNELS.get(order, 0)  # type: ignore[call-overload]
    size = _CHANNEL_BYTES.get(kind, 0)  # type: ignore[call-overload]
    return int(channels) * int(size)
