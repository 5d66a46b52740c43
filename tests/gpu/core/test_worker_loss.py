"""Workers that die or hang: one context fails, and nobody else."""

from __future__ import annotations

import json
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gpu import protocol as p
from gpu.host.findings import MOST
from gpu.host.process import Worker
from gpu.opencl import Status
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

SPIN = "__kernel void spin(volatile __global int *a) { a[1] = 1; while (a[0] == 0) ; }"
HELD = """__kernel void held(volatile __global uint *a) {
    a[0] = 1;
    while (a[1] == 0) ;
    for (int i = 0; i < 1000; i++) a[2] += i;
}"""
NONSENSE = (
    b"\x05\0\0\0hello",
    b"\xff\xff\xff\xff",
    b"\x02\0\0\0{}",
    b"\x02\0\0\0[]",
    b'\x0a\0\0\0{"done":9}',
)
CLAIMS: tuple[dict[str, Any], ...] = (
    {"failed": [[0, -5], [0, -5]]},
    {"failed": [[0, -5]] * 100_000},
    {"failed": [[0, -(10**4000)]]},
    {"failed": [[False, -5]]},
    {"copied": -1},
    {"copied": 1 << 64},
    {"copied": 10**4000},
    {"copied": True},
    {"found": [["of no kernel"]]},
    {"found": [["kernel", "a race", "", 1]] * (MOST + 1)},
)
"""What an answer to one operation can not say."""


@pytest.fixture
def guest() -> Iterator[GuestBench]:
    with GuestBench(opencl={"timeout": "1s"}) as guest:
        guest.set_up()
        yield guest


def prepare(guest: GuestBench, source: str, name: bytes, offset: int) -> None:
    guest.program(10, source)
    guest.do(
        p.CreateKernel(id=11, program=10, function_name=name),
        p.CreateBuffer(id=20, context=CONTEXT, size=4096, blob=BULK, blob_offset=offset),
        p.SetArgumentObject(kernel=11, index=0, object=20),
    )


def launch(size: int = 1, event: int = 0) -> p.NdRange:
    return p.NdRange(queue=QUEUE, kernel=11, dimensions=1, global_size=(size, 1, 1), event=event)


@pytest.fixture
def patient() -> Iterator[GuestBench]:
    """Nothing is ended for taking long: a death is seen by itself, or never."""
    with GuestBench(opencl={"timeout": "3600s"}) as guest:
        guest.set_up()
        yield guest


def beside(guest: GuestBench) -> GuestBench:
    """The same machine, for a context of its own."""
    other = GuestBench.__new__(GuestBench)
    other.__dict__.update(guest.__dict__)
    other.context = guest.new_context("other")
    other.set_up()
    return other


@contextmanager
def killing(guest: GuestBench, *started: int) -> Iterator[None]:
    """Kill the worker of a guest when kernels have written to all of these offsets: each is in
    flight."""
    worker = guest.context.link.worker
    assert worker is not None
    pid = worker.pid

    def kill() -> None:
        while not all(any(guest.read(offset, 4)) for offset in started):
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    yield
    thread.join()


def test_killed_worker_disturbs_no_kernel_in_flight_elsewhere(patient: GuestBench) -> None:
    other = beside(patient)
    prepare(other, HELD, b"held", 4096)
    prepare(patient, SPIN, b"spin", 0)

    def let_the_other_go() -> None:
        other.write(4096 + 4, struct.pack("<I", 1))

    lost = launch(event=30).encode() + p.Marker(queue=QUEUE, event=31).encode()
    with killing(patient, 4, 4096):
        patient.context.submit(0, lost, let_the_other_go)
        other.wait(other.submit(launch(), ring=1))

    assert patient.ask(p.GetError()).error == Status.OUT_OF_RESOURCES
    assert patient.ask(p.GetEventStatus(event=30)).execution == Status.OUT_OF_RESOURCES
    assert patient.status_of(launch()) == Status.OUT_OF_RESOURCES
    assert [m for m in patient.bench.messages if "is lost" in m] == [
        "gpu0: context test is lost: the GPU's worker was ended by SIGKILL"
    ]
    assert other.ask(p.GetError()).error == 0
    assert struct.unpack("<I", other.read(4096 + 8, 4)) == (499500,)
    patient.do(p.CreateContext(id=50), p.CreateQueue(id=51, context=50))
    patient.do(
        p.CreateBuffer(id=60, context=50, size=64, blob=BULK, blob_offset=8192),
        p.FillBuffer(queue=51, buffer=60, size=64, pattern=b"next"),
    )
    assert patient.read(8192, 64) == b"next" * 16


