"""Hostile guests: random and mutated packets against a context's checks.

The worker here is of paper: it executes nothing, and insists that whatever reaches it stays within
what there is. What must hold besides: no exception reaches the machine, a refused command changes
nothing, fences come in order, the quota is exact, and all can be given up.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu import protocol as p
from gpu.core.objects import Buffer, Image, RefusedError
from gpu.host.builds import Build
from gpu.host.result import Built, parse
from gpu.opencl import Status
from gpu.protocol.fields import Blob, Counted, Fixed, Kind, New
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench
from tests.effort import effort

COMMANDS = effort(20_000, 1_000_000)
"""Packets in all."""
BURST = 500
IDS = [*range(24), 99, 1 << 31]
SIZES = [0, 1, 2, 4, 7, 8, 16, 64, 127, 128, 256, 1024, 4096, 65536, 1 << 20, 1 << 24]
EDGES = [(1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63), (1 << 64) - 1]
TEXTS = [b"", b"k", b"k;k", b"-cl-mad-enable", b"-DA=1", b"-x", b"\0", b"a.h\0", b"\xff" * 9]
SOURCE = b"""__kernel void k(__global uint *a, uint n, __local int *l, read_only image2d_t i) {
    if (a && get_global_id(0) == 0) a[0] = n;
}"""
VALUES = [
    *(1, 2, 3, 4, 5, 8, 9, 16, 32, 128, 256, 384, 512),
    *range(0x10B0, 0x10BF), *range(0x10D0, 0x10E0), *range(0x10F0, 0x10F7),
    *range(0x1130, 0x1135), 0x1140, 0x1141,
]  # fmt: skip

FREE = range(40, 56)
STANDING = {
    Kind.CONTEXT: (CONTEXT,), Kind.QUEUE: (QUEUE, 3), Kind.BUFFER: (10, 11, 12),
    Kind.IMAGE: (14, 15),
    Kind.SAMPLER: (16,), Kind.PROGRAM: (17, 18, 20), Kind.KERNEL: (21,), Kind.EVENT: (22, 23),
}  # fmt: skip
"""Objects that are there from the start, by their ids."""
WRONG = 0.04
"""How often a field has anything at all."""
LIKELY = {
    "size": (1, 4, 16, 64, 4096), "width": (1, 4, 8), "height": (0, 1, 4), "depth": (0, 1, 2),
    "array_size": (0, 1, 2), "dimensions": (1, 2, 3), "normalized": (0, 1), "least": (1,),
    "channel_order": (0x10B5,), "channel_type": (0x10DA,), "flags": (0, 0, 0, 1, 1, 4),
    "origin": (0, 128, 256), "properties": (0, 1, 2, 3), "row_pitch": (0,), "slice_pitch": (0,),
    "buffer_row_pitch": (0, 64), "host_row_pitch": (0, 64), "buffer_slice_pitch": (0,),
    "host_slice_pitch": (0,), "source_row_pitch": (0, 64), "destination_row_pitch": (0, 64),
    "source_slice_pitch": (0,), "destination_slice_pitch": (0,), "status": (0, -5),
    "blob_offset": (0, 128, 4096), "index": (0, 1, 2, 3), "buffer_offset": (0, 4),
}  # fmt: skip
LIKELY_VECTORS = {
    "region": (1, 1, 1, 2, 4), "global_size": (1, 4, 8, 256), "local_size": (0, 0, 1, 2),
    "offset": (0, 1), "origin": (0, 0, 1), "buffer_origin": (0, 1), "host_origin": (0, 1),
    "source_origin": (0, 0, 1), "destination_origin": (0, 0, 1, 2),
}  # fmt: skip
LIKELY_BYTES = {
    "source": (SOURCE,), "options": (b"", b"", b"-cl-mad-enable"), "key": (b"k",),
    "function_name": (b"k",), "value": (bytes(4), bytes(4), bytes(8)), "data": (b"data",),
    "pattern": (b"a", b"abcd"), "color": (bytes(16),), "names": (b"", b"a.h\0"),
}  # fmt: skip


def furnish(guest: GuestBench) -> None:
    """Make what STANDING names."""
    guest.set_up()
    rgba = {"channel_order": 0x10B5, "channel_type": 0x10DA}
    guest.do(
        p.CreateQueue(id=3, context=CONTEXT, properties=3),
        p.CreateBuffer(id=10, context=CONTEXT, size=65536),
        p.CreateBuffer(id=11, context=CONTEXT, size=65536, blob=BULK),
        p.CreateSubBuffer(id=12, buffer=10, origin=1024, size=4096),
        p.CreateImage(id=14, context=CONTEXT, type=0x10F1, width=8, height=8, **rgba),
        p.CreateImage(
            id=15, context=CONTEXT, type=0x10F1, width=8, height=8, blob=BULK,
            blob_offset=1 << 17, **rgba,
        ),
        p.CreateSampler(id=16, context=CONTEXT, normalized=1, addressing=0x1131, filter=0x1140),
        *(p.CreateProgram(id=i, context=CONTEXT, source=SOURCE) for i in (17, 18, 20)),
        p.BuildProgram(program=17),
        p.CompileProgram(program=18),
        p.CreateKernel(id=21, program=17, function_name=b"k"),
        p.SetArgumentObject(kernel=21, index=0, object=10),
        p.SetArgument(kernel=21, index=1, value=bytes(4)),
        p.SetArgumentLocal(kernel=21, index=2, size=64),
        p.SetArgumentObject(kernel=21, index=3, object=14),
        p.CreateUserEvent(id=22, context=CONTEXT),
        p.Marker(queue=3, event=23),
    )  # fmt: skip


# -- paper -------------------------------------------------------------------------------------


class PaperWorker:
    """Keeps sizes only."""

    is_lost = ""

    def __init__(self) -> None:
        self._replies: list[dict[str, Any]] = []
        self._sizes: dict[int, int] = {}
        self._blobs: dict[int, int] = {}

    def count(self, commands: int) -> None:
        pass

    def close(self) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def send(self, message: tuple[int, list[tuple[Any, ...]]], fd: int | None = None) -> None:
        number, operations = message
        for operation in operations:
            name, *arguments = operation[2] if operation[0] == "after" else operation
            getattr(self, f"_{name}", self._ignore)(*arguments)
        self._replies.append({"done": number, "failed": [], "copied": 0})

    def receive(self, seconds: float | None = None) -> dict[str, Any]:
        return self._replies.pop(0)

    def poll(self) -> dict[str, Any] | None:
        return self._replies.pop(0) if self._replies else None

    @staticmethod
    def _ignore(*arguments: Any) -> None:
        pass

    @staticmethod
    def _within(offset: int, size: int, limit: int) -> None:
        assert offset >= 0
        assert size > 0
        assert offset + size <= limit

    def _grant(self, blob: int, pieces: list[tuple[int, int]]) -> None:
        self._blobs[blob] = sum(size for _, size in pieces)

    def _revoke(self, blob: int) -> None:
        del self._blobs[blob]

    def _buffer(self, number: int, size: int) -> None:
        assert number not in self._sizes
        self._sizes[number] = size

    def _blob_buffer(self, number: int, size: int, blob: int, offset: int) -> None:
        self._within(offset, size, self._blobs[blob])
        self._buffer(number, size)

    _copied_buffer = _blob_buffer

    def _sub_buffer(self, number: int, parent: int, origin: int, size: int) -> None:
        self._within(origin, size, self._sizes[parent])
        self._buffer(number, size)

    def _image(
        self, number: int, format_: Any, kind: int, shape: Any, pitches: Any, source: Any
    ) -> None:
        self._buffer(number, 1)

    def _drop(self, number: int) -> None:
        self._sizes.pop(number, None)

    def _read(self, memory: int, offset: int, size: int, blob: int, at: int) -> None:
        self._within(offset, size, self._sizes[memory])
        self._within(at, size, self._blobs[blob])

    _write = _read

    def _write_inline(self, memory: int, offset: int, data: bytes) -> None:
        self._within(offset, len(data), self._sizes[memory])

    def _copy(self, source: int, target: int, size: int, at: int, to: int) -> None:
        self._within(at, size, self._sizes[source])
        self._within(to, size, self._sizes[target])
        assert source != target or at + size <= to or to + size <= at

    def _fill(self, memory: int, pattern: bytes, offset: int, size: int) -> None:
        self._within(offset, size, self._sizes[memory])
        assert offset % len(pattern) == size % len(pattern) == 0

    def _box(self, origin: Any, region: Any, pitches: Any, limit: int) -> None:
        row, slice_ = pitches
        last = [start + length - 1 for start, length in zip(origin, region, strict=True)]
        self._within(last[2] * slice_ + last[1] * row + last[0], 1, limit)

    def _read_rect(
        self, memory: int, blob: int, at: int, origin: Any, host_origin: Any, region: Any,
        pitches: Any, host_pitches: Any,
    ) -> None:  # fmt: skip
        self._box(origin, region, pitches, self._sizes[memory])
        self._box(host_origin, region, host_pitches, self._blobs[blob] - at)

    _write_rect = _read_rect

    def _copy_rect(
        self, source: int, target: int, origin: Any, to: Any, region: Any, pitches: Any,
        to_pitches: Any,
    ) -> None:  # fmt: skip
        self._box(origin, region, pitches, self._sizes[source])
        self._box(to, region, to_pitches, self._sizes[target])

    def _map(self, mapping: int, memory: int, flags: int, offset: int, size: int) -> None:
        self._within(offset, size, self._sizes[memory])

    def _read_image(
        self, image: int, origin: Any, region: Any, pitches: Any, blob: int, at: int, size: int
    ) -> None:
        self._within(at, size, self._blobs[blob])

    _write_image = _read_image

    def _range(
        self, kernel: int, arguments: Any, global_size: Any, local_size: Any, offset: Any
    ) -> None:
        for _, kind, value in arguments:
            assert kind != 1 or value in self._sizes
        assert local_size is None or all(
            size and whole % size == 0 for whole, size in zip(global_size, local_size, strict=True)
        )


class PaperWorkers:
    """Instead of gpu.host.process.Workers."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._description = description

    def describe(self) -> dict[str, Any]:
        return self._description

    def take(self, *part: Any) -> PaperWorker:
        return PaperWorker()

    def close(self) -> None:
        pass


