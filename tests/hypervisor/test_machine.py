"""Whole machines with small guests: how runs end, what decides them, and what is let go of."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time

import pytest

from hypervisor.boot.loadable import BootError
from hypervisor.device import BackendError
from hypervisor.machine import Machine
from hypervisor.outcome import GuestFailure

POWER_OFF = "li t0, 0x5555\n li t1, 0x100000\n sw t0, (t1)\n 9: j 9b\n"
FAIL_7 = "li t0, 0x73333\n li t1, 0x100000\n sw t0, (t1)\n 9: j 9b\n"
RESET = "li t0, 0x7777\n li t1, 0x100000\n sw t0, (t1)\n 9: j 9b\n"
FOREVER = "1: addi s0, s0, 1\n j 1b"
SHUTDOWN = "li a7, 0x53525354\n li a6, 0\n li a0, 0\n li a1, 0\n ecall\n 9: j 9b\n"

SAY = """
    li s1, 0x10000000
    la s0, {text}
1:  lbu a0, (s0)
    beqz a0, 2f
    sb a0, (s1)
    addi s0, s0, 1
    j 1b
2:
"""
ECHO = """
    li s1, 0x10000000
1:  lbu a1, 5(s1)
    andi a1, a1, 1
    beqz a1, 1b
    lbu a0, (s1)
    sb a0, (s1)
    li a2, 'q'
    bne a0, a2, 1b
