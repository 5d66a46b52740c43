"""Debian on networks: the host's through passt, and a hub between two machines."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hypervisor import Machine
from hypervisor.config.faults import LostPacket

pytestmark = pytest.mark.guest

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = CONFIGS / "riscv64-network.yaml"
SECOND = {"riscv64": "at: 0x1000_3000, irq: plic.3", "aarch64": "at: 0x0a00_3000, irq: gic.51"}
"""Where each architecture's machine has room for another network device."""
SIZE = 10_000_000
PROMPT = "\n# "

WITH_CABLES = """
base: {config}
devices:
  net0: {{forward: ["tcp:127.0.0.1:{port}:80"], pcap: {pcap}}}
  net1: {{type: virtio.net, {second}}}
"""

ON_A_HUB = """
base: {config}
boot: {{initrd: {initrd}, command_line: "{console} no4lvl"}}
devices:
  uart0: {{backend: {uart}}}
  net0: {{backend: hub, hub: {hub}}}
  vcon0:
    type: virtio.console
    at: 0x1000_4000
    irq: plic.4
    backend: {hvc}
    ports: [{{name: org.example.port, backend: channel:port}}]
"""

SEGMENTS = "grep Tcp: /proc/net/snmp"

Ask = Callable[..., str]
Build = Callable[[str], Path]


@dataclass
class Online:
    """A machine at its prompt, with the host's side of its network."""

    machine: Machine
    forwarded: int
    """The host's port that leads to the guest's port 80."""
    served: int
    """The port of a server on the host's loopback."""
    data: bytes
    pcap: Path


@pytest.fixture(scope="module", params=["riscv64", "aarch64"])
def booted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Online]:
    config, second = CONFIGS / f"{request.param}-network.yaml", SECOND[request.param]
    folder = tmp_path_factory.mktemp("network")
    data = random.Random(1).randbytes(SIZE)
    (folder / "www").mkdir()
    (folder / "www" / "data").write_bytes(data)
    port, pcap, description = free_port(), folder / "frames.pcap", folder / "machine.yaml"
    description.write_text(WITH_CABLES.format(config=config, port=port, pcap=pcap, second=second))
    with serve(folder / "www") as served, Machine.load(description) as machine:
        machine.console.expect(PROMPT, timeout=400)
        yield Online(machine, port, served, data, pcap)


@pytest.fixture
def online(booted: Online, request: pytest.FixtureRequest) -> Iterator[Online]:
    yield booted
    request.node.add_report_section("call", "console", booted.machine.console.text[-3000:])


def retransmitted(answer: str) -> int:
    """Of a kernel's two lines on TCP: names, and numbers."""
    names, numbers = (line.split() for line in answer.splitlines() if line.startswith("Tcp:"))
    return int(numbers[names.index("RetransSegs")])


def test_guest_gets_an_address_by_dhcp(online: Online, ask: Ask) -> None:
    assert "\nnetwork up" in online.machine.console.text
    assert "inet 10.0.2.15/24" in ask(online.machine, "ip addr show eth0")
    assert "default via 10.0.2.2 dev eth0" in ask(online.machine, "ip route")


def test_guest_fetches_a_file_from_the_host_s_loopback(online: Online, ask: Ask) -> None:
    ask(online.machine, f"wget -q -O /tmp/data http://10.0.2.2:{online.served}/data")

    answer = ask(online.machine, "sha256sum /tmp/data")  # a kernel may say something meanwhile

    assert hashlib.sha256(online.data).hexdigest() in answer


def test_host_reaches_a_server_in_the_guest(online: Online, ask: Ask) -> None:
    url = f"http://127.0.0.1:{online.forwarded}/page"
    ask(online.machine, "mkdir /tmp/www; seq 1 20000 >/tmp/www/page; httpd -p 80 -h /tmp/www")

    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(fetch, url)
        page.add_done_callback(lambda _: online.machine.stop())
        outcome = online.machine.run(timeout=100)

    assert outcome.kind == "stopped"
    assert page.result().split() == [b"%d" % number for number in range(1, 20_001)]


