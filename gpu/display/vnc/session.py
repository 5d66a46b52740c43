"""One client of the VNC server, from its greeting to its end (RFC 6143, section 7)."""

from __future__ import annotations

import asyncio
import os
import re
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from typing import Protocol

import numpy as np

from gpu.display.scanout import Pixels, Rect
from gpu.display.vnc.auth import CHALLENGE_SIZE, is_right
from gpu.display.vnc.encodings import (
    DESKTOP_SIZE,
    ENCODERS,
    EXTENDED_DESKTOP_SIZE,
    NATIVE,
    RAW,
    Encoder,
    PixelFormat,
)
from gpu.display.vnc.framebuffer import Framebuffer, Region
from gpu.display.vnc.keys import Keyboard

HANDSHAKE_SECONDS = 30
"""Time that a client has to say who it is."""
STALLED_SECONDS = 60
"""Time after which a client that takes no data is given up."""
WRONG_PASSWORD_SECONDS = 1
LONGEST_CUT_TEXT = 1 << 20

_VERSION = b"RFB 003.008\n"
_NO_AUTH, _VNC_AUTH = 1, 2
_RECT = struct.Struct(">4Hi")
_RESIZED_BY_SERVER, _RESIZED_BY_CLIENT = 0, 1


class Guest(Protocol):
    """What a client may do to the machine. Called from VNC's thread."""

    def key(self, code: int, down: bool) -> None: ...
    def point(self, x: int, y: int, buttons: int) -> None:
        """Pixels of the picture, and the buttons as a mask."""

    def resize(self, width: int, height: int) -> None: ...


class ProtocolError(Exception):
    """What the client sent is no RFB: one sentence."""