"""


def greeting(text, then):
    return SAY.format(text="greeting") + then + f'\ngreeting: .asciz "{text}"\n'


# -- endings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", ["cpu.harts=2", ["cpu.harts=2"], ("cpu.harts=2",)])
def test_one_override_may_stand_alone(workshop, overrides):
    with Machine.load(workshop.describe(POWER_OFF), overrides) as machine:
        assert len(machine.cpu) == 2


def test_power_off_ends_the_run_well(workshop):
    machine = workshop.build(POWER_OFF)

    outcome = machine.run(timeout=10)

    assert (outcome.kind, outcome.code, outcome.report) == ("power-off", 0, "")


def test_failure_code_ends_the_run_as_failed(workshop):
    outcome = workshop.build(FAIL_7).run(timeout=10)

    assert (outcome.kind, outcome.code) == ("failed", 1)
    assert "failure code 7" in outcome.sentence


def test_machine_that_is_off_stays_off(workshop):
    machine = workshop.build(POWER_OFF)
    machine.run(timeout=10)
    before = machine.state_sha256()

    assert machine.run(timeout=10).kind == "power-off"
    assert machine.state_sha256() == before


def test_guest_that_resets_starts_again_with_cleared_memory_and_registers(workshop):
    machine = workshop.build(f"""
        la t0, mark
        ld a0, (t0)
        li t2, 0x80080000
        ld a1, (t2)
        li a2, 77
        sd a2, (t2)
        rdcycle s5
        bnez s5, 1f
        {RESET}
    1:  {POWER_OFF}
    .balign 8
    mark: .dword 5
    """)

    outcome = machine.run(timeout=10)

    registers = machine.cpu[0].registers
    assert outcome.kind == "power-off"
    assert machine.resets == machine.stats()["resets"] == 1
    assert (registers["a0"], registers["a1"]) == (5, 0)


def test_all_harts_waiting_for_nothing_is_a_hang(workshop):
    outcome = workshop.build("csrw mie, zero\n1: wfi\n j 1b", harts=2).run(timeout=10)

    assert (outcome.kind, outcome.code) == ("failed", 1)
    assert "hangs" in outcome.sentence
    assert "waiting" in outcome.report


def test_stopped_harts_are_a_hang_too(workshop):
    machine = workshop.build("li a7, 0x48534D\n li a6, 1\n ecall", mode="kernel", harts=2)

    assert "hangs" in machine.run(timeout=10).sentence


def test_waiting_for_a_timer_is_no_hang(workshop):
    machine = workshop.build(f"""
        li t0, 0x80
        csrw mie, t0
        li t1, 0x2004000
        li t0, 123456
        sd t0, (t1)
        wfi
        rdtime s0
        {POWER_OFF}
    """)

    assert machine.run(timeout=10).kind == "power-off"
    assert 123456 <= machine.cpu[0].registers["s0"] <= 123457
    assert machine.stats()["executed_bytes"] < 200


def test_trap_without_a_handler_is_named_with_its_place(workshop):
    outcome = workshop.build("csrw mtvec, zero\n nop\n unimp").run(timeout=10)

    assert (outcome.kind, outcome.code) == ("failed", 1)
    assert "instruction access fault" in outcome.sentence
    assert "mepc" in outcome.report


def test_time_that_ran_out_says_what_was_awaited(workshop):
    outcome = workshop.build(FOREVER).run(until="# ", timeout=0.1)

    assert (outcome.kind, outcome.code) == ("timeout", 124)
    assert "0.1 seconds" in outcome.sentence
    assert "'# '" in outcome.sentence
    assert "addi s0, 1" in outcome.report


def test_timeout_is_noticed_by_a_waiting_machine(workshop):
    machine = workshop.build("1: wfi\n j 1b")
    machine.live.add("test")
    begun = time.monotonic()

    assert machine.run(timeout=0.2).kind == "timeout"
    assert time.monotonic() - begun < 5


def test_stop_from_another_thread_ends_a_run(workshop):
    machine = workshop.build(FOREVER)
    threading.Timer(0.05, machine.stop).start()

    assert machine.run(timeout=10).kind == "stopped"


def test_run_goes_on_where_it_stopped(workshop):
    machine = workshop.build(greeting("ready", POWER_OFF))

    first = machine.run(until="rea", timeout=10)
    printed = machine.console.text
    second = machine.run(timeout=10)

    assert (first.kind, printed) == ("until", "rea")
    assert (second.kind, machine.console.text) == ("power-off", "ready")


# -- the console ------------------------------------------------------------------------------


def test_what_is_sent_is_echoed(workshop):
    machine = workshop.build(ECHO + POWER_OFF)
    machine.console.send("hello ")
    machine.console.expect("hello ", timeout=10)
    machine.console.send("q")

    assert machine.run(timeout=10).kind == "power-off"
    assert machine.console.text == "hello q"


def test_expect_returns_what_was_printed_up_to_its_text(workshop):
    machine = workshop.build(greeting("one two three", POWER_OFF))

    assert machine.console.expect("two", timeout=10) == "one two"
    assert machine.console.expect("r", timeout=10) == " thr"


def test_power_off_before_the_awaited_text_is_a_failure(workshop):
    machine = workshop.build(greeting("one", POWER_OFF))

    with pytest.raises(GuestFailure, match="before it printed 'two'") as caught:
        machine.console.expect("two", timeout=10)
    assert caught.value.outcome.code == 1


def test_text_that_was_not_printed_in_time_is_awaited_no_more(workshop):
    machine = workshop.build(ECHO + POWER_OFF)
    assert machine.run(until="never", timeout=0.05).kind == "timeout"
    machine.console.send("q")

    assert machine.run(timeout=10).kind == "power-off"


# -- determinism ------------------------------------------------------------------------------

PING_PONG = """
    li s0, 0x2000000        # each hart wakes the other by a software interrupt, 500 times
    csrr s1, mhartid
    xori s2, s1, 1
    slli s3, s1, 2
    add s3, s3, s0
    slli s4, s2, 2
    add s4, s4, s0
    li t0, 8
    csrw mie, t0
    li s5, 500
    beqz s1, serve
1:  wfi
    csrr t1, mip
    andi t1, t1, 8
    beqz t1, 1b
    sw zero, (s3)
serve:
    li t0, 1
    sw t0, (s4)
    addi s5, s5, -1
    bnez s5, 1b
    beqz s1, 2f
    {power_off}
2:  wfi
    j 2b
