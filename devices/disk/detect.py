"""Which format an image file has, by its first bytes."""

from __future__ import annotations

from devices.disk.raw import QCOW2_MAGIC
from hypervisor.device import BackendError

OVERLAY_MAGIC = b"HVOVERLAY\r\n\x1a\n\0\0\0"

_REFUSED = [
    (0, b"KDMV", "a VMDK disk", "qemu-img convert -O raw"),
    (0, b"COWD", "a VMDK disk", "qemu-img convert -O raw"),
    (0, b"vhdxfile", "a VHDX disk", "qemu-img convert -O raw"),
    (0, b"conectix", "a VHD disk", "qemu-img convert -O raw"),
    (0, b"QED\0", "a QED disk", "qemu-img convert -O raw"),
    (64, b"\x7f\x10\xda\xbe", "a VDI disk", "qemu-img convert -O raw"),
    (0, b"\xfd7zXZ\0", "compressed with xz", "unxz"),
    (0, b"\x1f\x8b\x08", "compressed with gzip", "gunzip"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "unzstd"),
    (0, b"BZh", "compressed with bzip2", "bunzip2"),
]


def detect_format(head: bytes, path: str) -> str:
    """ "raw", "qcow2" or "overlay"; BackendError for what is plainly something else."""
    if head.startswith(QCOW2_MAGIC):
        return "qcow2"
    if head.startswith(OVERLAY_MAGIC):
        return "overlay"
    for offset, magic, what, tool in _REFUSED:
        if head.startswith(magic, offset):
            raise BackendError(
                f"{path}: the file is {what}: convert it with `{tool}`, or say `format: raw` if "
                "these bytes are the disk's own"
            )
    return "raw"
