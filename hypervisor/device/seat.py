"""Who sits before the machine: keys, pointer and the screen's size, on their way to devices."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

POINTER_RANGE = 0x7FFF
"""The pointer's place at the right and lower border."""

_KEY, _POINT, _RESIZE = range(3)
_EVENT = Struct("<B3I")


class Seat:
    """Everything that is typed and pointed at a machine, and asked of its screen. Call on the
    machine's thread."""

    def __init__(self) -> None:
        self.keyboards: list[Callable[[int, bool], None]] = []
        """Called with (key number of Linux's input-event-codes.h, whether it went down)."""
        self.pointers: list[Callable[[int, int, int], None]] = []
        """Called with (x, y, buttons): places from 0 to POINTER_RANGE; bits of buttons are left,
        middle, right, wheel up, wheel down."""
        self.screens: list[Callable[[int, int], None]] = []
        """Called with (width, height) when the user makes the picture's window another size."""
        self.enter: Callable[[bytes], None] = self.take
        """The way in from outside, on which a machine records what comes."""

    def key(self, code: int, down: bool) -> None:
        """A key goes down, or repeats, or goes up."""
        self.enter(_EVENT.pack(_KEY, code, down, 0))

    def point(self, x: int, y: int, buttons: int) -> None:
        """The pointer is there, with these buttons down."""
        self.enter(_EVENT.pack(_POINT, x, y, buttons))

    def resize(self, width: int, height: int) -> None:
        """The user would have the picture that size."""
        self.enter(_EVENT.pack(_RESIZE, width, height, 0))

    def take(self, data: bytes) -> None:
        """Hand what came in to the devices."""
        action, first, second, third = _EVENT.unpack(data)
        if action == _KEY:
            for keyboard in self.keyboards:
                keyboard(first, bool(second))
        elif action == _POINT:
            for pointer in self.pointers:
                pointer(first, second, third)
        else:
            for screen in self.screens:
                screen(first, second)