"""


def figures(machine):
    stats = machine.stats()
    return (
        stats["executed_bytes"],
        stats["executed_bytes_by_hart"],
        stats["virtual_ns"],
        stats["mmio"],
        machine.state_sha256(),
    )


def test_two_harts_wake_each_other_the_same_in_every_run(workshop):
    runs = []
    for _ in range(3):
        machine = workshop.build(PING_PONG.format(power_off=POWER_OFF), harts=2)
        assert machine.run(timeout=20).kind == "power-off"
        runs.append(figures(machine))

    assert runs[1:] == runs[:1] * 2
    assert runs[0][3]["clint"]["writes"] >= 1998
    assert min(runs[0][1]) > 0.4 * runs[0][0]


COUNTERS = """
    la s0, counter
    la s1, plain
    li s2, {rounds}
1:  li t0, 1
    amoadd.d zero, t0, (s0)
    ld t1, (s1)
    addi t1, t1, 1
    sd t1, (s1)
2:  lr.d t2, 16(s0)
    j 3f
3:  addi s2, s2, -1
    bnez s2, 1b
    fence.i
    ld s3, (s0)
    ld s4, (s1)
    {power_off}
.balign 8
counter: .dword 0
plain: .dword 0
    .dword 0
"""


class Kicker:
    """Asks for safe points from another thread, about 2,000 times a second."""

    def __init__(self, machine):
        self.machine = machine
        self.count = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.kick)

    def kick(self):
        while not self.ended.wait(0.0005):
            self.machine.kick()
            self.count += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.thread.join()


def test_kicks_from_another_thread_double_no_access_and_change_nothing(workshop):
    source = COUNTERS.replace("2:  lr.d t2, 16(s0)\n", "").format(
        rounds=3_000_000, power_off=POWER_OFF
    )
    quiet = workshop.build(source)
    quiet.run(timeout=60)
    machine = workshop.build(source)

    with Kicker(machine) as kicker:
        outcome = machine.run(timeout=60)

    registers = machine.cpu[0].registers
    assert outcome.kind == "power-off"
    assert kicker.count > 20
    assert (registers["s3"], registers["s4"]) == (3_000_000, 3_000_000)
    assert figures(machine) == figures(quiet)


def test_kicks_change_nothing_for_harts_that_wake_each_other(workshop):
    source = PING_PONG.format(power_off=POWER_OFF)
    quiet = workshop.build(source, harts=2)
    quiet.run(timeout=60)
    machine = workshop.build(source, harts=2)

    with Kicker(machine) as kicker:
        outcome = machine.run(timeout=60)

    assert outcome.kind == "power-off"
    assert kicker.count > 0
    assert figures(machine) == figures(quiet)


def test_kicks_double_no_access_to_a_device(workshop):
    (workshop.folder / "mine.py").write_text(OWN_DEVICES)
    machine = workshop.build(
        f"""
        li s0, 0x20000000
        li s1, 30000
    1:  sw s1, (s0)
        amoadd.w zero, s1, (s0)
        lw zero, (s0)
        addi s1, s1, -1
        bnez s1, 1b
        {POWER_OFF}
    """,
        devices="\n  sum: {type: './mine.py:Sum', at: 0x20000000}\n",
    )

    with Kicker(machine) as kicker:
        machine.run(timeout=60)

    device = machine.devices["sum"]
    assert kicker.count > 20
    assert (device.reads, device.writes) == (60_000, 60_000)
    assert device.total == 3 * sum(range(30_001))


def test_interrupt_key_ends_a_run_of_a_guest_that_computes(workshop):
    machine = workshop.build(FOREVER)
    threading.Timer(0.05, _thread.interrupt_main).start()

    with pytest.raises(KeyboardInterrupt):
        machine.run(timeout=20)

    assert machine.cpu[0].registers["s0"] > 0


def test_interrupt_key_takes_the_place_of_no_access(workshop):
    (workshop.folder / "mine.py").write_text(OWN_DEVICES)
    machine = workshop.build(
        "li s0, 0x20000000\n1: addi s1, s1, 1\n sw s1, (s0)\n j 1b",
        devices="\n  sum: {type: './mine.py:Sum', at: 0x20000000}\n",
    )

    for _ in range(20):
        threading.Timer(0.01, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            machine.run(timeout=20)

    assert machine.devices["sum"].writes == machine.cpu[0].registers["s1"] > 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_key_pressed_twice_ends_what_reaches_no_safe_point(workshop):
    machine = workshop.build(greeting("a", FOREVER))
    machine.console.sinks.append(lambda data: time.sleep(30))
    for seconds in (0.2, 0.4):
        threading.Timer(seconds, os.kill, [os.getpid(), signal.SIGINT]).start()
    began = time.monotonic()

    with pytest.raises(KeyboardInterrupt):
        machine.run(timeout=20)

    assert time.monotonic() - began < 10


def test_kick_at_any_moment_is_noticed_soon(workshop):
    machine = workshop.build(FOREVER)
    taken = []

    for _ in range(50):
        machine.inbox.post(lambda: taken.append(1))
        threading.Timer(0.001, machine.stop).start()
        assert machine.run(timeout=20).kind == "stopped"

    assert len(taken) == 50


def test_two_machines_in_one_process_have_their_own_time_and_memory(workshop):
    source = greeting("x", "rdtime s2\n" + ECHO + "rdtime s3\n" + POWER_OFF)
    alone = workshop.build(source)
    alone.console.send("abq")
    alone.run(timeout=10)
    one, other = workshop.build(source), workshop.build(source)

    one.console.expect("x", timeout=10)
    other.clock.pass_idle(1_000_000_000)
    other.console.expect("x", timeout=10)
    for machine in (one, other):
        machine.console.send("abq")
    one.console.expect("a", timeout=10)
    other.run(timeout=10)
    one.run(timeout=10)

    assert one.cpu[0].registers["s3"] < 10_000_000
    assert other.cpu[0].registers["s2"] >= 10_000_000
    assert one.clock.executed == other.clock.executed
    assert one.console.text == other.console.text == alone.console.text == "xabq"


# -- the user's hand --------------------------------------------------------------------------


@pytest.mark.parametrize("harts", [1, 2])
def test_code_written_by_the_user_runs_at_the_next_run(workshop, harts):
    machine = workshop.build("1: addi s0, s0, 1\n j 1b\n.balign 64\n.dword 0", harts=harts)
    machine.run(timeout=0.05)

    machine.memory.write(0x8000_0000, workshop.assemble(POWER_OFF))
    for hart in machine.cpu:
        hart.pc = 0x8000_0000

    assert machine.run(timeout=5).kind == "power-off"


def test_registers_and_memory_can_be_looked_at_and_changed(workshop):
    machine = workshop.build(greeting("now", "sd s5, 64(s1)\n" + POWER_OFF))
    machine.run(until="now", timeout=10)

    machine.cpu[0].registers["s1"] = 0x8000_1000
    machine.cpu[0].registers["s5"] = 0x1234
    machine.run(timeout=10)

    assert machine.memory.read(0x8000_1040, 8) == (0x1234).to_bytes(8, "little")


STATS = {
    *("virtual_ns", "executed_bytes", "executed_bytes_by_hart", "traps", "firmware_calls"),
    *("mmio", "code_barriers", "translation_flushes", "dropped_code_pages"),
    *("resets", "console_sha256"),
}


def test_stats_have_their_figures(workshop):
    machine = workshop.build(
        f"""
        la t0, handler
        csrw stvec, t0
        unimp
        li a7, 0x4442434E
        li a6, 2
        li a0, 'x'
        ecall
        {SHUTDOWN}
    .balign 4
    handler:
        csrr t0, sepc
        addi t0, t0, 2
        csrw sepc, t0
        sret
    """,
        mode="kernel",
    )
    assert machine.run(timeout=10).kind == "power-off"

    stats = machine.stats()

    assert set(stats) >= STATS
    assert stats["traps"] == {"illegal instruction": 1}
    assert stats["firmware_calls"] == {"dbcn": 1, "srst": 1}
    assert stats["executed_bytes"] == sum(stats["executed_bytes_by_hart"])
    assert machine.console.text == "x"


# -- what is let go of ------------------------------------------------------------------------

OWN_DEVICES = """
import threading
import time