class Session:
    """A client. `region` is what it has not seen, under the framebuffer's lock."""

    def __init__(
        self,
        streams: tuple[StreamReader, StreamWriter],
        framebuffer: Framebuffer,
        guest: Guest,
        name: str,
        password: str | None,
    ) -> None:
        self._reader, self._writer = streams
        self._framebuffer = framebuffer
        self._guest = guest
        self._name = name
        self._password = password
        self._minor = 8
        self._format = NATIVE
        self._encoders: dict[int, Encoder] = {}
        self._encoding = RAW
        self._pseudo: set[int] = set()
        self._size = (0, 0)
        self._asked: Rect | None = None
        self._resized: int | None = None
        """Who changed the size, when the client is to be told."""
        self._keyboard = Keyboard()
        self._wake = asyncio.Event()
        self.region = Region()

    async def run(self) -> None:
        """Serve the client to its end. ProtocolError, OSError or EOFError say why it ended."""
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await self._handshake()
        sender = asyncio.create_task(self._send_updates())
        receiver = asyncio.create_task(self._receive())
        try:
            done, _ = await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (sender, receiver):
                task.cancel()
            await asyncio.gather(sender, receiver, return_exceptions=True)
            for code, down in self._keyboard.release():
                self._guest.key(code, down)

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    # -- greeting -----------------------------------------------------------------------------

    async def _handshake(self) -> None:
        self._writer.write(_VERSION)
        version = re.fullmatch(rb"RFB (\d{3})\.(\d{3})\n", await self._reader.readexactly(12))
        if version is None:
            raise ProtocolError("it does not greet as RFB")
        major, minor = int(version[1]), int(version[2])
        self._minor = 8 if (major, minor) >= (3, 8) else 7 if (major, minor) == (3, 7) else 3
        kind = _VNC_AUTH if self._password is not None else _NO_AUTH
        if self._minor == 3:
            self._writer.write(struct.pack(">I", kind))
        else:
            self._writer.write(bytes((1, kind)))
            if await self._reader.readexactly(1) != bytes((kind,)):
                raise ProtocolError("it chose a security type that was not offered")
        await self._authenticate()
        await self._reader.readexactly(1)  # whether it would share: all clients do
        with self._framebuffer.lock:
            self._size = self._framebuffer.size
            self.region.add(Rect(0, 0, *self._size))
        name = self._name.encode()
        init = struct.pack(">2H", *self._size) + NATIVE.pack() + struct.pack(">I", len(name))
        self._writer.write(init + name)

    async def _authenticate(self) -> None:
        if self._password is None:
            if self._minor == 8:
                self._writer.write(struct.pack(">I", 0))
            return
        challenge = os.urandom(CHALLENGE_SIZE)
        self._writer.write(challenge)
        response = await self._reader.readexactly(CHALLENGE_SIZE)
        if is_right(self._password, challenge, response):
            self._writer.write(struct.pack(">I", 0))
            return
        await asyncio.sleep(WRONG_PASSWORD_SECONDS)
        reason = b"the password is wrong"
        detail = struct.pack(">I", len(reason)) + reason if self._minor == 8 else b""
        self._writer.write(struct.pack(">I", 1) + detail)
        await self._writer.drain()
        raise ProtocolError("it has the wrong password")

    # -- what the client says -----------------------------------------------------------------

    async def _receive(self) -> None:
        handlers: dict[int, Callable[[], object]] = {
            0: self._set_pixel_format,
            2: self._set_encodings,
            3: self._update_request,
            4: self._key_event,
            5: self._pointer_event,
            6: self._cut_text,
            251: self._set_desktop_size,
        }
        while True:
            kind = (await self._reader.readexactly(1))[0]
            handler = handlers.get(kind)
            if handler is None:
                raise ProtocolError(f"it sent a message of type {kind}, which there is not")
            await handler()  # type: ignore[misc]

    async def _fields(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, await self._reader.readexactly(struct.calcsize(layout)))

    async def _set_pixel_format(self) -> None:
        data = await self._reader.readexactly(19)
        try:
            self._format = PixelFormat.parse(data[3:])
        except ValueError as error:
            raise ProtocolError(str(error)) from None

    async def _set_encodings(self) -> None:
        (count,) = await self._fields(">xH")
        listed = await self._fields(f">{count}i")
        self._encoding = next((each for each in listed if each in ENCODERS), RAW)
        self._pseudo = {DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE} & set(listed)
        if EXTENDED_DESKTOP_SIZE in self._pseudo:
            self._resized = _RESIZED_BY_SERVER  # so that it knows that sizes can be asked for
        self.wake()

    async def _update_request(self) -> None:
        incremental, *area = await self._fields(">B4H")
        asked = Rect(*area)
        if not incremental:
            with self._framebuffer.lock:
                self.region.add(asked.clipped(*self._size))
        self._asked = asked
        self.wake()

    async def _key_event(self) -> None:
        down, keysym = await self._fields(">B2xI")
        for code, goes_down in self._keyboard.event(keysym, bool(down)):
            self._guest.key(code, goes_down)

    async def _pointer_event(self) -> None:
        buttons, x, y = await self._fields(">B2H")
        self._guest.point(x, y, buttons)

    async def _cut_text(self) -> None:
        (size,) = await self._fields(">3xI")
        if size > LONGEST_CUT_TEXT:
            raise ProtocolError(f"it sent {size} bytes of text")
        while size:
            piece = await self._reader.readexactly(min(size, 1 << 16))
            size -= len(piece)

    async def _set_desktop_size(self) -> None:
        width, height, screens = await self._fields(">x2HBx")
        await self._reader.readexactly(16 * screens)
        self._resized = _RESIZED_BY_CLIENT  # heard; the guest makes it true, or does not
        self._guest.resize(width, height)
        self.wake()

    # -- what the client gets -----------------------------------------------------------------

    async def _send_updates(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            update = self._update()
            if update:
                self._writer.writelines(update)
                async with asyncio.timeout(STALLED_SECONDS):
                    await self._writer.drain()

    def _update(self) -> list[bytes]:
        """The update that was asked for, empty when there is nothing to say."""
        if self._asked is None:
            return []
        rects: list[bytes] = []
        parts: list[tuple[Rect, Pixels]] = []
        with self._framebuffer.lock:
            if self._pseudo and self._framebuffer.size != self._size:
                self._size = self._framebuffer.size
                self.region.add(Rect(0, 0, *self._size))
                self._asked = Rect(0, 0, *self._size)
                rects.append(self._size_rect(_RESIZED_BY_SERVER))
            elif self._resized is not None:
                rects.append(self._size_rect(self._resized))
            self._resized = None
            for rect in self.region.take(self._asked.clipped(*self._size)):
                parts.append((rect, self._pixels(rect)))
        encoder = self._encoder()
        for rect, pixels in parts:
            rects.append(_RECT.pack(*rect, encoder.number) + encoder.encode(pixels, self._format))
        if not rects:
            return []
        self._asked = None
        return [struct.pack(">BxH", 0, len(rects)), *rects]

    def _size_rect(self, reason: int) -> bytes:
        """Tells the client of the picture's size, by the way it knows."""
        width, height = self._size
        if EXTENDED_DESKTOP_SIZE not in self._pseudo:
            return _RECT.pack(0, 0, width, height, DESKTOP_SIZE)
        screen = struct.pack(">B3xI4HI", 1, 0, 0, 0, width, height, 0)
        return _RECT.pack(reason, 0, width, height, EXTENDED_DESKTOP_SIZE) + screen

    def _encoder(self) -> Encoder:
        """The client's encoder of the encoding it likes best; its stream goes on."""
        if self._encoding not in self._encoders:
            self._encoders[self._encoding] = ENCODERS[self._encoding]()
        return self._encoders[self._encoding]

    def _pixels(self, rect: Rect) -> Pixels:
        """A copy of a part, black where the client's size is beyond the picture's."""
        seen = rect.clipped(*self._framebuffer.size)
        pixels = np.zeros((rect.height, rect.width, 4), np.uint8)
        if seen.width and seen.height:
            source = self._framebuffer.pixels
            pixels[: seen.height, : seen.width] = source[
                seen.y : seen.y + seen.height, seen.x : seen.x + seen.width
            ]
        return pixels
