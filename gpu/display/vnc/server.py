"""A VNC server on a thread of its own, for one scanout."""

from __future__ import annotations

import asyncio
import socket
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from gpu.display.scanout import Rect, Scanout
from gpu.display.vnc.framebuffer import Framebuffer
from gpu.display.vnc.session import ProtocolError, Session
from hypervisor.device import BackendError, Board
from hypervisor.device.seat import POINTER_RANGE

MAX_CLIENTS = 8
FAREWELL_SECONDS = 5
MAX_POSTED = 256
"""Keys and motions that wait for the machine; a machine that does not run loses the rest."""


class VncServer:
    """Listens from construction to `close`. `port` is the one that was given for port 0.

    Viewers look at a copy of the picture and ask the machine for nothing. What they type and point
    at is posted to the machine's thread.
    """

    def __init__(
        self,
        name: str,
        board: Board,
        scanout: Scanout,
        address: tuple[str, int],
        password: str | None,
    ) -> None:
        self._name = name
        self._password = password
        self._sessions: set[Session] = set()
        self._clients = 0
        host, port = address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            reason = error.strerror or error
            raise BackendError(f"{name}: VNC cannot listen on {host}:{port}: {reason}") from None
        self.port: int = self._socket.getsockname()[1]
        self._framebuffer = Framebuffer(scanout)
        self._framebuffer.changed = self._changed
        self._guest = _MachineInput(board, self._framebuffer)
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        board.log(f"{name}: VNC listens on {host}:{self.port}")
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"{name}-vnc")
        self._thread.start()

    def close(self) -> None:
        """Clients are cut off."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._framebuffer.close()

    # -- on the machine's thread ------------------------------------------------------------------

    def _changed(self, rect: Rect) -> None:
        sessions = list(self._sessions)
        for session in sessions:
            session.region.add(rect)
        if sessions:
            self._loop.call_soon_threadsafe(self._wake)

    # -- on a thread of its own -------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._meet, sock=self._socket)
        async with server:
            await self._end.wait()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _meet(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one client; whatever it does, nothing comes of it but its own end."""
        self._clients += 1
        session: Session | None = None
        try:
            if self._clients <= MAX_CLIENTS:
                _tune(writer)
                streams = (reader, writer)
                session = Session(
                    streams, self._framebuffer, self._guest, self._name, self._password
                )
                with self._framebuffer.lock:
                    self._sessions.add(session)
                await session.run()
        except ProtocolError:
            with suppress(OSError, TimeoutError):
                writer.close()  # it still gets the reason
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await writer.wait_closed()
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError):
            pass  # it is gone, or the machine is
        finally:
            if session is not None:
                with self._framebuffer.lock:
                    self._sessions.discard(session)
            self._clients -= 1
            writer.transport.abort()

    def _wake(self) -> None:
        for session in self._sessions:
            session.wake()


class _MachineInput:
    """Posts what clients do to the machine's thread, a bounded number at a time."""

    def __init__(self, board: Board, framebuffer: Framebuffer) -> None:
        self._board = board
        self._framebuffer = framebuffer
        self._lock = threading.Lock()
        self._posted = 0
        self._down: set[int] = set()
        """Keys that the machine was told are down."""

    def key(self, code: int, down: bool) -> None:
        # A key that went down must come up, however many wait; of others there is no need to.
        if down:
            if self._post(partial(self._board.seat.key, code, True)):
                self._down.add(code)
        elif code in self._down:
            self._down.remove(code)
            self._post(partial(self._board.seat.key, code, False), must=True)

    def point(self, x: int, y: int, buttons: int) -> None:
        with self._framebuffer.lock:
            width, height = self._framebuffer.size
        across = min(x, width - 1) * POINTER_RANGE // max(width - 1, 1)
        down = min(y, height - 1) * POINTER_RANGE // max(height - 1, 1)
        self._post(partial(self._board.seat.point, across, down, buttons))

    def resize(self, width: int, height: int) -> None:
        self._post(partial(self._board.seat.resize, width, height))

    def _post(self, action: Callable[[], None], must: bool = False) -> bool:
        """Whether there was room for it."""
        with self._lock:
            if self._posted >= MAX_POSTED and not must:
                return False
            self._posted += 1
        self._board.post(partial(self._act, action))
        return True

    def _act(self, action: Callable[[], None]) -> None:
        with self._lock:
            self._posted -= 1
        action()


def _tune(writer: StreamWriter) -> None:
    """Answers go out at once, and a client whose host is gone is noticed."""
    client = writer.get_extra_info("socket")
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
