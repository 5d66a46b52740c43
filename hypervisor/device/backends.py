"""What a device may ask of the host: disks, networks, byte channels, and work beside the machine.

A backend never touches device state or guest memory. Methods called from a host thread say so;
everything else runs on the machine's thread at a safe point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class BackendError(Exception):
    """The host refused or failed: one sentence for the user, with the file or address."""


class BlockBackend(Protocol):
    """A disk. `read`...`flush` run on one host thread per disk, in the order they were submitted.

    Offsets and lengths are bytes, multiples of 512, inside `size`. Failures raise OSError.
    """

    size: int
    read_only: bool

    def read(self, offset: int, length: int) -> bytes: ...
    def write(self, offset: int, data: bytes | memoryview) -> None: ...
    def flush(self) -> None:
        """Return once everything written before is durable (fdatasync)."""

    def discard(self, offset: int, length: int) -> None:
        """Forget the contents of a range; it reads as zeroes afterwards."""

    def write_zeroes(self, offset: int, length: int) -> None: ...
    def identity(self) -> str:
        """`sha256:` and hex digest of the bytes that a snapshot does not carry (the base image)."""

    def save(self) -> Mapping[str, Any]:
        """Plain data (bytes, ints, strings, lists, dicts) that a snapshot must carry."""

    def load(self, state: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


class NetBackend(Protocol):
    """An Ethernet link. Frames are whole Ethernet frames without FCS, 14 to 65,550 bytes."""

    live: bool
    """True where frames may arrive from outside at any time; idle time then paces to the wall."""

    def open(
        self, post: Callable[[Callable[[], None]], None], receive: Callable[[bytes], None]
    ) -> None:
        """Start. `receive` may only run inside a callable handed to `post`, which is thread-safe
        and runs it on the machine's thread at the next safe point."""

    def send(self, frame: bytes) -> None:
        """Queue one frame from the guest; never blocks, drops and counts when the host is slow."""

    def close(self) -> None: ...


class ByteChannel(Protocol):
    """A serial line's other end. Input is pulled by the device when it has room."""

    def write(self, data: bytes) -> None: ...
    def read(self, limit: int) -> bytes:
        """At most `limit` waiting bytes, b"" when there are none."""

    def on_readable(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever input becomes available to `read`."""


class HostIO(Protocol):
    """Runs host work without stopping virtual time from being the only time."""

    def submit(
        self, queue: object, work: Callable[[], T], at: int, done: Callable[[T | Exception], None]
    ) -> None:
        """Run `work` on the host thread of `queue` (in order); call `done` with its result, or the
        exception it raised, on the machine's thread at virtual time `at` (ns), waiting there if
        the host is late."""
