"""The display as VNC's thread sees it: a copy, and which parts of it a client has not seen."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from gpu.display.scanout import Pixels, Rect, Scanout

_MOST_PARTS = 16


class Region:
    """Rectangles that changed; when they are many, the one around them."""

    def __init__(self) -> None:
        self.parts: list[Rect] = []

    def add(self, rect: Rect) -> None:
        if (
            not rect.width
            or not rect.height
            or any(part.union(rect) == part for part in self.parts)
        ):
            return
        self.parts = [part for part in self.parts if part.union(rect) != rect]
        self.parts.append(rect)
        if len(self.parts) > _MOST_PARTS:
            around = self.parts[0]
            for part in self.parts[1:]:
                around = around.union(part)
            self.parts = [around]

    def take(self, area: Rect) -> list[Rect]:
        """All of it that lies within `area`; the rest stays."""
        taken: list[Rect] = []
        left: list[Rect] = []
        for part in self.parts:
            inner = part.within(area)
            if inner.width and inner.height:
                taken.append(inner)
                left += _around(part, inner)
            else:
                left.append(part)
        self.parts = left
        return taken

    def __bool__(self) -> bool:
        return bool(self.parts)


def _around(part: Rect, hole: Rect) -> list[Rect]:
    """What is left of a rectangle without one inside it."""
    below, right = hole.y + hole.height, hole.x + hole.width
    left = (
        Rect(part.x, part.y, part.width, hole.y - part.y),
        Rect(part.x, below, part.width, part.y + part.height - below),
        Rect(part.x, hole.y, hole.x - part.x, hole.height),
        Rect(right, hole.y, part.x + part.width - right, hole.height),
    )
    return [rect for rect in left if rect.width and rect.height]


class Framebuffer:
    """A copy of what a scanout shows, which any thread may read under `lock`.

    The machine's thread brings it up to date at each change, whether anybody looks or not: so no
    viewer ever asks the machine for anything.
    """

    def __init__(self, scanout: Scanout) -> None:
        self.lock = threading.Lock()
        self.pixels: Pixels = np.zeros((0, 0, 4), np.uint8)
        self.changed: Callable[[Rect], None] = lambda rect: None
        """Called on the machine's thread, under the lock."""
        self._scanout = scanout
        width, height = scanout.size
        self._update(Rect(0, 0, width, height))
        scanout.watchers.append(self._update)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height. Call under the lock."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def close(self) -> None:
        self._scanout.watchers.remove(self._update)

    def _update(self, rect: Rect) -> None:
        width, height = self._scanout.size
        if self.size != (width, height):
            rect = Rect(0, 0, width, height)
        pixels = self._scanout.read(rect)
        with self.lock:
            if self.size != (width, height):
                self.pixels = pixels
            else:
                right, bottom = rect.x + rect.width, rect.y + rect.height
                self.pixels[rect.y : bottom, rect.x : right] = pixels
            self.changed(rect)
