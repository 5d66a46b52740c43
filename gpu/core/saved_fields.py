"""What of objects and works is saved as it is."""

from __future__ import annotations

from gpu.core import objects
from gpu.core.objects import (
    Buffer,
    Event,
    Image,
    Kernel,
    Mapping,
    Object,
    Program,
    Queue,
    Sampler,
)

PLAIN: dict[type[Object], tuple[str, ...]] = {
    objects.ClContext: (),
    Queue: ("is_in_order", "is_profiling", "priority", "end"),
    Buffer: ("size", "flags", "blob_offset", "origin", "charge", "maps"),
    Image: (
        *("size", "flags", "blob_offset", "charge", "maps", "type"),
        *("format", "pixel", "shape", "pitches", "extent"),
    ),
    Sampler: ("settings",),
    Program: ("recipe", "is_loaded", "groups", "refused", "kernels"),
    Kernel: (),
    Event: ("is_user", "is_profiling"),
    Mapping: ("ranges", "flags"),
}
TYPES: dict[str, type[Object]] = {kind.__name__: kind for kind in PLAIN}
WORK = (
    *("command", "cost", "items", "priority", "needs", "has_waited", "is_sent"),
    *("queued", "start", "end", "status"),
)
