"""What a machine publishes: accesses, interrupts with their latency, traps, timers, DMA; and that
watching changes nothing and costs nothing when it is over."""

import pytest

from hypervisor.device import BackendError
from hypervisor.events import (
    DmaTransfer,
    InterruptAcknowledge,
    InterruptChange,
    InterruptComplete,
    InterruptTaken,
    MmioAccess,
    TimerFired,
    Trap,
    VirtqueueRequest,
)
from hypervisor.trace import FilterError, TraceReader

GUEST = """
    la   t0, handler
    csrw mtvec, t0
    li   s0, 0x10000000
    li   s1, 0x0c000000
    li   t0, 1
    sw   t0, 40(s1)             # priority of input 10
    li   t1, 0x0c002000
    li   t0, 1 << 10
    sw   t0, 0(t1)              # enable it for M-mode
    li   t0, 2
    sb   t0, 1(s0)              # the transmitter interrupts
    li   t0, 1 << 11
    csrw mie, t0
    csrsi mstatus, 8
    ecall
    li   t0, 0x02004000         # mtimecmp: in 10 us
    li   t1, 0x0200bff8
    ld   t2, 0(t1)
    addi t2, t2, 100
    sd   t2, 0(t0)
    li   t0, 1 << 11 | 1 << 7
    csrw mie, t0
1:  wfi
    j 1b
    .balign 4
handler:
    csrr t3, mcause
    bltz t3, interrupt
    csrr t3, mepc
    addi t3, t3, 4
    csrw mepc, t3
    mret
interrupt:
    andi t3, t3, 0xff
    li   t4, 7
    beq  t3, t4, timer
    li   t4, 0x0c200004
    lw   t5, 0(t4)              # claim
    lb   t6, 2(s0)              # IIR: acknowledges the transmitter
    sw   t5, 0(t4)              # complete
    mret
timer:
    li   a0, 0x5555
    li   a1, 0x100000
    sw   a0, 0(a1)
1:  j 1b
"""

KINDS = (
    MmioAccess,
    InterruptChange,
    InterruptAcknowledge,
    InterruptComplete,
    InterruptTaken,
    Trap,
    TimerFired,
)


@pytest.fixture
def watched(workshop):
    machine = workshop.build(GUEST)
    seen = []
    subscriptions = [machine.events.subscribe(kind, seen.append) for kind in KINDS]
    assert machine.run(timeout=60).kind == "power-off"
    return machine, seen, subscriptions


def of(seen, kind):
    return [event for event in seen if type(event) is kind]


def test_every_trap_is_seen_once_and_in_order(watched):
    machine, seen, _ = watched

    times = [event.time for event in seen]
    assert times == sorted(times)
    assert [t.name for t in of(seen, Trap)] == ["environment call from M-mode"]
    assert [t.name for t in of(seen, InterruptTaken)] == [
        "machine external interrupt",
        "machine timer interrupt",
    ]
    assert sum(machine.stats()["traps"].values()) == 1


def test_acknowledgement_knows_its_line_and_latency(watched):
    _, seen, _ = watched
    raised = next(event for event in of(seen, InterruptChange) if event.level)
    taken = of(seen, InterruptTaken)[0]

    (ack,) = of(seen, InterruptAcknowledge)

    assert (ack.device, ack.number, ack.line, ack.hart) == ("plic", 10, "uart0", 0)
    assert raised.input == "plic.10"
    assert ack.latency == ack.time - raised.time > 0
    assert ack.taken == taken.time - raised.time
    assert 0 <= ack.taken <= ack.latency


def test_order_of_an_interrupt(watched):
    _, seen, _ = watched
    of_interrupts = (InterruptChange, InterruptTaken, InterruptAcknowledge, InterruptComplete)
    kinds = [type(event) for event in seen if type(event) in of_interrupts]

    assert kinds[:5] == [
        InterruptChange,
        InterruptTaken,
        InterruptAcknowledge,
        InterruptChange,
        InterruptComplete,
    ]


def test_timers_that_fire_are_seen(watched):
    _, seen, _ = watched

    fired = of(seen, TimerFired)

    assert [event.name for event in fired] == ["clint.mtimecmp0"]
    assert fired[0].deadline <= fired[0].time


