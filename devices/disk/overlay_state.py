"""What a snapshot carries of a temporary overlay: its blocks, and how they come back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from devices.disk.hostfile import all_zero
from hypervisor.device import BackendError

if TYPE_CHECKING:
    from devices.disk.overlay import Overlay

_PIECE = 1 << 18


def save_changes(overlay: Overlay) -> dict[str, Any]:
    """All changed ranges, and the bytes of those pieces that are not all zeroes."""
    changed: list[list[int]] = []
    data: list[list[Any]] = []
    for start, end in overlay.changes():
        changed.append([start, end - start])
        for offset in range(start, end, _PIECE):
            piece = overlay.read(offset, min(_PIECE, end - offset))
            if not all_zero(piece):
                data.append([offset, piece])
    return {
        "kind": "changes",
        "identity": overlay.base.identity(),
        "size": overlay.size,
        "changed": changed,
        "data": data,
    }


def load_changes(overlay: Overlay, state: Mapping[str, Any]) -> None:
    """Bring an overlay to a saved state; BackendError when it is not one of this disk's."""
    path = overlay.path
    if state.get("kind") != "changes":
        raise BackendError(
            f"{path}: the snapshot does not carry this disk's changes: restore it with the "
            "`overlay` setting it was taken with, `none` or `keep`"
        )
    if state.get("size") != overlay.size or state.get("identity") != overlay.base.identity():
        raise BackendError(
            f"{path}: this is not the image that the snapshot was taken with "
            f"({state.get('size')} bytes, {state.get('identity')})"
        )
    changed = list(_ranges(state.get("changed"), overlay.size, path))
    data = state.get("data")
    if not isinstance(data, list):
        raise _damaged(path)
    pieces = list(_ranges([_extent(item, path) for item in data], overlay.size, path))
    overlay.clear()
    for offset, length in changed:
        overlay.discard(offset, length)
    for (offset, _), (_, piece) in zip(pieces, data, strict=True):
        overlay.write(offset, piece)


def _extent(item: object, path: str) -> list[Any]:
    if not isinstance(item, list | tuple) or len(item) != 2 or not isinstance(item[1], bytes):
        raise _damaged(path)
    return [item[0], len(item[1])]


def _ranges(items: object, size: int, path: str) -> Iterator[tuple[int, int]]:
    """Check that ranges are whole sectors, inside the disk, ascending and apart."""
    position = 0
    if not isinstance(items, list | tuple):
        raise _damaged(path)
    for item in items:
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise _damaged(path)
        offset, length = item
        if not isinstance(offset, int) or not isinstance(length, int):
            raise _damaged(path)
        if offset < position or length <= 0 or offset + length > size or (offset | length) & 511:
            raise _damaged(path)
        position = offset + length
        yield offset, length


def _damaged(path: str) -> BackendError:
    return BackendError(f"{path}: the snapshot's state of this disk is damaged")
