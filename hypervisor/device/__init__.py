"""The device kit: all that a device model may import of the hypervisor."""

from hypervisor.device.backends import (
    BackendError,
    BlockBackend,
    ByteChannel,
    HostIO,
    NetBackend,
)
from hypervisor.device.board import (
    Board,
    Clock,
    Control,
    GuestMemory,
    Hart,
    MemoryAccessError,
    Timer,
)
from hypervisor.device.device import Device
from hypervisor.device.device_events import (
    DeviceEvent,
    Event,
    GpuCommand,
    GpuFinding,
    InterruptAcknowledge,
    InterruptComplete,
    VirtqueueCompletion,
    VirtqueueRequest,
)
from hypervisor.device.display import Display
from hypervisor.device.faults import GpuHook, PacketHook, RequestFault, RequestHook
from hypervisor.device.line import Line
from hypervisor.device.options import Address, Duration, FileRef, LineEnd, Options, Size
from hypervisor.device.registers import Field, Register, SystemRegisters, registers_of
from hypervisor.device.seat import Seat
from hypervisor.device.tree import Node, Ref, Value

__all__ = [
    "Address",
    "BackendError",
    "BlockBackend",
    "Board",
    "ByteChannel",
    "Clock",
    "Control",
    "Device",
    "DeviceEvent",
    "Display",
    "Duration",
    "Event",
    "Field",
    "FileRef",
    "GpuCommand",
    "GpuFinding",
    "GpuHook",
    "GuestMemory",
    "Hart",
    "HostIO",
    "InterruptAcknowledge",
    "InterruptComplete",
    "Line",
    "LineEnd",
    "MemoryAccessError",
    "NetBackend",
    "Node",
    "Options",
    "PacketHook",
    "Ref",
    "Register",
    "RequestFault",
    "RequestHook",
    "Seat",
    "Size",
    "SystemRegisters",
    "Timer",
    "Value",
    "VirtqueueCompletion",
    "VirtqueueRequest",
    "registers_of",
]
