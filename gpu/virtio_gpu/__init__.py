"""A GPU for an operating system's stock driver; see gpu.virtio_gpu.device."""

from gpu.virtio_gpu.device import VirtioGpu

__all__ = ["VirtioGpu"]
