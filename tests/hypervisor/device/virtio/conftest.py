"""A virtio device that sends back what it is sent, and its driver."""

import pytest

from hypervisor.device import Options, Register
from hypervisor.device.testing import Bench
from hypervisor.device.virtio import CONFIG, VirtioDevice
from hypervisor.device.virtio.testing import GuestDriver


class Echo(VirtioDevice):
    """Copies the readable part of each chain into its writable part."""

    Options = Options
    type = "test.echo"
    device_id = 0x42
    features = 1 << 3
    queue_names = ("echoq", "otherq")
    speed = Register(CONFIG, reset=0x11223344)
    limit = 1 << 16

    def on_queue(self, index: int) -> None:
        for chain in self.chains(index):
            self.complete(chain, chain.write(chain.read(0, self.limit)))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def echo(bench: Bench) -> Echo:
    return bench.build(Echo, "echo0", at=0x1000_1000)


@pytest.fixture
def driver(echo: Echo, bench: Bench) -> GuestDriver:
    return GuestDriver(echo, bench)
