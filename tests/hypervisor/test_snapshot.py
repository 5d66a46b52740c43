"""A restored machine is the saved one: its timers, its console, its power, whatever ran before."""

from __future__ import annotations

import pytest

from hypervisor.machine import Machine
from hypervisor.snapshot import SnapshotError

CLOCK_WORK = """
    # Prints a letter at each timer interrupt, and echoes what is typed between them.
    la t0, handler
    csrw mtvec, t0
    li s0, 0x10000000
    li s1, 0x2004000
    li s2, 0x200bff8
    li s3, 'a'
    li t0, 1
    sb t0, 2(s0)            # FIFO on: typed characters are taken from the console
    call again
    li t0, 0x80
    csrw mie, t0
    csrsi mstatus, 8
1:  addi s4, s4, 1
    lbu t1, 5(s0)
    andi t1, t1, 1
    beqz t1, 2f
    lbu t1, (s0)
    sb t1, (s0)
2:  andi t1, s4, 63
    bnez t1, 1b
    wfi
    j 1b
again:
    ld t1, (s2)
    addi t1, t1, 200
    sd t1, (s1)
    ret
.balign 4
handler:
    sb s3, (s0)
    addi s3, s3, 1
    li t2, 'z'
    bne s3, t2, 3f
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
3:  mv s5, ra
    call again
    mv ra, s5
    mret
"""
TYPED = "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG "


def finish(machine):
    outcome = machine.run(timeout=30)
    assert outcome.kind == "power-off"
    return machine.console.text, machine.state_sha256(), machine.clock.executed, machine.clock.now()


@pytest.fixture
def saved(workshop):
    """A description, a snapshot of its machine mid-run with input waiting, and the whole run."""
    machine = workshop.build(CLOCK_WORK)
    machine.console.expect("c", timeout=30)
    machine.console.send(TYPED)
    path = workshop.folder / "snapshot"
    machine.snapshot(path)
    return workshop.folder / "board.yaml", path, finish(machine)


def test_whole_run_prints_what_was_typed_and_every_letter(saved):
    text = saved[2][0]

    assert "".join(c for c in text if c.islower()) == "abcdefghijklmnopqrstuvwxy"
    assert "".join(c for c in text if not c.islower()) == TYPED


def test_restored_machine_ends_as_the_uninterrupted_one(saved):
    description, path, whole = saved

    with Machine.load(description) as machine:
        machine.restore(path)
        assert finish(machine) == whole


def test_snapshot_kept_in_memory_restores_like_a_file(saved):
    description, path, whole = saved

    with Machine.load(description) as machine, Machine.load(description) as other:
        machine.restore(path)
        kept = machine.snapshot()
        machine.run(timeout=30)
        machine.restore(kept)
        other.restore(kept)
        assert [finish(machine), finish(other)] == [whole, whole]


def test_damaged_snapshot_in_memory_is_refused(saved):
    description, path, _ = saved

    with (
        Machine.load(description) as machine,
        pytest.raises(SnapshotError, match="the snapshot in memory is damaged"),
    ):
        machine.restore(path.read_bytes()[:-9])


def test_what_ran_before_a_restore_changes_nothing(saved):
    description, path, whole = saved

    with Machine.load(description) as machine:
        machine.console.send("typed before and never read ")
        machine.console.expect("f", timeout=30)
        machine.console.send("typed just before the restore")
        machine.clock.pass_idle(10_000_000_000)
        machine.restore(path)
        assert finish(machine) == whole


def test_input_of_before_a_restore_is_not_read_after_it(workshop):
    machine = workshop.build(CLOCK_WORK)
    machine.console.expect("c", timeout=30)
    path = workshop.folder / "snapshot"
    machine.snapshot(path)
    whole = finish(machine)

    with Machine.load(workshop.folder / "board.yaml") as other:
        other.console.expect("b", timeout=30)
        other.console.send("TYPED AND NOT YET READ")
        other.restore(path)
        assert finish(other) == whole


def test_machine_that_is_off_goes_on_after_a_restore(saved):
    description, path, whole = saved

    with Machine.load(description) as machine:
        finish(machine)
        machine.restore(path)
        assert finish(machine) == whole


def test_snapshots_along_a_run_all_lead_to_its_end(saved):
    description, path, whole = saved
    with Machine.load(description) as machine, Machine.load(description) as other:
        machine.restore(path)
        for letter in "fkpu":
            machine.console.expect(letter, timeout=30)
            machine.snapshot(path)
            other.restore(path)
            assert other.state_sha256() == machine.state_sha256()
            assert finish(other) == whole


def test_taking_a_snapshot_changes_nothing(saved):
    description, path, _ = saved
    with Machine.load(description) as machine:
        machine.restore(path)
        before = machine.state_sha256()

        machine.snapshot(path)
        first = path.read_bytes()
        machine.snapshot(path)

        assert machine.state_sha256() == before
        assert path.read_bytes() == first


def test_timer_interrupt_pending_at_the_snapshot_can_be_cleared_after_it(workshop):
    machine = workshop.build(
        """
        li a7, 0x54494D45       # a timer that is due at once, its interrupt not enabled
        li a6, 0
        li a0, 0
        ecall
        j 1f
    1:  csrr s0, sip
        andi s0, s0, 0x20
        beqz s0, 1b
        li t0, 0x10000000
        li t1, '*'
        sb t1, (t0)
        j 2f
    2:  li a0, -1               # never: clears the interrupt
        ecall
        csrr s1, sip
        li a7, 0x53525354
        li a0, 0
        li a1, 0
        ecall
    """,
        mode="kernel",
    )
    machine.console.expect("*", timeout=10)
    path = workshop.folder / "snapshot"
    machine.snapshot(path)

    with Machine.load(workshop.folder / "board.yaml") as restored:
        restored.restore(path)
        assert restored.run(timeout=10).kind == "power-off"
        registers = restored.cpu[0].registers
        assert (registers["s0"], registers["s1"]) == (0x20, 0)


def test_cut_file_is_refused_wherever_it_was_cut(saved):
    description, path, _ = saved
    data = path.read_bytes()
    with Machine.load(description) as machine:
        before = machine.state_sha256()
        for size in [*range(0, len(data), max(1, len(data) // 40)), len(data) - 1]:
            path.write_bytes(data[:size])
            with pytest.raises(SnapshotError):
                machine.restore(path)

        assert machine.state_sha256() == before


ECHO = """
    li s0, 0x10005000
1:  lbu t1, 5(s0)
    andi t1, t1, 1
    beqz t1, 1b
    lbu t1, (s0)
    sb t1, (s0)
    li t2, 'q'
    bne t1, t2, 1b
    li t0, 0x5555
    li t1, 0x100000
    sw t0, (t1)
2:  j 2b
"""
LINE = "\n  line: {type: ns16550a, at: 0x1000_5000, irq: plic.5, backend: 'channel:aux'}\n"


def test_serial_line_with_a_named_end_talks_to_the_host(workshop):
    machine = workshop.build(ECHO, devices=LINE)
    machine.channels["aux"].send("over there, q")

    assert machine.run(timeout=30).kind == "power-off"
    assert machine.channels["aux"].text == "over there, q"
    assert machine.console.text == ""


def test_named_end_s_input_is_in_the_snapshot(workshop):
    machine = workshop.build(ECHO, devices=LINE)
    machine.channels["aux"].send("kept, q")
    kept = machine.snapshot()
    machine.run(timeout=30)

    machine.restore(kept)

    assert machine.channels["aux"].text == ""
    assert machine.run(timeout=30).kind == "power-off"
    assert machine.channels["aux"].text == "kept, q"