class PaperBuild(Build):
    """Done at once, with one kernel of four arguments."""

    def __init__(self, recipe: tuple[Any, ...], built: Built) -> None:
        self.recipe = recipe
        self.key = "k"
        self.users = self.host = 0
        self._admit = lambda build, size: True
        self._worker = None
        self._built = built


class PaperBuilds:
    """Instead of gpu.host.builds.Builds."""

    def build(self, recipe: tuple[Any, ...], binary: bytes = b"") -> Build:
        arguments = [
            [0x119B, 0x11A3, 0, "uint*", "a"], [0x119E, 0x11A3, 0, "uint", "n"],
            [0x119C, 0x11A3, 0, "int*", "l"], [0x119E, 0x11A0, 0, "image2d_t", "i"],
        ]  # fmt: skip
        kernel = {
            "name": "k", "count": 4, "arguments": arguments, "compile_group": [0, 0, 0],
            "group": 64, "multiple": 1, "local": 0, "private": 0, "attributes": "",
        }  # fmt: skip
        result = {"status": 0, "log": "", "kernels": [kernel], "binary": "00"}
        return PaperBuild(recipe, parse(result, Status.BUILD_PROGRAM_FAILURE, "k"))

    def known(self, key: str) -> Build:
        return self.build(("binary", key))

    def cached(self, key: str) -> Built | None:
        return self.build(("binary", key)).join() if key == "k" else None


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    """What the host's device says, once."""
    with GuestBench() as guest:
        found: dict[str, Any] = guest.gpu.workers.describe()
        return found