def test_lost_packet_is_sent_again(online: Online, ask: Ask, tmp_path: Path) -> None:
    machine = online.machine
    ask(machine, "mkdir -p /tmp/www; seq 1 20000 >/tmp/www/page; httpd -p 80 -h /tmp/www")
    before = retransmitted(ask(machine, SEGMENTS))
    machine.faults.add(LostPacket(device="net0", direction="sent", nth=30))
    trace = machine.trace("fault,request:net0.transmitq", tmp_path / "lost.txt")

    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(fetch, f"http://127.0.0.1:{online.forwarded}/page")
        page.add_done_callback(lambda _: machine.stop())
        machine.run(timeout=100)
    trace.close()

    lines = (tmp_path / "lost.txt").read_text().splitlines()
    lost = next(n for n, line in enumerate(lines) if "sent by net0, was lost" in line)
    assert "request net0.transmitq" in lines[lost - 1]
    assert page.result().split()[-1] == b"20000"
    assert retransmitted(ask(machine, SEGMENTS)) > before


def test_link_without_a_backend_leads_nowhere(online: Online, ask: Ask) -> None:
    ask(online.machine, "ip link set eth1 up")
    lease = ask(online.machine, "udhcpc -i eth1 -n -q -t 2 -T 1 -s /bin/true || echo none")

    assert lease.endswith("failing\nnone")
    assert int(ask(online.machine, "cat /sys/class/net/eth1/statistics/tx_packets")) >= 2
    assert ask(online.machine, "cat /sys/class/net/eth1/statistics/rx_packets") == "0"


def test_capture_holds_the_dhcp_exchange(online: Online) -> None:
    kinds = [dhcp_message(frame) for frame in read_pcap(online.pcap)]

    messages = [kind for kind in kinds if kind is not None]

    assert messages[:4] == ["discover", "offer", "request", "ack"]


def test_guest_takes_random_numbers_of_the_device(online: Online, ask: Ask) -> None:
    rng = "/sys/class/misc/hw_random/rng_current"

    assert ask(online.machine, f"cat {rng}").strip() == "virtio_rng.0"
    assert ask(online.machine, "head -c 4096 /dev/hwrng | wc -c").strip() == "4096"


