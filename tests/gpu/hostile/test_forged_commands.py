"""Every command with each of its fields forged: the right error, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gpu import opencl as cl
from gpu import protocol as p
from gpu.opencl import Status
from gpu.protocol.fields import Blob, Counted, Fixed, Kind, New, Number, Ref
from gpu.testing import ANSWER_ROOM, ANSWERS, BULK, CONTEXT, QUEUE, GuestBench

THERE = {
    Kind.CONTEXT: CONTEXT, Kind.QUEUE: QUEUE, Kind.BUFFER: 10, Kind.IMAGE: 11, Kind.SAMPLER: 12,
    Kind.PROGRAM: 13, Kind.KERNEL: 14, Kind.EVENT: 15, Kind.MAPPING: 16,
}  # fmt: skip
"""An object of each kind."""
NOT_THERE = 0xDEAD
FREE = 77
SOURCE = b"__kernel void k(__global int *a) { a[0] = 1; }"
COMMANDS = [kind for kind in p.COMMANDS.values() if not kind.front_end]


@pytest.fixture(scope="module")
def guest() -> Iterator[GuestBench]:
    with GuestBench() as guest:
        guest.set_up()
        guest.do(
            p.CreateBuffer(id=10, context=CONTEXT, size=4096, blob=BULK),
            p.CreateImage(
                id=11,
                context=CONTEXT,
                type=cl.MemObject.IMAGE2D,
                width=4,
                height=4,
                channel_order=cl.ChannelOrder.RGBA,
                channel_type=cl.ChannelType.UNORM_INT8,
            ),
            p.CreateSampler(
                id=12,
                context=CONTEXT,
                normalized=0,
                addressing=cl.AddressingMode.NONE,
                filter=cl.FilterMode.NEAREST,
            ),
            p.CreateProgram(id=13, context=CONTEXT, source=SOURCE),
            p.BuildProgram(program=13),
            p.CreateKernel(id=14, program=13, function_name=b"k"),
            p.CreateUserEvent(id=15, context=CONTEXT),
            p.MapBuffer(queue=QUEUE, id=16, buffer=10, flags=1, size=4096),
        )
        yield guest


def example(kind: type[p.Command]) -> p.Command:
    """A command whose ids are right, and whose numbers are allowed."""
    values = {}
    for field in kind.layout.fields:
        role, spec = field.role, field.spec
        if isinstance(role, New):
            value: Any = FREE
        elif isinstance(role, Ref):
            value = THERE[role.kinds[0]]
        elif isinstance(role, Blob):
            value = BULK
        elif isinstance(spec, Fixed):
            value = (1,) * spec.count
        elif isinstance(spec, Number):
            value = spec.values[0] if spec.values else spec.least or 0
        else:
            value = bytes(spec.least) if spec.code == "s" else (1,) * spec.least
        values[field.name] = (value,) if isinstance(spec, Counted) and role else value
    return kind(**values)


def forged() -> Iterator[tuple[str, p.Command, Status]]:
    """A command with one field that is wrong, and the error that it is due."""
    for kind in COMMANDS:
        for field in kind.layout.fields:
            is_list = isinstance(field.spec, Counted)
            for wrong, error in wrong_ids(field.role) if field.role is not None else ():
                command = example(kind)
                setattr(command, field.name, (wrong,) if is_list else wrong)
                yield f"{kind.name}-{field.name}-{wrong:#x}", command, error
        for field in kind.layout.fields:
            if isinstance(field.spec, Number) and field.role is None:
                for number in wrong_numbers(field.spec):
                    command = example(kind)
                    setattr(command, field.name, number)
                    yield f"{kind.name}-{field.name}-{number:#x}", command, field.spec.error


def wrong_ids(role: New | Ref | Blob) -> Iterator[tuple[int, Status]]:
    if isinstance(role, New):
        yield from ((taken, Status.INVALID_VALUE) for taken in THERE.values())
    elif isinstance(role, Blob):
        yield NOT_THERE, Status.INVALID_VALUE
    else:
        yield NOT_THERE, role.status
        yield 0xFFFF_FFFF, role.status
        yield from ((i, role.status) for kind, i in THERE.items() if kind not in role.kinds)
    if not getattr(role, "optional", False):
        yield 0, role.status if isinstance(role, Ref) else Status.INVALID_VALUE


def wrong_numbers(spec: Number) -> Iterator[int]:
    """Numbers that fit the field and are not allowed."""
    most = {"I": (1 << 32) - 1, "i": (1 << 31) - 1, "Q": (1 << 64) - 1}[spec.code]
    candidates = {most, most // 2, 3, 5, *(limit - 1 for limit in (spec.least,) if limit)}
    yield from sorted(each for each in candidates if not spec.allows(each))


FORGED = list(forged())


@pytest.mark.parametrize(
    ("command", "error"), [each[1:] for each in FORGED], ids=[each[0] for each in FORGED]
)
def test_forged_field_gets_its_error_and_changes_nothing(
    guest: GuestBench, command: p.Command, error: Status
) -> None:
    before = everything(guest)

    status = guest.status_of(command)

    assert Status(status) == error
    assert everything(guest) == before


def everything(guest: GuestBench) -> Any:
    """All that a command could change: what there is, memory in use, and the guest's memory."""
    context = guest.context
    objects = [
        (i, thing, thing.uses, thing.failure, list(getattr(thing, "arguments", None) or ()))
        for i, thing in sorted(context.table.items())
    ]
    ram = guest.bench.memory.read(guest.bench.memory.base + ANSWER_ROOM, 8192)
    return objects, sorted(context.blobs), context.used, guest.gpu.used, context.lost, ram


@pytest.mark.parametrize("opcode", [0, 4, 0xFF, 0x0103, 0x0299, 0x7FFF, 0xFFFF])
def test_unknown_opcode_is_refused(guest: GuestBench, opcode: int) -> None:
    place = p.AnswerPlace(ANSWERS, 0, 64)
    packet = bytearray(p.GetError().encode(place))
    packet[0:2] = opcode.to_bytes(2, "little")
    before = everything(guest)

    guest.wait(guest.submit_bytes(bytes(packet)))

    status, _ = p.ANSWER_HEADER.unpack(guest.bench.memory.read(guest.bench.memory.base, 8))
    assert status == Status.INVALID_OPERATION
    assert everything(guest) == before