def test_fields_of_a_register_are_decoded(watched):
    _, seen, _ = watched

    ier = next(event for event in of(seen, MmioAccess) if event.register == "IER")

    assert str(ier) == "mmio uart0.IER <- 0x2 (1 bytes) {ETBEI}"


def test_watching_changes_nothing(watched, workshop):
    machine, _, _ = watched
    plain = workshop.build(GUEST)
    plain.run(timeout=60)

    assert plain.state_sha256() == machine.state_sha256()


def test_nothing_is_left_when_watching_is_over(watched):
    machine, seen, subscriptions = watched
    for subscription in subscriptions:
        subscription.cancel()
    seen.clear()

    machine.reset()
    machine.run(timeout=60)

    assert seen == []
    assert all(window.read == window.device.read for window in machine.bus.windows)
    assert machine.events.gather is None
    assert machine.clock.on_fire is None


def test_ring_that_fills_loses_nothing(workshop):
    machine = workshop.build("""
        la   t0, handler
        csrw mtvec, t0
        li   s2, 10000
    1:  ecall
        addi s2, s2, -1
        bnez s2, 1b
        li   a0, 0x5555
        li   a1, 0x100000
        sw   a0, 0(a1)
    2:  j 2b
        .balign 4
    handler:
        csrr t3, mepc
        addi t3, t3, 4
        csrw mepc, t3
        mret
    """)
    seen = []
    machine.events.subscribe(Trap, seen.append)

    machine.run(timeout=60)

    assert len(seen) == 10_000


def test_device_memory_tells_of_transfers_while_watched(workshop):
    machine = workshop.build("1: j 1b", devices="  rng0: {type: virtio.rng, at: 0x10001000}\n")
    memory = machine.devices["rng0"].memory
    assert memory.write == machine.memory.write
    seen = []
    subscription = machine.events.subscribe(DmaTransfer, seen.append)

    memory.write(0x8000_1000, b"abc")
    data = memory.read(0x8000_1000, 3)
    subscription.cancel()
    memory.write(0x8000_1000, b"abc")

    assert data == b"abc"
    assert [(e.device, e.address, e.size, e.is_write) for e in seen] == [
        ("rng0", 0x8000_1000, 3, True),
        ("rng0", 0x8000_1000, 3, False),
    ]


def test_virtqueue_requests_are_published(workshop):
    machine = workshop.build("1: j 1b", devices="  rng0: {type: virtio.rng, at: 0x10001000}\n")
    seen = []
    machine.events.subscribe(VirtqueueRequest, seen.append)

    machine.devices["rng0"].publish(VirtqueueRequest, "requestq", 3, 0, 16)

    assert [str(event) for event in seen] == ["request rng0.requestq [3] 0 bytes in, room for 16"]


def test_description_asks_for_a_trace(workshop, tmp_path):
    to = tmp_path / "run.hvt"
    extra = f"trace: [{{events: 'mmio:uart0', to: {to}}}]"
    machine = workshop.build(GUEST, extra=extra)
    machine.run(timeout=60)
    machine.close()

    with TraceReader(to) as reader:
        assert {event.subject for event in reader} == {"uart0.IER", "uart0.IIR"}


def test_trace_is_no_part_of_the_machine(workshop, tmp_path):
    plain = workshop.build(GUEST)
    saved = plain.snapshot()
    traced = workshop.build(GUEST, extra=f"trace: [{{events: all, to: {tmp_path / 'a.txt'}}}]")

    traced.restore(saved)

    assert traced.description.digest == plain.description.digest


def test_wrong_filter_and_place_are_errors(workshop, tmp_path):
    machine = workshop.build("1: j 1b")

    with pytest.raises(FilterError):
        machine.trace("nonsense")
    with pytest.raises(BackendError):
        machine.trace("all", tmp_path / "no" / "a.txt")


def test_traps_that_were_not_noted_are_said(workshop):
    machine = workshop.build(GUEST)
    machine.events.subscribe(Trap, lambda event: None)
    machine.observer._traps[0]._ring.ring_lost = 3

    machine.run(timeout=60)

    assert "trace: 3 traps of hart 0 were not noted" in machine.messages
