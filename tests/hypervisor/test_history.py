"""Back to any moment of a run, and on from there to the same end."""

from __future__ import annotations

import pytest

from hypervisor import kept_states
from hypervisor.console import Step
from hypervisor.history import History, HistoryError

DATA = 0x8008_0000

WORK = """
    la t0, handler
    csrw mtvec, t0
    li s2, 0x80080000
    li t0, 0x80
    csrs mie, t0
    li t1, 0x2004000
    li t2, 60
    sd t2, (t1)
    csrsi mstatus, 8
    li s0, 3000
1:  rdtime t1
    add s4, s4, t1
    addi s6, s2, 8
    amoadd.d t5, s0, (s6)
    andi t2, s0, 255
    bnez t2, 2f
    ecall
    sd s0, (s2)
2:  addi s0, s0, -1
    bnez s0, 1b
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
9:  j 9b
.balign 4
handler:
    csrr a2, mcause
    add s4, s4, a2
    bltz a2, 1f
    csrr a3, mepc
    addi a3, a3, 4
    csrw mepc, a3
    mret
1:  addi s3, s3, 1
    li a4, 0x2004000
    li a5, 0x200bff8
    ld a5, (a5)
    addi a5, a5, 60
    sd a5, (a4)
    mret
"""
"""Traps, timer interrupts, and a store to DATA every 256 rounds."""

ECHO = """
    li s1, 0x10000000
1:  addi s2, s2, 1
    .rept 1000
    nop
    .endr
    lbu a1, 5(s1)
    andi a1, a1, 1
    bnez a1, 2f
    j 1b
2:  lbu a0, (s1)
    add s3, s3, s2
    sb a0, (s1)
    j 1b
"""


def finish(machine):
    outcome = machine.run(timeout=60)
    assert outcome.kind == "power-off"
    return machine.state_sha256()


@pytest.fixture
def worker(workshop):
    """`worker(harts)`: a machine at work, with a history from its start."""

    def make(harts=1, source=WORK):
        machine = workshop.build(source, harts=harts)
        machine.history = History(machine, 8 << 20)
        return machine

    return make


@pytest.fixture
def plain(workshop):
    return finish(workshop.build(WORK))


def place(machine):
    hart = machine.cpu[0]
    return machine.clock.cell.units, hart.pc, hart.registers["s4"], hart.registers["mepc"]


SPIN = "1: addi s0, s0, 1\n rdtime s1\n j 1b\n"


@pytest.mark.parametrize("start", [100_000, 163_840, 245_800])
@pytest.mark.parametrize("hart", [0, 1])
def test_first_step_of_any_hart_can_be_taken_back(start, hart, workshop):
    machine = workshop.build(SPIN, harts=2)
    machine.run_to(start)
    machine.history = History(machine, 8 << 20)
    one = machine.cpu[hart]
    places = []
    for _ in range(3):
        places.append((one.pc, one.executed))
        machine.step(hart)

    back = []
    for _ in range(3):
        machine.history.step_back(hart)
        back.append((one.pc, one.executed))

    assert back == places[::-1]


@pytest.mark.parametrize("start", [0, 9_000, 33_333])
def test_steps_back_are_the_steps_there(start, worker, plain):
    machine = worker()
    machine.run_to(start)
    places = []
    for _ in range(120):
        places.append(place(machine))
        machine.step()

    back = []
    for _ in range(120):
        assert machine.history.step_back().kind == "step"
        back.append(place(machine))

    assert back == places[::-1]
    assert finish(machine) == plain


def test_traps_and_interrupts_are_stepped_back_over(worker):
    machine = worker()
    machine.run_to(20_000)
    causes = []
    for _ in range(3000):
        machine.step()
        if machine.cpu[0].pc == machine.cpu[0].registers["mtvec"]:
            causes.append(machine.cpu[0].registers["mcause"])
            before = machine.cpu[0].registers["mepc"]
            machine.history.step_back()
            assert machine.cpu[0].pc in (before, before - 4, before - 2) or causes[-1] >> 63
            machine.step()
        if len(set(causes)) == 2:
            break

    assert len(set(causes)) == 2


