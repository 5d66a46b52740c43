"""Virtio for device models: the MMIO transport and split virtqueues."""

from hypervisor.device.virtio.queue import Chain, Queue, QueueError
from hypervisor.device.virtio.transport import CONFIG, VirtioDevice

__all__ = ["CONFIG", "Chain", "Queue", "QueueError", "VirtioDevice"]
