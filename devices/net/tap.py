"""A tap interface of the host: the machine is a neighbour on one of its networks.

Interface: Linux, Documentation/networking/tuntap.rst, and netdevice(7) for the flags.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from devices.net.frames import MAX_FRAME, MIN_FRAME
from devices.net.hostlink import HostLink, WireGone
from hypervisor.device import BackendError

_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA  # _IOW('T', 202, int)
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x0001
_REQUEST = struct.Struct("16sH22x")  # struct ifreq: name, flags

_BATCH = 64


def open_tap(interface: str) -> HostLink:
    """A link to a tap interface, which is made when it is not there and then goes with the link."""
    return HostLink(lambda: TapWire(interface))


class TapWire:
    """An attached tap interface: one read or write is one frame."""

    max_frame = MAX_FRAME

    def __init__(self, interface: str) -> None:
        """Attach and bring the interface up. Raises BackendError."""
        self.name = interface
        self.invalid = 0
        try:
            self._fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise BackendError(_open_refusal(interface, error)) from None
        try:
            self._attach()
            self._bring_up()
        except BaseException:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[bytes]:
        frames = []
        for _ in range(_BATCH):
            try:
                frame = os.read(self._fd, MAX_FRAME + 1)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EIO:  # down, and may come up again
                    break
                raise WireGone(
                    f"network backend tap: interface {self.name} is gone ({error.strerror})"
                ) from None
            if MIN_FRAME <= len(frame) <= MAX_FRAME:
                frames.append(frame)
            else:
                self.invalid += 1
        return frames

    def encode(self, frame: bytes) -> bytes:
        return frame

    def write(self, data: bytes | memoryview) -> int:
        return os.write(self._fd, data)

    def close(self) -> None:
        os.close(self._fd)

    def _attach(self) -> None:
        request = _REQUEST.pack(self.name.encode(), _IFF_TAP | _IFF_NO_PI)
        try:
            fcntl.ioctl(self._fd, _TUNSETIFF, request)
        except OSError as error:
            raise BackendError(_attach_refusal(self.name, error)) from None

    def _bring_up(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            answer = fcntl.ioctl(control, _SIOCGIFFLAGS, _REQUEST.pack(self.name.encode(), 0))
            flags = _REQUEST.unpack(answer)[1]
            if flags & _IFF_UP:
                return
            request = _REQUEST.pack(self.name.encode(), flags | _IFF_UP)
            try:
                fcntl.ioctl(control, _SIOCSIFFLAGS, request)
            except OSError as error:
                raise BackendError(
                    f"network backend tap: interface {self.name} is down and cannot be brought "
                    f"up ({error.strerror}): run `ip link set {self.name} up` as root"
                ) from None


def _open_refusal(interface: str, error: OSError) -> str:
    what = f"network backend tap: {_DEVICE} cannot be opened for interface {interface}"
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"{what}: it is not there: load the module with `modprobe tun`, or use passt"
    return f"{what} ({error.strerror}): be root or in the device's group, or use passt"


def _attach_refusal(interface: str, error: OSError) -> str:
    what = f"network backend tap: interface {interface}"
    if error.errno == errno.EPERM:
        return (
            f"{what} cannot be made or used by this user: run "
            f"`ip tuntap add {interface} mode tap user $USER` as root, or use passt"
        )
    if error.errno == errno.EBUSY:
        return f"{what} is in use by another program or machine"
    if error.errno == errno.EINVAL:
        return f"{what} exists and is no tap interface without multiple queues"
    return f"{what} cannot be attached: {error.strerror}"
