"""A virtio GPU on a bench: its driver, and a core that records what it is asked."""

from __future__ import annotations

from struct import pack, unpack_from

import pytest

from gpu.opencl import Status
from gpu.virtio_gpu import device as virtio_gpu
from gpu.virtio_gpu.protocol import HEADER, LAYOUTS, Command, Header
from hypervisor.device.testing import Bench, BenchMemory
from hypervisor.device.virtio.testing import GuestDriver


class FakeContext:
    def __init__(self, number, label):
        self.number = number
        self.label = label
        self.blobs = {}
        self.granted = Status.SUCCESS
        self.submitted = []
        self.waiting = []
        self.closed = False
        self.is_full = False
        self.is_stuck = False

    def grant(self, blob, pieces):
        self.blobs[blob] = list(pieces)
        return self.granted

    def revoke(self, blob):
        del self.blobs[blob]

    def submit(self, ring, stream, signal, tag=0):
        self.submitted.append((ring, stream))
        self.waiting.append((ring, signal, tag))

    def complete(self, ring):
        """Signal the oldest submission of a ring."""
        place = next(n for n, (number, *_) in enumerate(self.waiting) if number == ring)
        self.waiting.pop(place)[1]()

    def close(self):
        self.closed = True


class FakeCore:
    fault = None

    def __init__(self):
        self.made = []

    def capset(self):
        return b"capabilities"

    def create_context(self, label):
        self.made.append(FakeContext(len(self.made) + 1, label))
        return self.made[-1]

    @property
    def contexts(self):
        return {context.number: context for context in self.made}

    def reset(self):
        """Contexts are kept for the tests to look at."""

    def close(self):
        self.closed = True

    def save(self):
        return [
            [context.label, [[ring, tag] for ring, _, tag in context.waiting]]
            for context in self.made
        ]

    def check(self, state):
        pass

    def load(self, state, resume):
        self.made = []
        for label, waiting in state:
            context = self.create_context(label)
            for ring, tag in waiting:
                context.submit(ring, b"", resume(context, ring, tag), tag)


class Driver(GuestDriver):
    """A guest's driver of the GPU."""

    def ask(self, command, *fields, tail=b"", header=(0, 0, 0, 0), room=1200, queue=0):
        """Make a request; its response type and what follows the response's header."""
        offer = self.request(command, *fields, tail=tail, header=header, room=room, queue=queue)
        return response(offer.data())

    def request(self, command, *fields, tail=b"", header=(0, 0, 0, 0), room=1200, queue=0):
        """Offer a request and notify: header is (flags, fence_id, ctx_id, ring_idx)."""
        body = LAYOUTS[command].pack(*fields) if command in LAYOUTS else b""
        offer = self.queues[queue].offer(
            [Header(command, *header).pack() + body, *([tail] if tail else [])], room or ()
        )
        self.notify(queue)
        return offer

    def picture(self, number=1, width=16, height=8, data=None):
        """Make a B8G8R8X8 picture with memory behind it, and transfer all; the memory's address."""
        address = self.allocate(4 * width * height, 4096)
        self.memory.write(address, data or bytes(range(256)) * (width * height // 64))
        self.ask(Command.RESOURCE_CREATE_2D, number, 2, width, height)
        self.attach(number, [(address, 4 * width * height)])
        self.ask(Command.TRANSFER_TO_HOST_2D, 0, 0, width, height, 0, number)
        return address

    def attach(self, number, pieces):
        table = entries(pieces)
        return self.ask(Command.RESOURCE_ATTACH_BACKING, number, len(pieces), tail=table)[0]

    def blob(self, number, pieces, size=None, mem=1):
        total = sum(length for _, length in pieces)
        fields = (number, mem, 1, len(pieces), 0, total if size is None else size)
        return self.ask(Command.RESOURCE_CREATE_BLOB, *fields, tail=entries(pieces))[0]

    def context(self, number=1, capset=30, name=b"prog"):
        return self.ask(
            Command.CTX_CREATE, len(name), capset, name.ljust(64, b"\0"), header=(0, 0, number, 0)
        )[0]

    def submit(self, stream, context=1, flags=0, fence=0, ring=0):
        return self.request(
            Command.SUBMIT_3D, len(stream), tail=stream, header=(flags, fence, context, ring)
        )


def entries(pieces):
    return b"".join(pack("<QI4x", address, size) for address, size in pieces)


def response(data):
    return unpack_from("<I", data)[0], data[HEADER.size :]


@pytest.fixture
def bench():
    bench = Bench()
    bench.memory = BenchMemory(size=8 << 20)
    return bench


@pytest.fixture
def core():
    return FakeCore()


@pytest.fixture
def build(core, monkeypatch):
    """build(bench, **options): a GPU over the recording core."""

    def make(bench, **options):
        monkeypatch.setattr(virtio_gpu, "open_core", lambda name, options, board: core)
        return bench.build(virtio_gpu.VirtioGpu, "gpu0", **options)

    return make


@pytest.fixture
def gpu(build, bench):
    return build(bench)


@pytest.fixture
def driver(gpu, bench):
    driver = Driver(gpu, bench)
    driver.start(size=64)
    return driver


@pytest.fixture
def driver_of(bench):
    """driver_of(gpu): a started driver of that GPU."""

    def make(gpu):
        driver = Driver(gpu, bench)
        driver.start(size=64)
        return driver

    return make