@pytest.fixture
def make_guest(description: dict[str, Any]) -> Callable[[], GuestBench]:
    def make() -> GuestBench:
        guest = GuestBench(memory=1 << 20)
        guest.gpu.workers = PaperWorkers(description)  # type: ignore[assignment]
        guest.gpu.builds = PaperBuilds()  # type: ignore[assignment]
        return guest

    return make


# -- hostility ---------------------------------------------------------------------------------


class Attacker:
    """Makes packets that are wrong in likely places."""

    def __init__(self, seed: int, is_gentle: bool = False) -> None:
        """`is_gentle`: no more work-items than a device can really do."""
        self._random = random.Random(seed)
        self._is_gentle = is_gentle
        self._kinds = [kind for kind in p.COMMANDS.values() if not kind.front_end]

    def stream(self, commands: int) -> bytes:
        """So many packets, a few of them mutated or cut."""
        packets = [self.packet() for _ in range(commands)]
        if self._random.random() < 0.05:
            packets.append(self._random.randbytes(self._random.randrange(40)))
        return b"".join(packets)

    def packet(self) -> bytes:
        dice = self._random
        kind = dice.choice(self._kinds)
        command = kind.__new__(kind)
        for field in kind.layout.fields:
            setattr(command, field.name, self._value(field.name, field.spec, field.role))
        place = None
        if kind.must_answer or dice.random() < 0.3:
            place = p.AnswerPlace(
                dice.choice((1, 1, 1, BULK, 9)), dice.choice((0, 8, 64, EDGES[-1])),
                dice.choice((0, 7, 8, 64, 4096, 65536)),
            )  # fmt: skip
        packet = bytearray(command.encode(place))
        if dice.random() < 0.1 and not (self._is_gentle and kind is p.NdRange):
            for _ in range(dice.randrange(1, 4)):
                at = dice.randrange(8, len(packet)) if len(packet) > 8 else 0
                packet[at] ^= 1 << dice.randrange(8)
        return bytes(packet)

    def _value(self, name: str, spec: Any, role: Any) -> Any:
        dice = self._random
        if dice.random() < WRONG and not (self._is_gentle and name == "global_size"):
            return self._any(spec)
        if isinstance(spec, Fixed):
            return tuple(dice.choice(LIKELY_VECTORS.get(name, (1,))) for _ in range(spec.count))
        if isinstance(spec, Counted):
            if spec.code == "s":
                return dice.choice(LIKELY_BYTES.get(name, (b"",)))
            least = max(spec.least, 1 if dice.random() < 0.1 else 0)
            return tuple(self._id(role) for _ in range(least))
        if role is not None:
            return self._id(role)
        if spec.values:
            return dice.choice(LIKELY.get(name, spec.values))
        if spec.mask is not None:
            return dice.choice(LIKELY.get(name, (0,)))
        return dice.choice(LIKELY.get(name, (0, 0, 1, 4)))

    def _any(self, spec: Any) -> Any:
        dice = self._random
        if isinstance(spec, Fixed):
            return tuple(self._number("Q") for _ in range(spec.count))
        if isinstance(spec, Counted):
            if spec.code == "s":
                return dice.choice((*TEXTS, SOURCE))
            return tuple(dice.choice(IDS) for _ in range(dice.choice((0, 1, 2, 3))))
        return self._number(spec.code)

    def _id(self, role: Any) -> int:
        dice = self._random
        if isinstance(role, Blob):
            return dice.choice((0, BULK)) if role.optional else BULK
        if isinstance(role, New):
            return 0 if role.optional and dice.random() < 0.7 else dice.choice(FREE)
        if role.optional and dice.random() < 0.2:
            return 0
        if len(role.kinds) == len(Kind):
            return dice.choice(FREE)
        found = [i for kind in role.kinds for i in STANDING.get(kind, ())]
        return dice.choice(found) if found and dice.random() < 0.8 else dice.choice(FREE)

    def _number(self, code: str) -> int:
        dice = self._random
        pool = dice.choice((SIZES, SIZES, SIZES, VALUES, EDGES))
        value = dice.choice(pool) + (dice.randrange(-1, 2) if dice.random() < 0.1 else 0)
        if code == "i":
            return dice.choice((0, -1, -5, 1, -(1 << 31)))
        return value & ((1 << 64) - 1 if code == "Q" else (1 << 32) - 1)


