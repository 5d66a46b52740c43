"""What goes wrong in a GPU on purpose, and what its guest sees of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu import protocol as p
from gpu.opencl import Status
from gpu.testing import CONTEXT, QUEUE, GuestBench
from hypervisor import Machine
from hypervisor.config.faults import (
    GpuAllocationFailure,
    GpuDelayedFence,
    GpuLostWorker,
    LostInterrupt,
)

DEMO = Path(__file__).parents[3] / "configs" / "gpu-demo.yaml"
FILL = p.FillBuffer(queue=QUEUE, buffer=20, size=4096, pattern=b"\1")
LATE = 7_000_000


class Hook:
    """Lets the n-th occasion of one kind go wrong."""

    def __init__(self, act, nth, result=1):
        self.act, self.left, self.result = act, nth, result
        self.said = []

    def __call__(self, act, what):
        if act != self.act:
            return 0
        self.left -= 1
        if self.left != 0:
            return 0
        self.said.append(what)
        return self.result


@pytest.fixture
def guest():
    with GuestBench() as guest:
        guest.set_up()
        guest.do(p.CreateBuffer(id=20, context=CONTEXT, size=4096))
        yield guest


def test_allocation_that_fails_is_the_guests_to_handle(guest):
    guest.gpu.fault = hook = Hook("allocation", 2)

    first = guest.status_of(p.CreateBuffer(id=21, context=CONTEXT, size=64))
    second = guest.status_of(p.CreateBuffer(id=22, context=CONTEXT, size=64))
    third = guest.status_of(p.CreateBuffer(id=22, context=CONTEXT, size=64))

    assert (first, second, third) == (0, Status.MEM_OBJECT_ALLOCATION_FAILURE, 0)
    assert hook.said == ["buffer 22 of context 1"]


def test_fence_comes_late_and_so_do_those_behind_it(guest):
    guest.signalled.clear()
    guest.gpu.fault = Hook("fence", 1, LATE)

    tags = [guest.submit(FILL), guest.submit(FILL)]
    guest.bench.clock.advance(LATE)
    early = list(guest.signalled)
    guest.bench.clock.advance(1_000_000)

    assert early == []
    assert guest.signalled == tags


def test_worker_ends_before_the_command_and_only_for_its_context(guest):
    other = guest.new_context("other")
    guest.submit(p.CreateContext(id=CONTEXT), context=other)
    guest.gpu.fault = Hook("worker", 2)

    guest.do(FILL)
    guest.wait(guest.submit(FILL))
    error = guest.ask(p.GetError())
    again = guest.status_of(p.CreateBuffer(id=23, context=CONTEXT, size=64))

    assert error.error == Status.OUT_OF_RESOURCES
    assert again == Status.OUT_OF_RESOURCES
    assert not other.lost
    assert guest.bench.messages == ["gpu0: context test is lost: a fault ended its worker"]


def run_demo(*faults):
    """The demo's output, what the machine said, and the machine's digest."""
    with Machine.load(DEMO) as machine:
        for fault in faults:
            machine.faults.add(fault)
        machine.run(timeout=200)
        return machine.console.text, machine.messages, machine.state_sha256()


@pytest.mark.parametrize(
    "fault",
    [GpuAllocationFailure(device="gpu0", nth=2), GpuLostWorker(device="gpu0", nth=4)],
)
def test_demo_notices_and_the_same_happens_again(fault):
    text, messages, digest = run_demo(fault)

    assert "all passed" not in text
    assert messages[0].startswith("faults.0: ")
    assert run_demo(fault) == (text, messages, digest)


def test_demo_bears_a_late_fence():
    text, messages, _ = run_demo(GpuDelayedFence(device="gpu0", nth=3, delay=LATE))

    assert "all passed" in text
    assert "completes 7 ms late" in messages[0]


def test_demo_that_is_not_told_of_its_fence_hangs():
    with Machine.load(DEMO) as machine:
        machine.faults.add(LostInterrupt(device="gpu0", nth=3))

        outcome = machine.run(timeout=200)

        assert outcome.sentence.startswith("the guest hangs: all harts wait")
        assert machine.messages[0].startswith("faults.0: the interrupt of gpu0 was lost")
