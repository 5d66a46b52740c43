"""passt as a child: what a guest gets from it, and how it starts, fails and ends."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devices.net import NetOptions, open_net
from devices.net.passt import PasstWire, arguments
from hypervisor.device import BackendError


def passt(**options):
    return open_net(NetOptions(backend="passt", **options), lambda: 0)


def alive(pid):
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_lease_has_the_addresses_of_the_description(guest):
    guest = guest(passt(address="10.7.0.9/16", gateway="10.7.0.1", dns=["10.7.0.3"], mtu=1400))

    options = guest.lease()

    assert guest.address == "10.7.0.9"
    assert options[1] == socket.inet_aton("255.255.0.0")
    assert options[3] == socket.inet_aton("10.7.0.1")
    assert options[6] == socket.inet_aton("10.7.0.3")
    assert options[26] == (1400).to_bytes(2, "big")


def test_lease_by_default_is_the_documented_one(guest):
    guest = guest(passt())

    options = guest.lease()

    assert guest.address == "10.0.2.15"
    assert options[1] == socket.inet_aton("255.255.255.0")
    assert options[3] == socket.inet_aton("10.0.2.2")
    assert guest.resolve("10.0.2.2").hex(":") == "52:55:0a:00:02:02"


def test_lease_without_name_servers_names_none(guest):
    guest = guest(passt(dns=[]))

    options = guest.lease()

    assert 6 not in options


def test_udp_reaches_loopback_through_the_gateway(guest, servers):
    port = servers.udp_echo()
    guest = guest(passt())
    guest.lease()

    guest.send_udp(5000, "10.0.2.2", port, b"hello")

    assert guest.next_udp(5000) == ("10.0.2.2", port, b"HELLO")


def test_tcp_fetches_from_loopback_through_the_gateway(guest, servers):
    body = random.Random(1).randbytes(300_000)
    port = servers.tcp_once(body)
    guest = guest(passt())
    guest.lease()

    answer = guest.connect("10.0.2.2", port).fetch(b"GET\n")

    assert hashlib.sha256(answer).digest() == hashlib.sha256(b"GET\n" + body).digest()


def test_forwarded_tcp_port_reaches_the_guest(guest, servers):
    port = servers.free_port()
    guest = guest(passt(forward=[f"tcp:127.0.0.1:{port}:80"]))
    guest.lease()
    answers = []

    def client():
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"ping\n")
            answers.append(connection.makefile("rb").read())

    thread = threading.Thread(target=client, daemon=True)
    thread.start()
    connection = guest.accept(80)
    asked = connection.read(5)
    connection.finish(asked.upper())
    thread.join(10)

    assert connection.to == "10.0.2.2"
    assert answers == [b"PING\n"]


def test_forwarded_udp_port_reaches_the_guest_and_back(guest, servers):
    port = servers.free_port(socket.SOCK_DGRAM)
    guest = guest(passt(forward=[f"udp:{port}:53"]))
    guest.lease()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"who", ("127.0.0.1", port))
        address, source, asked = guest.next_udp(53)
        guest.send_udp(53, address, source, asked.upper())
        answer = client.recvfrom(100)

    assert address == "10.0.2.2"
    assert answer == (b"WHO", ("127.0.0.1", port))


def test_forwards_are_bound_to_loopback_by_default():
    words = arguments(
        NetOptions(backend="passt", forward=["tcp:8080:80", "udp:0.0.0.0:53:5353"]), 7
    )

    assert words[words.index("--tcp-ports") + 1] == "127.0.0.1/8080:80"
    assert words[words.index("--udp-ports") + 1] == "0.0.0.0/53:5353"


def test_taken_port_is_refused_with_the_port_in_the_sentence(bench):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(BackendError, match=rf"does not start.*{port}:80"):
            bench(passt(forward=[f"tcp:{port}:80"]))


def test_missing_program_names_its_package(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BackendError, match="apt install passt"):
        bench(passt())


def test_program_that_cannot_run_is_refused(bench, monkeypatch, tmp_path):
    program = tmp_path / "passt"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BackendError, match="cannot be run"):
        bench(passt())


def test_close_ends_the_child():
    wire = PasstWire(NetOptions(backend="passt"))

    wire.close()

    assert not alive(wire.pid)


def test_link_can_be_opened_again_after_close(guest):
    link = passt()
    guest(link).lease()
    link.close()

    again = guest(link)

    assert again.lease()[53] == b"\5"


def test_death_of_the_child_is_told_once_and_the_link_goes_quiet(bench, caplog, monkeypatch):
    wires = []
    monkeypatch.setattr(
        "devices.net.passt.PasstWire", lambda options: wires.append(PasstWire(options)) or wires[0]
    )
    bench = bench(passt())

    os.kill(wires[0].pid, signal.SIGKILL)
    bench.wait(lambda: bench.link.problem)
    bench.link.send(bytes(60))
    bench.link.send(bytes(60))

    assert "killed by signal 9" in bench.link.problem
    assert [record.getMessage() for record in caplog.records] == [bench.link.problem]
    assert bench.link.stats.tx_dropped == 2


def test_killed_machine_leaves_no_child():
    code = (
        "import time; from devices.net.passt import *\n"
        "print(PasstWire(NetOptions(backend='passt')).pid, flush=True); time.sleep(60)"
    )
    machine = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child = int(machine.stdout.readline())
    deadline = time.monotonic() + 10

    machine.kill()
    machine.communicate()
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert not alive(child)


def test_flood_from_the_guest_neither_blocks_nor_ends_the_link(guest):
    guest = guest(passt())
    guest.lease()
    noise = random.Random(2)

    for _ in range(3000):
        guest.link.send(noise.randbytes(noise.choice((14, 42, 60, 1514, 65535))))
    guest.neighbours.clear()

    stats = guest.link.stats
    assert stats.tx_frames + stats.tx_dropped >= 3000
    guest.wait(lambda: not guest.link._backlog)
    assert guest.resolve("10.0.2.2").hex(":") == "52:55:0a:00:02:02"


@pytest.mark.parametrize("length", [0, 13, 65_536, 65_551])
def test_frame_of_wrong_length_is_counted_and_dropped(guest, length):
    guest = guest(passt())

    guest.link.send(bytes(length))

    assert guest.link.stats.tx_invalid == 1
    assert guest.lease()[53] == b"\5"