@dataclass
class Station:
    """A machine on the hub, and the one thread that it belongs to."""

    machine: Machine
    thread: ThreadPoolExecutor

    def ask(self, ask: Ask, command: str) -> str:
        return self.thread.submit(ask, self.machine, command).result(timeout=400)

    def close(self) -> None:
        self.thread.submit(self.machine.close).result(timeout=60)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Meanwhile the guest goes on."""
        run = self.thread.submit(self.machine.run, timeout=200)
        try:
            yield
        finally:
            self.machine.stop()
            run.result(timeout=60)


@pytest.fixture(scope="module")
def hub(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Station]]:
    """Two machines: one has its shell on the UART, the other on the virtio console."""
    folder = tmp_path_factory.mktemp("hub")
    initrd = build("virtio-shell.yaml")
    consoles = [
        {"console": "console=ttyS0", "uart": "stdio", "hvc": "none"},
        {"console": "console=hvc0", "uart": "none", "hvc": "stdio"},
    ]
    with ExitStack() as stack:
        stations, boots = [], []
        for number, console in enumerate(consoles):
            text = ON_A_HUB.format(config=CONFIG, initrd=initrd, hub=folder.name, **console)
            path = folder / f"{number}.yaml"
            path.write_text(text)
            thread = stack.enter_context(ThreadPoolExecutor(1))
            machine = thread.submit(Machine.load, path).result()
            station = Station(machine, thread)
            stack.callback(station.close)
            stations.append(station)
            boots.append(thread.submit(machine.console.expect, PROMPT, timeout=400))
        for boot in boots:
            boot.result()
        yield stations


@pytest.fixture
def stations(hub: list[Station], request: pytest.FixtureRequest) -> Iterator[list[Station]]:
    yield hub
    for number, station in enumerate(hub):
        text = station.machine.console.text[-3000:]
        request.node.add_report_section("call", f"console of machine {number}", text)


def test_two_machines_on_a_hub_reach_each_other(stations: list[Station], ask: Ask) -> None:
    for number, station in enumerate(stations, 1):
        station.ask(ask, f"ip addr add 192.168.7.{number}/24 dev eth0; ip link set eth0 up")

    first, second = stations
    with second.running():
        there = first.ask(ask, "ping -c 3 -i 0.2 192.168.7.2")
    with first.running():
        back = second.ask(ask, "ping -c 3 -i 0.2 192.168.7.1")

    assert "3 packets transmitted, 3 packets received, 0% packet loss" in there
    assert "3 packets transmitted, 3 packets received, 0% packet loss" in back


def test_shell_on_the_virtio_console_answers(stations: list[Station], ask: Ask) -> None:
    station = stations[1]

    assert station.ask(ask, "tty") == "/dev/hvc0"
    assert "hvc0" in station.ask(ask, "cat /sys/class/tty/console/active")
    assert station.machine.stats()["mmio"]["vcon0"]["writes"] > 100


def test_named_port_leads_both_ways(stations: list[Station], ask: Ask) -> None:
    station = stations[0]
    channel = station.machine.channels["port"]
    name = station.ask(ask, "grep -l org.example.port /sys/class/virtio-ports/*/name")
    port = "/dev/" + name.split("/")[-2]

    channel.send("from the host\n")
    heard = station.ask(ask, f"head -n 1 {port}")
    station.ask(ask, f"echo from the guest >{port}")

    assert heard == "from the host"
    assert channel.text == "from the guest\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(folder: Path) -> Iterator[int]:
    """Serve a folder by HTTP on the loopback: the port."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def fetch(url: str) -> bytes:
    """Fetch a page of the guest's. passt gives up a connection that no guest accepted in 10 seconds
    of the host's, which on a busy host are few of the guest's."""
    for _ in range(9):
        with suppress(ConnectionResetError), urllib.request.urlopen(url, timeout=90) as answer:
            return bytes(answer.read())
    raise TimeoutError(f"{url} was not answered")


def read_pcap(path: Path) -> Iterator[bytes]:
    """The frames of a capture (nanosecond variant), each whole and no older than the last."""
    data = path.read_bytes()
    magic, major, minor, _, _, longest, kind = struct.unpack_from("<IHHiIII", data)
    assert (magic, major, minor, kind) == (0xA1B23C4D, 2, 4, 1)
    offset, latest = 24, (0, 0)
    while offset < len(data):
        seconds, nanoseconds, kept, length = struct.unpack_from("<IIII", data, offset)
        assert kept == length <= longest
        assert (seconds, nanoseconds) >= latest
        assert nanoseconds < 1_000_000_000
        latest = seconds, nanoseconds
        yield data[offset + 16 : offset + 16 + kept]
        offset += 16 + kept
    assert offset == len(data)


DHCP = {1: "discover", 2: "offer", 3: "request", 5: "ack"}


def dhcp_message(frame: bytes) -> str | None:
    """Which DHCP message an Ethernet frame is (RFC 2132, section 9.6), None for other frames."""
    is_udp = frame[12:14] == b"\x08\x00" and frame[23] == 17
    ports = frame[34:36], frame[36:38]
    if not is_udp or set(ports) != {b"\x00\x43", b"\x00\x44"}:
        return None
    options = frame[42 + 240 :]
    while options and options[0] != 53:
        options = options[1:] if options[0] == 0 else options[2 + options[1] :]
    return DHCP.get(options[2])
