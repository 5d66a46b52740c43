"""Disk images: raw files, qcow2 images to read, and copy-on-write overlays over either."""

from devices.disk.manage import DiskInfo, commit, create, info
from devices.disk.opening import Format, OverlayMode, open_disk, overlay_path

__all__ = [
    "DiskInfo",
    "Format",
    "OverlayMode",
    "commit",
    "create",
    "info",
    "open_disk",
    "overlay_path",
]
