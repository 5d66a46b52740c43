"""A tap interface. Frames pass only where the tests may make interfaces; refusals need no right."""

from __future__ import annotations

import errno
import os
import socket
import subprocess

import pytest

from devices.net import NetOptions, open_net
from devices.net.frames import MAX_FRAME
from devices.net.tap import _attach_refusal, _open_refusal
from hypervisor.device import BackendError

NAME = f"hv{os.getpid() % 1_000_000}"
FRAME = b"\xff" * 6 + b"\x52\x54\0\0\0\1" + b"\x88\xb5" + bytes(46)


def can_make_interfaces():
    try:
        link = tap(f"{NAME}p")
        link.open(lambda work: None, lambda frame: None)
    except BackendError:
        return False
    link.close()
    return True


def tap(interface=NAME):
    return open_net(NetOptions(backend="tap", interface=interface), lambda: 0)


needs_tap = pytest.mark.skipif(not can_make_interfaces(), reason="may not make tap interfaces here")


@pytest.fixture
def wire():
    """Opens a packet socket on an interface, for the experimental EtherType."""
    sockets = []

    def make(interface):
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
        sockets.append(end)
        end.bind((interface, 0x88B5))
        end.settimeout(10)
        return end

    yield make
    for end in sockets:
        end.close()


@needs_tap
def test_frames_pass_both_ways(bench, wire):
    bench = bench(tap())
    host = wire(NAME)

    bench.link.send(FRAME)
    heard = host.recv(2000)
    host.send(FRAME[::-1][:12] + FRAME[12:])
    bench.wait(lambda: any(frame[12:14] == b"\x88\xb5" for frame in bench.received))

    assert heard == FRAME
    assert FRAME[::-1][:12] + FRAME[12:] in bench.received


@needs_tap
def test_interface_that_was_made_goes_with_the_link(bench):
    link = bench(tap()).link
    during = NAME in [name for _, name in socket.if_nameindex()]

    link.close()

    assert during
    assert NAME not in [name for _, name in socket.if_nameindex()]


@needs_tap
def test_interface_in_use_is_refused(bench):
    bench(tap())

    with pytest.raises(BackendError, match=f"{NAME} is in use by another"):
        bench(tap())


@needs_tap
def test_interface_that_is_no_tap_is_refused(bench):
    with pytest.raises(BackendError, match="lo exists and is no tap interface"):
        bench(tap("lo"))


@needs_tap
def test_removed_interface_is_told_once_and_the_link_goes_quiet(bench, caplog):
    bench = bench(tap())

    subprocess.run(["ip", "link", "del", NAME], check=True)
    bench.wait(lambda: bench.link.problem)
    bench.link.send(FRAME)

    assert f"interface {NAME} is gone" in bench.link.problem
    assert [record.getMessage() for record in caplog.records] == [bench.link.problem]
    assert bench.link.stats.tx_dropped == 1


@needs_tap
def test_interface_that_is_down_drops_and_comes_back(bench, wire):
    bench = bench(tap())
    subprocess.run(["ip", "link", "set", NAME, "down"], check=True)

    bench.link.send(FRAME)
    dropped = bench.link.stats.tx_dropped
    subprocess.run(["ip", "link", "set", NAME, "up"], check=True)
    host = wire(NAME)
    bench.link.send(FRAME)

    assert dropped == 1
    assert host.recv(2000) == FRAME
    assert bench.link.problem is None


@needs_tap
@pytest.mark.parametrize("length", [13, MAX_FRAME + 1])
def test_frame_of_wrong_length_is_counted(bench, length):
    link = bench(tap()).link

    link.send(bytes(length))

    assert link.stats.tx_invalid == 1


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.ENOENT, "modprobe tun"), (errno.EACCES, "be root"), (errno.EPERM, "use passt")],
)
def test_tun_device_that_does_not_open_is_explained(code, remedy):
    assert remedy in _open_refusal("tap0", OSError(code, os.strerror(code)))


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EPERM, "ip tuntap add tap0 mode tap user"),
        (errno.EBUSY, "in use by another"),
        (errno.EINVAL, "is no tap interface"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_interface_that_does_not_attach_is_explained(code, remedy):
    assert remedy in _attach_refusal("tap0", OSError(code, os.strerror(code)))
