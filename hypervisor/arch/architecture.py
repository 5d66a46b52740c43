"""What a machine asks of its architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from hypervisor.boot.firmware import Firmware
from hypervisor.boot.layout import Placement
from hypervisor.boot.loadable import Loadable
from hypervisor.cpu.cells import ClockCell
from hypervisor.cpu.hart import Hart
from hypervisor.device.tree import Node

if TYPE_CHECKING:
    from hypervisor.machine import Machine


class Architecture(ABC):
    """Makes the parts of a machine that differ. Keeps no state."""

    reserved: ClassVar[int] = 0
    """Bytes at the end of RAM that `enter` fills; no boot file is put there."""
    code_alignment: ClassVar[int] = 4
    """Bytes at whose multiples instructions begin."""

    @abstractmethod
    def make_hart(self, index: int, clock: ClockCell) -> Hart:
        """A hart, on an engine that is proven to be the one we know. Raises EngineError."""

    @abstractmethod
    def make_firmware(self, machine: Machine) -> Firmware:
        """The firmware that is built in."""

    @abstractmethod
    def connect(self, machine: Machine) -> None:
        """Lead lines between harts and devices that no description names."""

    @abstractmethod
    def tree(self, machine: Machine, initrd: tuple[int, int] | None) -> Node:
        """The device tree's root. `initrd`: (start, end) addresses of the initial RAM disk."""

    def wants_tree_first(self, programs: Sequence[Loadable], is_firmware: bool) -> bool:
        """Whether what starts (`is_firmware`: it is not a kernel) looks for the device tree at the
        start of RAM."""
        return False

    @abstractmethod
    def enter(self, machine: Machine, placement: Placement, entry: int) -> None:
        """Send harts to `entry`, as programs of this architecture expect it; RAM is loaded."""