def test_machines_that_share_a_device_do_not_disturb_each_other(patient: GuestBench) -> None:
    prepare(patient, SPIN, b"spin", 0)
    with GuestBench(opencl={"timeout": "60s"}) as other:
        other.set_up()
        prepare(other, HELD, b"held", 0)

        held = other.submit(launch())
        with killing(patient, 4):
            patient.wait(patient.submit(launch()))
        other.write(4, struct.pack("<I", 1))
        other.wait(held)

        assert patient.ask(p.GetError()).error == Status.OUT_OF_RESOURCES
        assert other.ask(p.GetError()).error == 0
        assert struct.unpack("<I", other.read(8, 4)) == (499500,)
        assert other.bench.messages == []


def test_death_is_seen_without_the_watchdog(
    patient: GuestBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(patient, SPIN, b"spin", 0)
    monkeypatch.setattr(Worker, "_look", lambda worker, deadline: None)

    with killing(patient, 4):
        patient.wait(patient.submit(launch(event=30)))

    assert patient.ask(p.GetEventStatus(event=30)).execution == Status.OUT_OF_RESOURCES
    assert "was ended by SIGKILL" in patient.context.lost


def test_lost_context_can_be_made_anew(guest: GuestBench) -> None:
    guest.do(p.CreateBuffer(id=20, context=CONTEXT, size=64))
    worker = guest.context.link.worker
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    guest.wait(guest.submit(p.FillBuffer(queue=QUEUE, buffer=20, size=64, pattern=b"x")))

    lost = guest.status_of(p.CreateBuffer(id=21, context=CONTEXT, size=64))
    guest.ask(p.GetError())
    guest.do(p.CreateContext(id=50), p.CreateQueue(id=51, context=50))
    old = guest.status_of(p.FillBuffer(queue=51, buffer=20, size=64, pattern=b"x"))
    guest.do(
        p.Release(id=20),
        p.CreateBuffer(id=20, context=50, size=4096, blob=BULK),
        p.FillBuffer(queue=51, buffer=20, size=64, pattern=b"x"),
    )

    assert lost == old == Status.OUT_OF_RESOURCES
    assert guest.read(0, 64) == b"x" * 64


def test_endless_kernel_is_ended(guest: GuestBench) -> None:
    prepare(guest, SPIN, b"spin", 0)

    guest.wait(guest.submit(launch(event=30)))

    assert guest.ask(p.GetEventStatus(event=30)).execution == Status.OUT_OF_RESOURCES
    assert "took more than 1 s" in guest.bench.messages[-1]


def test_waiting_commands_of_a_lost_context_complete(guest: GuestBench) -> None:
    guest.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=64), p.CreateUserEvent(id=30, context=CONTEXT)
    )
    fill = p.FillBuffer(queue=QUEUE, buffer=20, size=64, pattern=b"x", wait=(30,), event=31)
    held = guest.submit(fill, p.Marker(queue=QUEUE, event=32), ring=1)
    worker = guest.context.link.worker
    assert worker is not None

    os.kill(worker.pid, signal.SIGKILL)
    guest.wait(guest.submit(p.CreateBuffer(id=21, context=CONTEXT, size=64)))
    guest.bench.clock.advance(1 << 50)

    assert held in guest.signalled
    assert guest.ask(p.GetEventStatus(event=31)).execution == Status.OUT_OF_RESOURCES