from hypervisor.device import BackendError, Device


class Refusing(Device):
    type = "test.refusing"

    def __init__(self, name, options, board):
        super().__init__(name, options, board)
        raise BackendError("refusing: the host has no such thing")


class Sum(Device):
    type = "test.sum"
    reads = writes = total = last = 0

    def read(self, offset, size):
        self.reads += 1
        return self.last

    def write(self, offset, size, value):
        self.writes += 1
        self.total += value
        self.last = value


class Slow(Device):
    '''Host work that is still running when the machine is closed.'''

    type = "test.slow"
    log = []

    def write(self, offset, size, value):
        self.board.host.submit(self, self.work, self.clock.now() + 10**12, self.log.append)

    def work(self):
        time.sleep(0.05)
        self.log.append("worked")

    def close(self):
        self.log.append("closed")
"""


def held():
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def test_machines_that_fail_to_load_keep_nothing(workshop):
    (workshop.folder / "mine.py").write_text(OWN_DEVICES)
    path = workshop.describe(
        POWER_OFF, harts=2, devices="\n  bad: {type: './mine.py:Refusing', at: 0x20000000}\n"
    )
    with pytest.raises(BackendError):
        Machine.load(path)
    before = held()

    for _ in range(20):
        with pytest.raises(BackendError, match="no such thing"):
            Machine.load(path)

    assert held() == before


def test_machines_that_were_closed_keep_nothing(workshop):
    path = workshop.describe(POWER_OFF, harts=2)
    Machine.load(path).close()
    before = held()

    for _ in range(20):
        with Machine.load(path) as machine:
            machine.run()

    assert held() == before
    machine.close()


def test_kernel_that_does_not_fit_is_refused_with_its_size(workshop):
    path = workshop.describe(bytes(2 << 20), mode="kernel")

    with pytest.raises(BootError, match=r"guest.bin \(2 MiB\)"):
        Machine.load(path)


def test_closed_machine_refuses_to_run(workshop):
    machine = workshop.build(POWER_OFF)
    machine.close()

    with pytest.raises(ValueError, match="closed"):
        machine.run(timeout=10)


def test_host_work_ends_before_its_device_is_closed(workshop):
    (workshop.folder / "mine.py").write_text(OWN_DEVICES)
    machine = workshop.build(
        "li s0, 0x20000000\n sw zero, (s0)\n" + POWER_OFF,
        devices="\n  slow: {type: './mine.py:Slow', at: 0x20000000}\n",
    )
    machine.run(timeout=10)
    log = machine.devices["slow"].log

    machine.close()

    assert log == ["worked", "closed"]


# -- code that another hart writes ------------------------------------------------------------

PATCHED_BY_ANOTHER = """
    csrr s0, mhartid
    la s1, function
    la s2, flag
    xori s0, s0, {reader}
    bnez s0, writer
    jalr s1
    mv s3, a0
    li t0, 1
    sd t0, (s2)
1:  ld t0, (s2)
    addi t0, t0, -2
    bnez t0, 1b
    fence.i
    jalr s1
    mv s4, a0
    {power_off}
writer:
1:  ld t0, (s2)
    beqz t0, 1b
    li t2, 0x00200513       # li a0, 2
    sw t2, (s1)
    fence
    li t0, 2
    sd t0, (s2)
2:  wfi
    j 2b
.balign 4096
function:
    .word 0x00100513        # li a0, 1
    ret
.balign 4096
flag: .dword 0
"""


@pytest.mark.parametrize("reader", [0, 1])
def test_code_written_by_another_hart_runs_new_after_fence_i(workshop, reader):
    machine = workshop.build(PATCHED_BY_ANOTHER.format(reader=reader, power_off=POWER_OFF), harts=2)

    outcome = machine.run(timeout=20)

    registers = machine.cpu[reader].registers
    assert outcome.kind == "power-off"
    assert (registers["s3"], registers["s4"]) == (1, 2)