def test_back_to_where_the_history_begins(worker):
    machine = worker()
    begin = machine.cpu[0].pc
    machine.step()
    machine.history.step_back()

    assert machine.history.step_back().kind == "beginning"
    assert machine.cpu[0].pc == begin
    with pytest.raises(HistoryError, match=r"history begins at 0\.000000 s"):
        machine.history.go_to_time(-1)


def test_run_back_meets_the_breakpoints_in_reverse(worker, plain):
    machine = worker()
    code = machine.memory.read(machine.cpu[0].pc, 256)
    machine.breakpoints.add(machine.cpu[0].pc + code.index(bytes.fromhex("73 00 00 00")))
    rounds = []
    while (outcome := machine.run(timeout=60)).stop is not None:
        rounds.append(machine.cpu[0].registers["s0"])

    back = []
    while machine.history.run_back().kind == "breakpoint":
        back.append(machine.cpu[0].registers["s0"])
    machine.breakpoints.clear()

    assert outcome.kind == "power-off"
    assert len(rounds) == 11
    assert back == rounds[::-1]
    assert finish(machine) == plain


def test_last_write_is_found_and_about_to_happen(worker, plain):
    machine = worker()
    machine.run_to(60_000)
    value = machine.memory.read(DATA, 8)

    stop = machine.history.to_last_write(DATA, hart=0).stop

    assert stop.value == int.from_bytes(value, "little")
    assert machine.memory.read(DATA, 8) != value
    machine.step()
    assert machine.memory.read(DATA, 8) == value
    assert finish(machine) == plain


def test_write_that_never_was_is_not_found(worker):
    machine = worker()
    machine.run_to(20_000)
    here = machine.history.here

    with pytest.raises(HistoryError, match="nobody wrote to 0x80090000 since"):
        machine.history.to_last_write(0x8009_0000)
    assert machine.history.here == here


def test_going_back_behind_a_watched_access_leaves_it_to_be_undone(worker):
    machine = worker()
    machine.run_to(60_000)
    value = machine.memory.read(DATA, 8)
    point = machine.breakpoints.watch(DATA, 8)

    outcome = machine.history.run_back(behind=True)

    assert outcome.stop.watchpoint == point
    assert machine.memory.read(DATA, 8) == value
    machine.history.step_back()
    assert machine.memory.read(DATA, 8) != value


def test_rewound_machine_comes_to_the_same_present(worker, plain):
    machine = worker()
    machine.run_to(50_000)
    present = machine.state_sha256()
    units = machine.clock.cell.units

    machine.history.rewind(20_000)

    assert machine.history.is_past
    assert machine.clock.cell.units == pytest.approx(units - 25_600, abs=100)
    machine.run_to(units)
    assert (machine.state_sha256(), machine.history.is_past) == (present, False)
    assert finish(machine) == plain


@pytest.mark.parametrize("hart", [0, 1])
def test_one_of_two_harts_steps_back(hart, worker, workshop):
    end = finish(workshop.build(WORK, harts=2))
    machine = worker(2)
    machine.run_to(60_000)
    places = []
    for _ in range(40):
        one = machine.cpu[hart]
        places.append((one.pc, one.executed))
        machine.step(hart)

    back = []
    for _ in range(40):
        machine.history.step_back(hart)
        back.append((machine.cpu[hart].pc, machine.cpu[hart].executed))

    assert back == places[::-1]
    assert finish(machine) == end


def typed(machine, keys):
    for key in keys:
        machine.console.send(key)
        machine.run_to(machine.clock.cell.units + 300_000)


def test_keys_come_in_again_and_output_is_shown_once(worker):
    machine = worker(source=ECHO)
    shown = bytearray()
    machine.console.sinks.append(shown.extend)
    typed(machine, "abc")
    present, units = machine.state_sha256(), machine.clock.cell.units

    machine.history.go_to_time(0)
    early = machine.console.text
    machine.run_to(units)

    assert (early, machine.console.text) == ("", "abc")
    assert machine.state_sha256() == present
    typed(machine, "d")
    assert bytes(shown) == b"abcd"


