"""User-mode networking: a `passt` child does the host's sockets, no privileges needed.

What this relies on, and was seen with Debian 12's 0.0~git20230309 (2025's passt(1) has the same
options with the same meaning):

- `--fd N` is a connected stream socket of the parent's. passt ends when it closes, so no child
  outlives the machine, and no socket file must be reachable for the user passt changes to.
- Without a default route passt refuses to start ("External interface not usable"), unless `-i`
  names an interface: `-i lo` always exists, and with address, netmask, gateway and MAC given
  nothing else is taken from it. Outgoing sockets are not bound to it.
- What the guest sends to the gateway's address reaches the host's 127.0.0.1, and connections from
  there arrive with the gateway as source (newer: `--map-host-loopback`, default the gateway).
- As root it becomes `nobody` and, as any user, unshares user, mount, IPC and UTS namespaces; there
  is no option against it. Where a sandbox forbids that it ends with "Couldn't create user
  namespace".
- Forwarded ports are mapped by host port alone: one port on two addresses is refused. The manual
  has a TCP port forwarded for UDP too unless overridden: hence an explicit `-u none`.
- A repeated ACK makes it send the whole window again, so frames to the guest are better not lost.
- Frames of more than 65,535 bytes make newer versions hang up.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import time

from devices.net.frames import Decoder, encode
from devices.net.hostlink import HostLink, WireGone
from devices.net.options import NetOptions, parse_forward
from hypervisor.device import BackendError

GATEWAY_MAC = "52:55:0a:00:02:02"

_START_SECONDS = 10.0
_END_SECONDS = 2.0
_READ = 1 << 16


def open_passt(options: NetOptions) -> HostLink:
    """A link that starts its own passt when it is opened."""
    return HostLink(lambda: PasstWire(options))


def arguments(options: NetOptions, fd: int) -> list[str]:
    """passt's command line, without the program."""
    guest = ipaddress.IPv4Interface(options.address)
    words = ["--foreground", "--quiet", "--fd", str(fd), "--ipv4-only", "--interface", "lo"]
    words += ["--address", str(guest.ip), "--netmask", str(guest.network.prefixlen)]
    words += ["--gateway", options.gateway, "--mac-addr", GATEWAY_MAC]
    words += ["--mtu", str(options.mtu), "--search", "none"]
    if options.dns is not None:
        for server in options.dns or ("none",):
            words += ["--dns", server]
    flags = {"tcp": "--tcp-ports", "udp": "--udp-ports"}
    forwards = [parse_forward(text) for text in options.forward]
    for forward in forwards:
        spec = f"{forward.address}/{forward.host_port}:{forward.guest_port}"
        words += [flags[forward.protocol], spec]
    for protocol, flag in flags.items():
        if protocol not in {forward.protocol for forward in forwards}:
            words += [flag, "none"]
    return words


WINDOW = 8 << 20
"""More than the window that Linux offers for TCP, in bytes."""
_SO_SNDBUFFORCE = 32  # socket(7); the socket module does not name it


def make_room(end: socket.socket) -> None:
    """Have passt's end take a whole window at once, or as much as the host lets this user have.

    passt drops what finds no room, and then sends the window again for each acknowledgement that
    says so: on a busy host a transfer would not get on.
    """
    try:
        end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, WINDOW)
    except PermissionError:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WINDOW)


class PasstWire:
    """A running passt and the socket to it."""

    max_frame = 65_535

    def __init__(self, options: NetOptions) -> None:
        """Return when passt answers. Raises BackendError."""
        program = shutil.which("passt")
        if program is None:
            raise BackendError(
                "network backend passt: the program is not installed: `apt install passt`, or "
                "choose `backend: none`"
            )
        self.name = "passt"
        self._decoder = Decoder()
        self._errors, errors = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._socket, theirs = socket.socketpair()
        make_room(theirs)
        try:
            self._child = subprocess.Popen(
                [program, *arguments(options, theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,  # non-blocking: what nobody reads in time is lost, never waited for
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C is not for passt
            )
        except OSError as error:
            self._socket.close()
            os.close(self._errors)
            raise BackendError(
                f"network backend passt: {program} cannot be run: {error.strerror}"
            ) from None
        finally:
            theirs.close()
            os.close(errors)
        try:
            self._await_answer(options)
        except BaseException:
            self.close()
            raise
        self._socket.setblocking(False)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def invalid(self) -> int:
        return self._decoder.invalid

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> list[bytes]:
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            raise WireGone(f"network backend passt: the program ended, {self._last_words()}")
        return self._decoder.feed(data)

    def encode(self, frame: bytes) -> bytes:
        return encode(frame)

    def write(self, data: bytes | memoryview) -> int:
        return self._socket.send(data)

    def close(self) -> None:
        """End passt: by closing its socket, and by force when that does not do it."""
        self._socket.close()
        try:
            self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        os.close(self._errors)

    def _await_answer(self, options: NetOptions) -> None:
        """Return when passt is ready: it says so nowhere, but answers for the gateway's address.

        The question comes from the broadcast address, which is where passt sends to as long as it
        does not know the guest's: it learns nothing wrong from it.
        """
        deadline = time.monotonic() + _START_SECONDS
        with contextlib.suppress(OSError):  # it has ended already: what it said is read below
            self._socket.sendall(encode(_arp_probe(options.gateway)))
        answered = False
        while not answered:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(_READ)
            except TimeoutError:
                raise BackendError(
                    f"network backend passt: it does not answer after {_START_SECONDS:.0f} s"
                ) from None
            except OSError:
                data = b""
            if not data:
                raise BackendError(
                    f"network backend passt: it does not start, {self._last_words()}"
                )
            answered = any(frame[12:14] == b"\x08\x06" for frame in self._decoder.feed(data))

    def _last_words(self) -> str:
        """How the child ended, and what it said last, for an error sentence."""
        try:
            status = self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "having closed its socket"
        try:
            text = os.read(self._errors, 1 << 16).decode(errors="replace")
        except BlockingIOError:
            text = ""
        how = f"killed by signal {-status}" if status < 0 else f"with exit status {status}"
        # it also says, for each line, that it cannot reach a system log where there is none
        said = [line.strip() for line in text.splitlines() if "to syslog" not in line]
        said = [line for line in said if line and not line.startswith("Don't run as root")]
        if any("user namespace" in line for line in said):
            said.append("passt locks itself up in namespaces, this sandbox must let it")
        return f"{how}: {' / '.join(said[-3:])}" if said else f"{how} and no message"


def _arp_probe(address: str) -> bytes:
    broadcast = b"\xff" * 6
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + broadcast + bytes(4)
    body += bytes(6) + ipaddress.IPv4Address(address).packed
    return broadcast + broadcast + b"\x08\x06" + body
