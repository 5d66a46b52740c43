"""A few events of each kind, as a machine would publish them."""

from dataclasses import dataclass

import pytest

from hypervisor.device import Field
from hypervisor.events import (
    DeviceEvent,
    DmaTransfer,
    FirmwareCall,
    GpuCommand,
    InterruptAcknowledge,
    InterruptChange,
    InterruptComplete,
    InterruptTaken,
    MmioAccess,
    Reset,
    TimerFired,
    Trap,
    VirtqueueCompletion,
    VirtqueueRequest,
)


@dataclass(frozen=True, slots=True)
class Blink(DeviceEvent):
    kind = "test-blink"
    count: int


@pytest.fixture
def events():
    fields = (Field("DR", 0), Field("MODE", (6, 5)))
    return [
        Reset(0),
        MmioAccess(10, "uart0", "LSR", 5, 1, 0x61, False, 0, fields),
        VirtqueueRequest(20, "disk0", "requestq", 3, 16, 513),
        VirtqueueRequest(25, "disk0", "requestq", 4, 16, 513),
        DmaTransfer(30, "disk0", 0x8000_0000, 512, True),
        VirtqueueCompletion(40, "disk0", "requestq", 3, 513),
        InterruptChange(41, "disk0", True, "plic.1"),
        InterruptTaken(45, 0, 9, "supervisor external interrupt", 0xFFFF_FFFF_8000_0000),
        InterruptAcknowledge(50, "plic", 1, 0, "disk0", 9, 4),
        MmioAccess(55, "disk0", "InterruptACK", 0x64, 4, 1, True, 0),
        InterruptChange(55, "disk0", False, "plic.1"),
        InterruptComplete(60, "plic", 1, 0, "disk0"),
        VirtqueueCompletion(65, "disk0", "requestq", 4, 513),
        TimerFired(70, "sbi.timer0", 69),
        Trap(80, 1, 13, "load page fault", 0x1000, 0xFFFF_FFFF_FFFF_FFF8),
        FirmwareCall(90, 0, "sbi", "time", 0),
        GpuCommand(95, "gpu0", "3d", 1, "launch", False, "matmul"),
        GpuCommand(99, "gpu0", "3d", 1, "launch", True),
        Blink(100, "blinker0", 7),
    ]