def test_closed_history_leaves_no_inputs_in_memory(worker):
    machine = worker(source=ECHO)
    typed(machine, "abc")
    kept = machine.inputs.log_size

    machine.history.close()
    typed(machine, "d")

    assert kept > 0
    assert (machine.inputs.log, machine.inputs.log_size) == ([], 0)
    assert machine.console.text == "abcd"
    machine.history = History(machine, 8 << 20)
    typed(machine, "e")
    present, units = machine.state_sha256(), machine.clock.cell.units
    machine.history.go_to_time(machine.history.beginning)
    machine.run_to(units)
    assert machine.state_sha256() == present


def test_history_begins_later_when_too_much_came_in(worker, monkeypatch):
    monkeypatch.setattr(kept_states, "OVERHEAD", 1 << 20)
    machine = worker(source=ECHO)
    arrive = machine.inputs.connect("frame", "net0", lambda data: None)
    for _ in range(40):
        arrive(bytes(50_000))
        machine.run_to(machine.clock.cell.units + 50_000)
        machine.history._kept.keep()
    present, units = machine.state_sha256(), machine.clock.cell.units

    assert machine.inputs.log_size < 1 << 20
    assert machine.history.beginning > 500_000
    assert machine.history.states > 2
    machine.history.go_to_time(machine.history.beginning)
    machine.run_to(units)
    assert machine.state_sha256() == present
    with pytest.raises(HistoryError, match="the history begins at"):
        machine.history.go_to_time(50_000)


def test_script_goes_on_when_the_machine_is_in_its_present_again(worker):
    machine = worker(source=ECHO)
    machine.console.script([Step("until", b"b"), Step("until", b"a")])
    typed(machine, "abc")
    machine.breakpoints.watch(DATA, 8)

    machine.history.run_back()
    machine.history.go_to_time(250_000)

    assert machine.run_to(2_000_000).kind == "reached"
    machine.console.send("xa")
    assert machine.run(timeout=60).kind == "until"


def test_key_typed_in_the_past_makes_another_future(worker):
    machine = worker(source=ECHO)
    typed(machine, "abc")

    machine.history.go_to_time(200_000)
    typed(machine, "x")
    machine.run_to(2_000_000)

    assert machine.console.text == "ax"
    assert not machine.history.is_past
    machine.history.rewind(100_000)
    machine.run_to(2_000_000)
    assert machine.console.text == "ax"


def test_frame_that_arrives_in_the_past_is_lost(worker):
    machine = worker(source=ECHO)
    typed(machine, "ab")
    taken = []
    arrive = machine.inputs.connect("frame", "net0", taken.append)

    machine.history.go_to_time(100_000)
    arrive(b"lost")
    machine.run_to(machine.clock.cell.units + 2_000_000)
    arrive(b"taken")

    assert taken == [b"taken"]
    assert machine.console.text == "ab"


def test_change_by_a_debugger_is_where_the_history_begins(worker):
    machine = worker()
    machine.run_to(30_000)
    machine.cpu[0].registers["s4"] = 5
    machine.changed("register s4")
    machine.step()

    machine.history.step_back()

    assert machine.cpu[0].registers["s4"] == 5
    assert machine.history.step_back().kind == "beginning"


def test_moment_before_the_history_is_refused_and_nothing_changes(worker):
    machine = worker()
    machine.run_to(30_000)
    machine.history.changed()
    digest = machine.state_sha256()

    with pytest.raises(HistoryError, match="history begins at"):
        machine.history.rewind(20_000)

    assert not machine.history.is_past
    assert machine.state_sha256() == digest


def test_small_store_keeps_fewer_states_and_works(worker, plain):
    machine = worker()
    machine.history.close()
    machine.history = history = History(machine, 40 * 4096)
    for n in range(1, 60):
        machine.run_to(n * 1000)
        history._kept.keep()

    assert history.size < 60 * 10_000
    assert history.states > 2
    machine.history.go_to_time(10_000)
    assert finish(machine) == plain