def watch_refusals(guest: GuestBench) -> None:
    """Have each refused command compared with what was before it."""
    context = guest.context
    handle = context._handle

    def watched(command: p.Command) -> Any:
        before = (dict(context.table), context.used, guest.gpu.used, context.link.waiting)
        try:
            return handle(command)
        except RefusedError:
            after = (dict(context.table), context.used, guest.gpu.used, context.link.waiting)
            assert after == before, f"{command.name} was refused and changed something"
            raise

    context._handle = watched


def charges(guest: GuestBench) -> int:
    """What live objects cost, those included that only others hold."""
    found: dict[int, int] = {}
    waiting = list(guest.context.table.values())
    while waiting:
        thing = waiting.pop()
        waiting += thing.parents()
        if isinstance(thing, Buffer | Image):
            found[thing.number] = thing.charge
    return sum(found.values())


@settings(
    max_examples=max(COMMANDS // BURST, 1),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, (1 << 64) - 1))
def test_random_streams_reach_the_worker_only_when_they_are_right(
    make_guest: Callable[[], GuestBench], seed: int
) -> None:
    attacker = Attacker(seed)
    guest = make_guest()
    furnish(guest)
    watch_refusals(guest)
    order: dict[int, list[int]] = {ring: [] for ring in range(3)}

    for number in range(BURST // 25):
        ring = number % 3
        note = lambda ring=ring, number=number: order[ring].append(number)  # noqa: E731
        guest.context.submit(ring, attacker.stream(25), note, number)
        guest.bench.clock.advance(200_000)
    guest.bench.clock.advance(1 << 50)

    assert all(numbers == sorted(numbers) for numbers in order.values())
    assert charges(guest) <= guest.context.used == guest.gpu.used
    state = cbor2.loads(cbor2.dumps(guest.gpu.save()))
    fresh = make_guest()
    fresh.gpu.load(state, lambda context, ring, tag: lambda: None)
    assert cbor2.dumps(fresh.gpu.save()) == cbor2.dumps(state)
    give_up(guest)
    guest.gpu.close()
    fresh.gpu.close()


def give_up(guest: GuestBench) -> None:
    """Release everything, in an order that nobody thought of."""
    context = guest.context
    for identifier in list(context.table):
        guest.submit(p.Release(id=identifier))
    guest.bench.clock.advance(1 << 50)
    for mapping in list(context.table):
        context.release(mapping)
    context.submit(0, b"", lambda: None)
    assert context.used == 0


@settings(
    max_examples=max(COMMANDS // 10_000, 1),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(seed=st.integers(0, (1 << 64) - 1))
def test_device_does_all_of_a_random_stream_that_passed_the_checks(seed: int) -> None:
    attacker = Attacker(seed, is_gentle=True)
    with GuestBench(memory=1 << 20, opencl={"timeout": "60s"}) as guest:
        furnish(guest)
        failed: list[Any] = []
        guest.context._fail = lambda concern, status: failed.append((concern, status))  # type: ignore[method-assign]

        for number in range(16):
            guest.context.submit(0, attacker.stream(25), lambda: None, number)
            guest.bench.clock.advance(1 << 40)

        assert guest.context.lost == ""
        assert failed == []


@settings(max_examples=effort(50, 20_000), deadline=None)
@given(data=st.binary(max_size=400))
def test_random_bytes_are_no_stream(data: bytes) -> None:
    packets = list(p.decode(data))

    assert all(packet.end <= len(data) for packet in packets)
    assert all(packet.command is not None or packet.status for packet in packets)