def test_waiting_commands_of_a_released_queue_complete(guest: GuestBench) -> None:
    guest.do(
        p.CreateBuffer(id=20, context=CONTEXT, size=64),
        p.CreateUserEvent(id=30, context=CONTEXT),
        p.CreateQueue(id=40, context=CONTEXT),
    )
    fill = p.FillBuffer(queue=40, buffer=20, size=64, pattern=b"x", wait=(30,))
    held = guest.submit(fill, p.Release(id=40), ring=1)
    worker = guest.context.link.worker
    assert worker is not None

    os.kill(worker.pid, signal.SIGKILL)
    guest.wait(guest.submit(p.CreateBuffer(id=21, context=CONTEXT, size=64)))
    guest.bench.clock.advance(1 << 50)

    assert held in guest.signalled
    assert guest.context.held == {}


def test_lost_worker_is_not_watched_any_more() -> None:
    with GuestBench(timing="host") as guest:
        guest.submit(p.CreateContext(id=CONTEXT), p.CreateQueue(id=QUEUE, context=CONTEXT))
        worker = guest.context.link.worker
        watch = guest.gpu._watch
        assert worker is not None
        assert watch is not None
        before, number = set(watch._files), worker.fileno()

        os.kill(worker.pid, signal.SIGKILL)
        guest.context.link.wait(guest.context.link.message + 1)

        assert before == {number}
        assert guest.context.lost
        assert watch._files == set()


@pytest.mark.parametrize("sent", NONSENSE)
def test_nonsense_of_a_worker_is_its_end(guest: GuestBench, sent: bytes) -> None:
    worker = guest.context.link.worker
    assert worker is not None

    worker._received += sent
    guest.wait(guest.submit(p.CreateBuffer(id=20, context=CONTEXT, size=64)))

    assert "nonsense" in guest.context.lost


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: str(claim)[:30])
def test_answer_that_can_not_be_is_the_end_of_its_worker(
    guest: GuestBench, claim: dict[str, Any]
) -> None:
    link = guest.context.link
    number = link.message + 1
    body = json.dumps({"done": number, "failed": [], "copied": 0, **claim}).encode()

    link.worker._received += struct.pack("<I", len(body)) + body
    guest.wait(guest.submit(p.CreateBuffer(id=20, context=CONTEXT, size=64)))

    assert "nonsense" in guest.context.lost
    assert "bytes copied because the device does not reach them: 0" in guest.gpu.describe()


def test_hidden_platform_is_an_error_for_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCL_ICD_VENDORS", "/nonexistent")
    with GuestBench() as guest:
        capset = guest.gpu.capset()

        record = p.Capset.unpack(capset, 0, len(capset))
        assert record.status == Status.DEVICE_NOT_FOUND
        assert guest.status_of(p.CreateContext(id=1)) == Status.DEVICE_NOT_AVAILABLE
        assert guest.ask(p.GetError()).error == 0


@pytest.mark.parametrize("options", [{"platform": "nonesuch"}, {"device": "nonesuch"}])
def test_unknown_choice_names_what_there_is(options: dict[str, str]) -> None:
    with GuestBench(opencl=options) as guest:
        guest.gpu.capset()

        assert "'nonesuch'" in guest.bench.messages[0]
        assert "there are: " in guest.bench.messages[0]


def parameters(data: bytes) -> dict[int, bytes]:
    """Values by their names in OpenCL, as a guest reads them from a capset."""
    values, at = {}, 0
    while at < len(data):
        name, size = struct.unpack_from("<II", data, at)
        values[name] = data[at + 8 : at + 8 + size]
        at += 8 + size + -size % 8
    return values


def test_capset_describes_the_device(guest: GuestBench) -> None:
    capset = guest.gpu.capset()

    record = p.Capset.unpack(capset, 0, len(capset))
    device = parameters(record.device)
    platform = parameters(record.platform)
    assert (record.version, record.status) == (p.VERSION, 0)
    assert device[0x102F] == b"OpenCL 1.2 hypervisor\0"
    assert int.from_bytes(device[0x101F], "little") == 1 << 30
    assert len(device[0x1005]) == 24
    assert platform[0x0904] == b"cl_khr_icd\0"
