"""A disk in memory that records what is asked of it."""

import pytest

from devices.virtio import blk
from hypervisor.device.testing import Bench


class FakeDisk:
    def __init__(self, size: int = 1 << 20, read_only: bool = False) -> None:
        self.data = bytearray(bytes(range(256)) * (size // 256))
        self.size = size
        self.read_only = read_only
        self.calls: list[tuple] = []
        self.failure: Exception | None = None
        self.closed = False

    def _called(self, *call) -> None:
        if self.failure is not None:
            raise self.failure
        self.calls.append(call)

    def read(self, offset, length):
        self._called("read", offset, length)
        return bytes(self.data[offset : offset + length])

    def write(self, offset, data):
        self._called("write", offset, len(data))
        self.data[offset : offset + len(data)] = data

    def flush(self):
        self._called("flush")

    def discard(self, offset, length):
        self._called("discard", offset, length)
        self.data[offset : offset + length] = bytes(length)

    def write_zeroes(self, offset, length):
        self._called("write_zeroes", offset, length)
        self.data[offset : offset + length] = bytes(length)

    def identity(self):
        return "sha256:00"

    def save(self):
        return {"data": bytes(self.data)}

    def load(self, state):
        self.data[:] = state["data"]

    def close(self):
        self.closed = True


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def make_disk(monkeypatch):
    """Builds a virtio disk over a FakeDisk: make_disk(bench, fake, **options)."""

    def make(bench, fake, **options):
        monkeypatch.setattr(blk, "open_disk", lambda path, **how: fake)
        return bench.build(blk.VirtioBlk, "disk0", file="disk.img", **options)

    return make


@pytest.fixture
def fake() -> FakeDisk:
    return FakeDisk()
