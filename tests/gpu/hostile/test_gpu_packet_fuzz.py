"""Random, mutated, forged and out-of-order packets against a real core and a real worker, where
test_hostile_streams.py has more of them against the core alone.

What must hold: no exception reaches the machine, no packet ends the worker, no byte outside of
granted memory changes, quotas hold, another context computes on, and when all is released nothing
is in use.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from gpu import protocol as p
from gpu.core.objects import Program
from gpu.opencl import Status
from gpu.protocol.fields import Blob, Counted, Fixed, Kind, New, Ref
from gpu.testing import ANSWER_ROOM, ANSWERS, BULK, CONTEXT, QUEUE, RAM, GuestBench
from tests.effort import effort
from tests.gpu.hostile.conftest import Neighbour

PACKETS = effort(1_000, 20_000)
STREAM = 40
ROUND = 1000
MEMORY = 4 << 20
IDS = 48
KEPT = (CONTEXT, QUEUE, 3, 4, 5)
"""Ids that are made anew when they are gone, so that the others have something to refer to."""
SOURCES = (
    b"__kernel void k(__global char *a) { if (a) a[0] = get_global_id(0); }",
    b"__kernel void k(float x, __local char *l, __global char *a) { if (a && l) a[0] = l[0] = x; }",
    b"__kernel void broken( {",
)
"""They stay within the smallest buffers, and bear null: wild kernels are tested elsewhere."""
NUMBERS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 64, 100, 128, 255, 256, 1000, 4095, 4096, 4097, 65536,
           1 << 20, MEMORY - 1, MEMORY, MEMORY + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
           1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
RANGES = (0, 1, 2, 3, 16, 64, 100)
"""Sizes of ND-ranges: a large one is no attack, only slow."""
COMMANDS = [kind for kind in p.COMMANDS.values() if not kind.front_end]


class Fuzzer:
    """Makes packets that are often nearly right."""

    def __init__(self, guest: GuestBench, seed: int) -> None:
        self._random = random.Random(seed)
        self._guest = guest

    def stream(self) -> bytes:
        chance = self._random.random
        packets = [self._packet() for _ in range(STREAM)]
        if chance() < 0.05:
            self._random.shuffle(packets)
        stream = b"".join(packets)
        if chance() < 0.1:
            stream = self._mutate(stream)
        if chance() < 0.02:
            stream = stream[: self._random.randrange(len(stream))]
        return stream

    def _packet(self) -> bytes:
        kind = self._random.choice(COMMANDS)
        command = kind(**{f.name: self._value(kind, f) for f in kind.layout.fields})
        place = None
        if kind.must_answer or self._random.random() < 0.2:
            blob = self._random.choice((ANSWERS, ANSWERS, ANSWERS, BULK, 0, 9))
            size = self._random.choice((0, 8, 64, 4096, ANSWER_ROOM, 1 << 31))
            place = p.AnswerPlace(blob, self._random.choice((0, 0, 4096, 1 << 63)), size)
        return command.encode(place)

    def _value(self, kind: type[p.Command], field: Any) -> Any:
        pick, chance = self._random.choice, self._random.random
        role, spec = field.role, field.spec
        if isinstance(spec, Counted) and role is not None:
            count = pick((0, 0, 0, 1, 2, 3))
            return tuple(self._id(role) for _ in range(max(count, spec.least)))
        if role is not None:
            return self._id(role)
        if isinstance(spec, Fixed):
            likely = RANGES if kind is p.NdRange else (0, 0, 1, 1, 2, 4, 16)
            rare = 0.0 if kind is p.NdRange else 0.1
            return tuple(pick(NUMBERS if chance() < rare else likely) for _ in range(spec.count))
        if isinstance(spec, Counted):
            return self._bytes(kind, field.name, spec)
        if spec.values and chance() < 0.95:
            return pick(spec.values)
        if spec.mask is not None and chance() < 0.9:
            return pick((0, 0, 1, 2, 4, 32)) & spec.mask
        bits = {"I": 32, "i": 31, "Q": 64}[spec.code]
        likely = pick(NUMBERS[:18]) if chance() < 0.9 else pick(NUMBERS)
        low = -3 if spec.code == "i" else spec.least or 0
        return max(likely & ((1 << bits) - 1), 0) if chance() < 0.8 else low

    def _id(self, role: New | Ref | Blob) -> int:
        pick, chance = self._random.choice, self._random.random
        if chance() < 0.03:
            return pick((0, 1, 0xDEAD, 0xFFFF_FFFF))
        if isinstance(role, Blob):
            return pick((BULK, BULK, ANSWERS, 0, 9))
        if isinstance(role, New):
            return self._random.randrange(6, IDS) if not role.optional or chance() < 0.4 else 0
        table = self._guest.context.table
        fitting = [i for i, thing in table.items() if thing.kind in role.kinds]
        if set(role.kinds) == set(Kind):
            fitting = [i for i in fitting if i not in KEPT or chance() < 0.05]
        return pick(fitting or [0])

    def _bytes(self, kind: type[p.Command], name: str, spec: Counted) -> Any:
        pick = self._random.choice
        if spec.code != "s":
            return (1,) * spec.least
        if name == "source":
            return pick((*SOURCES, *SOURCES[:2] * 8))
        if name == "options":
            return pick((b"", b"", b"-DX=1", b"-cl-mad-enable", b"-include /etc/passwd"))
        if name == "function_name":
            return pick((b"k", b"k", b"k", b"nothing", b"\xff\0"))
        sizes = [s for s in (1, 2, 4, 4, 8, 16, 100) if spec.least <= s <= spec.most]
        return self._random.randbytes(pick(sizes))

    def _mutate(self, stream: bytes) -> bytes:
        mutated = bytearray(stream)
        for _ in range(self._random.randrange(1, 6)):
            mutated[self._random.randrange(len(mutated))] = self._random.randrange(256)
        return bytes(mutated)

    def act(self) -> None:
        """What a front end does besides."""
        guest, roll = self._guest, self._random.random()
        if roll < 0.5:
            guest.bench.clock.advance(self._random.choice((0, 1000, 100_000, 10_000_000)))
        elif roll < 0.55:
            guest.context.revoke(BULK)
            guest.context.grant(BULK, [(RAM + guest.bulk_at, MEMORY)])
        elif roll < 0.6:
            for pieces in ([], [(0, 4096)], [(RAM + 1, 4096)], [(RAM, -4096)], [(1 << 64, 4096)]):
                assert guest.context.grant(7, pieces) == Status.INVALID_VALUE


def restore(guest: GuestBench) -> None:
    """What the fuzzer refers to, where it is gone."""
    table = guest.context.table
    made = {
        CONTEXT: p.CreateContext(id=CONTEXT),
        QUEUE: p.CreateQueue(id=QUEUE, context=CONTEXT, properties=1),
        3: p.CreateProgram(id=3, context=CONTEXT, source=SOURCES[0]),
        4: p.CreateKernel(id=4, program=3, function_name=b"k"),
        5: p.CreateBuffer(id=5, context=CONTEXT, size=65536, blob=BULK),
    }
    for i, command in made.items():
        if i in table and table[i].failure:
            guest.submit(p.Release(id=i))
        if i not in table:
            guest.submit(command, p.BuildProgram(program=3))


@pytest.mark.fuzz
def test_gpu_survives_random_packets() -> None:
    options: Any = {"memory": MEMORY, "timeout": "60s"}
    with GuestBench(opencl=options) as guest:
        neighbour = Neighbour(guest)
        guest.context.revoke(BULK)
        assert guest.context.grant(BULK, [(RAM + guest.bulk_at, MEMORY)]) == Status.SUCCESS
        fuzzer = Fuzzer(guest, seed=1)
        beyond = RAM + guest.bulk_at + MEMORY
        canary = bytes(range(256)) * 4096
        guest.bench.memory.write(beyond, canary)

        for number in range(0, PACKETS, STREAM):
            if number % ROUND == 0:
                restore(guest)
            guest.submit_bytes(fuzzer.stream(), ring=number // STREAM % 64)
            fuzzer.act()

            assert not guest.context.lost, guest.context.lost
            assert guest.gpu.used <= MEMORY
            assert guest.gpu.used == guest.context.used + neighbour.context.used
            if number % ROUND == ROUND - STREAM:
                finish(guest)
                assert guest.bench.memory.read(beyond, len(canary)) == canary
                neighbour.compute()

        finish(guest)
        neighbour.compute()
        give_up(guest)
        assert all(thing.kind is Kind.MAPPING for thing in guest.context.table.values())
        guest.context.close()
        assert guest.gpu.used == neighbour.context.used


def finish(guest: GuestBench) -> None:
    """Complete what waits for the guest's own events, and all else; forget what was made."""
    table = guest.context.table
    for i, thing in list(table.items()):
        if thing.kind is Kind.EVENT:
            guest.submit(p.SetUserEventStatus(event=i, status=0))
    mappings = [i for i, thing in table.items() if thing.kind is Kind.MAPPING]
    guest.submit(*(p.Unmap(queue=QUEUE, mapping=i) for i in mappings))
    guest.bench.clock.advance(1 << 50)
    builds = [t.build for t in table.values() if isinstance(t, Program) and t.build is not None]
    assert all(not build.is_running or build.join() for build in builds)
    guest.submit(*(p.Release(id=i) for i in list(table) if i not in KEPT))
    guest.bench.clock.advance(1 << 50)


def give_up(guest: GuestBench) -> None:
    """Release all. Mappings stay whose OpenCL context has gone before them: only its queues could
    end them."""
    guest.submit(*(p.Release(id=i) for i in list(guest.context.table)))
    guest.bench.clock.advance(1 << 50)
