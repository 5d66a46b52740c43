"""Virtio over MMIO: the register table and life cycle that every virtio device shares.

Follows VIRTIO 1.2: section 4.2, "Virtio Over MMIO" (version 2), section 2.1, "Device Status
Field", section 2.2, "Feature Bits", and section 2.6, "Virtqueues".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from hypervisor.device.board import Board, MemoryAccessError
from hypervisor.device.device import Device
from hypervisor.device.device_events import VirtqueueCompletion, VirtqueueRequest
from hypervisor.device.registers import Register
from hypervisor.device.tree import Node
from hypervisor.device.virtio.queue import Chain, Queue, QueueError

CONFIG = 0x100
"""Where the configuration space begins."""

INDIRECT_DESC = 1 << 28
EVENT_IDX = 1 << 29
VERSION_1 = 1 << 32
RING_RESET = 1 << 40
TRANSPORT_FEATURES = INDIRECT_DESC | EVENT_IDX | VERSION_1 | RING_RESET

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = 1, 2, 4, 8
NEEDS_RESET, FAILED = 64, 128

_USED_BUFFER, _CONFIG_CHANGE = 1, 2
_MAX_COMPLAINTS = 16


class VirtioDevice(Device):
    """A virtio device. Subclasses give `device_id` and `queue_names`, declare the configuration
    space as registers from CONFIG on, and write `on_queue`.

    A driver that breaks the rules of a queue gets DEVICE_NEEDS_RESET and one line in the log; the
    device then takes and returns no buffers until it is reset.
    """

    compatible = ("virtio,mmio",)
    address_size = 0x200
    device_id: ClassVar[int] = 0
    features: int = 0
    """Bits of the device type; the transport's own are added."""
    queue_names: Sequence[str] = ()
    queue_size: ClassVar[int] = 256

    MagicValue = Register(0x000, reset=0x74726976, access="ro", doc="'virt'")
    Version = Register(0x004, reset=2, access="ro", doc="2: not legacy")
    DeviceID = Register(0x008, access="ro", doc="device type")
    VendorID = Register(0x00C, reset=0x56505948, access="ro", doc="'HYPV'")
    DeviceFeatures = Register(0x010, access="ro", doc="32 offered feature bits")
    DeviceFeaturesSel = Register(0x014, access="wo", doc="which 32 DeviceFeatures shows")
    DriverFeatures = Register(0x020, access="wo", doc="32 accepted feature bits")
    DriverFeaturesSel = Register(0x024, access="wo", doc="which 32 DriverFeatures sets")
    QueueSel = Register(0x030, access="wo", doc="the queue that the Queue registers are of")
    QueueNumMax = Register(0x034, access="ro", doc="most entries of the queue, 0: no queue")
    QueueNum = Register(0x038, access="wo", doc="entries of the queue")
    QueueReady = Register(0x044, writable=0, doc="the queue is in use")
    QueueNotify = Register(0x050, access="wo", writable=0, doc="number of a queue with new buffers")
    InterruptStatus = Register(
        0x060, access="ro", fields={"USED_BUFFER": 0, "CONFIG_CHANGE": 1}, doc="why irq is high"
    )
    InterruptACK = Register(0x064, access="wo", writable=0, doc="InterruptStatus bits to clear")
    Status = Register(
        0x070,
        writable=0,
        fields={
            "ACKNOWLEDGE": 0,
            "DRIVER": 1,
            "DRIVER_OK": 2,
            "FEATURES_OK": 3,
            "DEVICE_NEEDS_RESET": 6,
            "FAILED": 7,
        },
        doc="progress of the driver; writing 0 resets the device",
    )
    QueueDescLow = Register(0x080, access="wo", doc="address of the descriptor table")
    QueueDescHigh = Register(0x084, access="wo")
    QueueDriverLow = Register(0x090, access="wo", doc="address of the avail ring")
    QueueDriverHigh = Register(0x094, access="wo")
    QueueDeviceLow = Register(0x0A0, access="wo", doc="address of the used ring")
    QueueDeviceHigh = Register(0x0A4, access="wo")
    SHMSel = Register(0x0AC, access="wo", doc="shared memory region, there are none")
    SHMLenLow = Register(0x0B0, reset=0xFFFF_FFFF, access="ro", doc="its length, -1: none")
    SHMLenHigh = Register(0x0B4, reset=0xFFFF_FFFF, access="ro")
    SHMBaseLow = Register(0x0B8, reset=0xFFFF_FFFF, access="ro", doc="its address")
    SHMBaseHigh = Register(0x0BC, reset=0xFFFF_FFFF, access="ro")
    QueueReset = Register(0x0C0, writable=0, doc="write 1: reset the queue alone")
    ConfigGeneration = Register(0x0FC, access="ro", doc="changes with the configuration")

    def __init__(self, name: str, options: Any, board: Board) -> None:
        self.driver_features = 0
        self._complaints = 0
        super().__init__(name, options, board)
        self.queues = [Queue(board.memory, self.queue_size) for _ in self.queue_names]

    # -- what a subclass overrides ------------------------------------------------------------

    def on_queue(self, index: int) -> None:
        """The driver made buffers available in queue `index`."""

    def on_queue_reset(self, index: int) -> None:
        """Queue `index` was reset: forget the chains taken from it."""

    def reset(self) -> None:
        super().reset()
        self.driver_features = 0
        for queue in self.queues:
            queue.clear()

    # -- what a subclass calls ----------------------------------------------------------------

    def accepted(self, feature: int) -> bool:
        """Whether the driver accepted a feature (a mask of one bit)."""
        return bool(self.driver_features & feature)

    @property
    def running(self) -> bool:
        """The driver is ready and has not broken anything."""
        return self.Status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK

    def pop(self, index: int) -> Chain | None:
        """The next available chain of queue `index`, None when there is none."""
        if not self.running:
            return None
        try:
            chain = self.queues[index].pop()
        except (QueueError, MemoryAccessError) as error:
            self.fail(index, str(error))
            return None
        if chain is not None:
            sizes = (chain.read_size, chain.write_size)
            self.publish(VirtqueueRequest, self.queue_names[index], chain.head, *sizes)
        return chain

    def chains(self, index: int) -> Iterator[Chain]:
        """Available chains of a queue, at most as many as it has entries: what the device itself
        writes to guest memory can not keep it here."""
        for _ in range(self.queues[index].size):
            chain = self.pop(index)
            if chain is None:
                return
            yield chain

    def complete(self, chain: Chain, written: int) -> None:
        """Return a chain to the driver with `written` bytes at its writable part's start, and tell
        it. Does nothing if the queue was reset meanwhile."""
        if self.give_back(chain, written):
            self.tell_used()

    def give_back(self, chain: Chain, written: int) -> bool:
        """Return a chain as `complete` does; whether the driver wants to be told."""
        queue = chain.queue
        if chain.epoch != queue.epoch or not self.running:
            return False
        interrupts = queue.push(chain, written)
        name = self.queue_names[self.queues.index(queue)]
        self.publish(VirtqueueCompletion, name, chain.head, written)
        return interrupts

    def tell_used(self) -> None:
        """Tell the driver that chains were returned."""
        self._interrupt(_USED_BUFFER)

    def config_changed(self) -> None:
        """Tell the driver to read the configuration space again."""
        self.ConfigGeneration += 1
        if self.Status & DRIVER_OK:
            self._interrupt(_CONFIG_CHANGE)

    def fail(self, index: int, reason: str) -> None:
        """The driver broke queue `index`: stop until a reset (section 2.1.2)."""
        if self.Status & NEEDS_RESET:
            return
        self.Status |= NEEDS_RESET
        if self.Status & DRIVER_OK:
            self._interrupt(_CONFIG_CHANGE)
        self.complain(f"the driver's {self.queue_names[index]} {reason}; it must reset the device")

    def complain(self, message: str) -> None:
        """Log what the guest or the host did wrong; a guest that keeps at it is not repeated."""
        self._complaints += 1
        if self._complaints <= _MAX_COMPLAINTS:
            self.board.log(f"{self.name}: {message}")

    # -- life cycle ---------------------------------------------------------------------------

    def node(self) -> Node:
        return Node(f"virtio_mmio@{self.options.at or 0:x}", {"dma-coherent": True}, [])

    def save(self) -> dict[str, Any]:
        state = super().save()
        state["driver_features"] = self.driver_features
        state["queues"] = [queue.save() for queue in self.queues]
        return state

    def load(self, state: dict[str, Any]) -> None:
        if len(state["queues"]) != len(self.queues):
            raise ValueError(
                f"{self.name}: the snapshot has {len(state['queues'])} virtqueues, "
                f"the device has {len(self.queues)}"
            )
        self.driver_features = state["driver_features"]
        for queue, saved in zip(self.queues, state["queues"], strict=True):
            queue.load(saved)
        super().load(state)

    def offered(self) -> int:
        """All feature bits of the device."""
        return self.features | TRANSPORT_FEATURES

    # -- registers ----------------------------------------------------------------------------

    @DeviceID.on_read
    def _read_device_id(self) -> int:
        return self.device_id

    @DeviceFeatures.on_read
    def _read_features(self) -> int:
        word = self.DeviceFeaturesSel
        return self.offered() >> 32 * word if word < 2 else 0

    @DriverFeatures.on_write
    def _accept_features(self, value: int) -> None:
        word = self.DriverFeaturesSel
        if word < 2 and not self.Status & FEATURES_OK:
            kept = self.driver_features & ~(0xFFFF_FFFF << 32 * word)
            self.driver_features = kept | value << 32 * word

    @Status.on_write
    def _status_written(self, value: int) -> None:
        if not value & 0xFF:
            self.reset()
            return
        old = self.Status
        new = (old | value & (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | FAILED)) & 0xFF
        if not old & FEATURES_OK and not self._features_usable():
            new &= ~FEATURES_OK
        if not new & FEATURES_OK:
            new &= ~DRIVER_OK
        self.Status = new
        if new & ~old & DRIVER_OK:
            # Buffers that were there before, of which no notification told.
            for index in range(len(self.queues)):
                self.on_queue(index)

    def _features_usable(self) -> bool:
        accepted = self.driver_features
        return bool(accepted & VERSION_1) and not accepted & ~self.offered()

    @InterruptACK.on_write
    def _acknowledge(self, value: int) -> None:
        self.InterruptStatus &= ~value
        self.irq.set(self.InterruptStatus != 0)

    def _interrupt(self, cause: int) -> None:
        self.InterruptStatus |= cause
        self.irq.set(True)

    @QueueNotify.on_write
    def _notified(self, index: int) -> None:
        if index < len(self.queues) and self.queues[index].ready and self.running:
            self.on_queue(index)

    @property
    def _selected(self) -> Queue | None:
        index = self.QueueSel
        return self.queues[index] if index < len(self.queues) else None

    @QueueNumMax.on_read
    def _read_queue_max(self) -> int:
        queue = self._selected
        return queue.maximum if queue is not None else 0

    @QueueNum.on_write
    def _set_queue_size(self, value: int) -> None:
        queue = self._selected
        if queue is not None and not queue.ready:
            queue.size = value

    @QueueReady.on_read
    def _read_queue_ready(self) -> int:
        queue = self._selected
        return int(queue is not None and queue.ready)

    @QueueReady.on_write
    def _set_queue_ready(self, value: int) -> None:
        queue = self._selected
        if queue is None:
            return
        if not value & 1:
            if queue.ready:
                self._reset_queue(queue)
        elif not queue.ready and self.Status & FEATURES_OK:
            try:
                queue.enable(
                    indirect=self.accepted(INDIRECT_DESC), event_index=self.accepted(EVENT_IDX)
                )
            except QueueError as error:
                self.fail(self.QueueSel, str(error))

    @QueueReset.on_write
    def _queue_reset_written(self, value: int) -> None:
        queue = self._selected
        if queue is not None and value & 1 and self.accepted(RING_RESET):
            self._reset_queue(queue)

    def _reset_queue(self, queue: Queue) -> None:
        queue.clear()
        self.on_queue_reset(self.QueueSel)

    @QueueDescLow.on_write
    def _set_desc_low(self, value: int) -> None:
        self._place("descriptors", value, 0)

    @QueueDescHigh.on_write
    def _set_desc_high(self, value: int) -> None:
        self._place("descriptors", value, 32)

    @QueueDriverLow.on_write
    def _set_driver_low(self, value: int) -> None:
        self._place("driver", value, 0)

    @QueueDriverHigh.on_write
    def _set_driver_high(self, value: int) -> None:
        self._place("driver", value, 32)

    @QueueDeviceLow.on_write
    def _set_device_low(self, value: int) -> None:
        self._place("device", value, 0)

    @QueueDeviceHigh.on_write
    def _set_device_high(self, value: int) -> None:
        self._place("device", value, 32)

    def _place(self, ring: str, value: int, shift: int) -> None:
        """Set half of a ring's address in the selected queue, unless it is in use."""
        queue = self._selected
        if queue is not None and not queue.ready:
            kept = getattr(queue, ring) & ~(0xFFFF_FFFF << shift)
            setattr(queue, ring, kept | value << shift)
