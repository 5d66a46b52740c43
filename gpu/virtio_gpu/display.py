"""The display of virtio-gpu: what its driver has it show, and how that gets there.

Follows VIRTIO 1.2, sections 5.7.6.8, "Device Operation: controlq", and 5.7.6.9, "cursorq", as far
as they are about scanouts, 2D resources and the cursor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpu.display import edid
from gpu.display.scanout import BYTES_PER_PIXEL, Picture, Rect, Scanout
from gpu.virtio_gpu.protocol import (
    DISPLAY,
    EDID,
    MAX_SCANOUTS,
    Command,
    CommandError,
    Response,
)
from gpu.virtio_gpu.resources import Resource, Resources, pixel_format

CURSOR_SIDE = 64
"""Pixels of a cursor's sides (section 5.7.6.9)."""
Answer = tuple[Response, bytes]
DONE: Answer = (Response.OK_NODATA, b"")


class Display:
    """The one display. A command's method takes its fields in their order."""

    def __init__(self, scanout: Scanout, resources: Resources) -> None:
        self.scanout = scanout
        self.resources = resources
        self.shown = 0
        """The resource that the scanout shows; 0: none."""

    def clear(self) -> None:
        """Nothing is shown; all resources are gone."""
        self._show(0, None)
        self.scanout.set_cursor(None)
        self.scanout.move_cursor(0, 0)
        self.resources.clear()

    def resize(self, width: int, height: int) -> None:
        """The driver will be told that the display has another size."""
        self.scanout.preferred = (
            min(max(width, CURSOR_SIDE), edid.MAX_SIDE),
            min(max(height, CURSOR_SIDE), edid.MAX_SIDE),
        )

    def lose_memory(self, resource: Resource) -> None:
        """The guest takes a resource's memory back."""
        if resource.number == self.shown and resource.picture() is None:
            self._show(0, None)

    def remove(self, resource: Resource) -> None:
        if resource.number == self.shown:
            self._show(0, None)
        self.resources.remove(resource.number)

    # -- display ------------------------------------------------------------------------------

    def get_display_info(self) -> Answer:
        width, height = self.scanout.preferred
        displays = DISPLAY.pack(0, 0, width, height, 1, 0)
        return Response.OK_DISPLAY_INFO, displays.ljust(MAX_SCANOUTS * DISPLAY.size, b"\0")

    def get_edid(self, scanout: int) -> Answer:
        self._check(scanout)
        block = edid.edid(*self.scanout.preferred)
        return Response.OK_EDID, EDID.pack(len(block), block)

    def set_scanout(
        self, x: int, y: int, width: int, height: int, scanout: int, number: int
    ) -> Answer:
        self._check(scanout)
        if not number:
            self._show(0, None)
            return DONE
        whole = self.resources.picture(number).picture()
        if not width or not height or x + width > whole.width or y + height > whole.height:
            raise CommandError(
                Response.ERR_INVALID_PARAMETER,
                f"{width} x {height} pixels at {x}, {y} are not all of resource {number}",
            )
        offset = y * whole.stride + 4 * x
        self._show(number, Picture(width, height, whole.stride, offset, whole.format, whole.pixels))
        return DONE

    def set_scanout_blob(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        scanout: int,
        number: int,
        whole_width: int,
        whole_height: int,
        form: int,
        stride: int,
        offset: int,
    ) -> Answer:
        """Show a rectangle of a picture that begins at `offset` of a blob."""
        self._check(scanout)
        if not number:
            self._show(0, None)
            return DONE
        resource = self.resources.get(number)
        if resource.backing is None:
            raise CommandError(Response.ERR_UNSPEC, f"resource {number} has no memory to show")
        if x + width > whole_width or y + height > whole_height:
            raise CommandError(
                Response.ERR_INVALID_PARAMETER,
                f"{width} x {height} pixels at {x}, {y} are not all of a picture of {whole_width}"
                f" x {whole_height}",
            )
        start = offset + y * stride + BYTES_PER_PIXEL * x
        try:
            picture = Picture(width, height, stride, start, pixel_format(form), resource.backing)
        except ValueError as error:
            raise CommandError(Response.ERR_INVALID_PARAMETER, str(error)) from None
        if width * height * BYTES_PER_PIXEL > self.resources.quota.limit:
            # Its pieces may be one page again and again: who looks at it holds them all.
            raise CommandError(
                Response.ERR_OUT_OF_MEMORY, "the picture is larger than the display's memory"
            )
        if picture.end > resource.backing.size:
            raise CommandError(
                Response.ERR_INVALID_PARAMETER, f"the picture leaves resource {number}"
            )
        self._show(number, picture)
        return DONE

    def resource_flush(self, x: int, y: int, width: int, height: int, number: int) -> Answer:
        self.resources.get(number)
        if number == self.shown:
            self.scanout.flush(Rect(x, y, width, height))
        return DONE

    def _show(self, number: int, picture: Picture | None) -> None:
        self.shown = number
        self.scanout.show(picture)

    def _check(self, scanout: int) -> None:
        if scanout:
            raise CommandError(Response.ERR_INVALID_SCANOUT_ID, f"there is no display {scanout}")

    # -- cursor -------------------------------------------------------------------------------

    def update_cursor(self, scanout: int, x: int, y: int, number: int, *hot_spot: int) -> Answer:
        self._check(scanout)
        image = None
        if number:
            picture = self.resources.picture(number).picture()
            if (picture.width, picture.height) != (CURSOR_SIDE, CURSOR_SIDE):
                raise CommandError(
                    Response.ERR_INVALID_PARAMETER,
                    f"a cursor has {picture.width} x {picture.height} pixels, not 64 x 64",
                )
            image = picture.read(Rect(0, 0, CURSOR_SIDE, CURSOR_SIDE))
        self.scanout.set_cursor(image)
        self.scanout.move_cursor(_signed(x), _signed(y))
        return DONE

    def move_cursor(self, scanout: int, x: int, y: int, *unused: int) -> Answer:
        self._check(scanout)
        self.scanout.move_cursor(_signed(x), _signed(y))
        return DONE

    # -- 2D resources -------------------------------------------------------------------------

    def create_2d(self, number: int, form: int, width: int, height: int) -> Answer:
        self.resources.create_2d(number, form, width, height)
        return DONE

    def transfer_to_host_2d(
        self, x: int, y: int, width: int, height: int, offset: int, number: int
    ) -> Answer:
        picture = self.resources.picture(number)
        if x + width > picture.width or y + height > picture.height:
            raise CommandError(
                Response.ERR_INVALID_PARAMETER,
                f"{width} x {height} pixels at {x}, {y} are not all of resource {number}",
            )
        picture.transfer(Rect(x, y, width, height), offset)
        return DONE

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        picture = self.scanout.picture
        shown = None
        if picture is not None:
            place = (picture.width, picture.height, picture.stride, picture.offset)
            shown = [self.shown, *place, int(picture.format)]
        return {
            "resources": self.resources.save(),
            "scanout": self.scanout.save(),
            "shown": shown,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take `save`'s data; ValueError where it cannot be."""
        self.resources.load(state["resources"])
        self.scanout.load(state["scanout"], self._shown_in(state["shown"]))

    def _shown_in(self, shown: list[int] | None) -> Picture | None:
        """The picture that a snapshot says is shown."""
        if shown is None:
            return None
        try:
            number, width, height, stride, offset, form = shown
            resource = self.resources.get(number)
            whole = resource.picture()
            pixels = resource.backing if whole is None else whole.pixels
            if pixels is None:
                raise ValueError("the snapshot's display shows what has no memory")
            size = resource.size if resource.backing is None or whole else resource.backing.size
            picture = Picture(width, height, stride, offset, pixel_format(form), pixels)
        except CommandError as error:
            raise ValueError(f"the snapshot's display cannot be: {error}") from None
        if picture.end > size:
            raise ValueError("the snapshot's display shows more than there is")
        self.shown = number
        return picture


HANDLERS: dict[Command, Callable[..., Answer]] = {
    Command.GET_DISPLAY_INFO: Display.get_display_info,
    Command.GET_EDID: Display.get_edid,
    Command.SET_SCANOUT: Display.set_scanout,
    Command.SET_SCANOUT_BLOB: Display.set_scanout_blob,
    Command.RESOURCE_FLUSH: Display.resource_flush,
    Command.RESOURCE_CREATE_2D: Display.create_2d,
    Command.TRANSFER_TO_HOST_2D: Display.transfer_to_host_2d,
    Command.UPDATE_CURSOR: Display.update_cursor,
    Command.MOVE_CURSOR: Display.move_cursor,
}


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value
