"""A disk that is written in place, in a machine that replays a recording: nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devices.disk.image import check_content_state, content_digest
from devices.disk.overlay import Overlay
from devices.disk.raw import RawDisk


class ReplayedDisk(Overlay):
    """A temporary overlay that a guest, and a digest of the machine, cannot tell from a disk whose
    content stays in its file."""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        if isinstance(self.base, RawDisk):
            self.base.check_disguise(offset, data)
        super().write(offset, data)

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of the disk that this one stands for, or one of its own."""
        if state.get("kind") == "content":
            check_content_state(self.base, state)
            self.clear()
        else:
            super().load(state)

    def content(self) -> Mapping[str, Any]:
        """The state of the disk that this one stands for."""
        return {"kind": "content", "identity": content_digest(self)}
