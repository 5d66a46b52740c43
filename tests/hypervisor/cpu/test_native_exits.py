"""Blocks do not look for a reason to stop while nobody wants to stop within one."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from hypervisor.cpu import (
    aarch64_selftest,
    library,
    native_exits,
    riscv64_internals,
    selftest,
)
from hypervisor.cpu.aarch64 import Core
from hypervisor.cpu.cells import NEVER, ClockCell, Reason
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.riscv64 import Hart
from hypervisor.cpu.selftest import BASE, DEVICE, SIZE, Ram

PROGRAMS = {
    "riscv64": (
        0x00001537,  # lui  a0, 1
        0x00500593,  # li   a1, 5
        0x00052023,  # sw   zero, 0(a0)
        0xFFF58593,  # addi a1, a1, -1
        0xFE059CE3,  # bnez a1, .-8
        0x10500073,  # wfi
    ),
    "aarch64": (
        0xD2820000,  # mov  x0, 0x1000
        0xD28000A1,  # mov  x1, 5
        0xB900001F,  # str  wzr, [x0]
        0xF1000421,  # subs x1, x1, 1
        0x54FFFFC1,  # b.ne .-8
        0xD503207F,  # wfi
    ),
}
"""They store to the device five times."""
VERIFY = {"riscv64": selftest.verify, "aarch64": aarch64_selftest.verify}


class Rig:
    """A hart and its program, whose stores by number do what `actions` says."""

    def __init__(self, arch, ram):
        self.clock = ClockCell(deadline=NEVER)
        make = {
            "riscv64": lambda: Hart(0, self.clock, selftest.verify().exception_index),
            "aarch64": lambda: Core(0, self.clock),
        }
        self.hart = make[arch]()
        self.hart.map_ram(BASE, SIZE, ram.address)
        ram.store(0, PROGRAMS[arch])
        self.arch = arch
        self.stores = 0
        self.actions = {3: self.stop_engine}
        write = library.MmioWrite(self.write)
        self.hart.engine.map_mmio(DEVICE, 0x1000, library.MmioRead(lambda *_: 0), write)
        self.hart.reset(firmware=True)
        self.hart.begin(BASE)

    def write(self, *_):
        self.stores += 1
        self.actions.get(self.stores, lambda: None)()

    def stop_engine(self):
        """What nothing but a debugger's hooks does."""
        library.load().uc_emu_stop(self.hart.engine.handle)

    def stop_clock(self):
        self.clock.deadline = 0


@pytest.fixture(params=PROGRAMS)
def rig(request):
    VERIFY[request.param]()
    with Ram() as ram:
        rig = Rig(request.param, ram)
        yield rig
        rig.hart.close()


def test_block_does_not_look(rig):
    rig.hart.run()

    assert rig.stores == 5


def test_block_looks_while_a_debugger_has_hooks(rig):
    rig.hart.stops.place_breakpoint(BASE + 0x1000)

    rig.hart.run()

    assert rig.stores == 3


def test_deadline_is_seen_either_way(rig):
    rig.actions = {2: rig.stop_clock, 4: rig.stop_clock}

    reasons = [rig.hart.run()]
    rig.hart.stops.place_breakpoint(BASE + 0x1000)
    rig.clock.deadline = NEVER
    reasons.append(rig.hart.run())

    assert reasons == [Reason.DEADLINE] * 2
    assert rig.stores == 4


def test_debugger_of_one_hart_is_nothing_to_another(rig):
    with Ram() as ram:
        other = Rig(rig.arch, ram)
        other.hart.stops.place_breakpoint(BASE + 0x1000)

        rig.hart.run()
        other.hart.run()
        other.hart.close()

    assert (rig.stores, other.stores) == (5, 3)


@pytest.mark.parametrize("arch", PROGRAMS)
def test_self_test_passes_while_another_machine_is_debugged(rig, arch):
    rig.hart.stops.place_breakpoint(BASE + 0x1000)

    VERIFY[arch].__wrapped__()


@pytest.mark.parametrize("arch", PROGRAMS)
def test_machines_may_begin_on_several_threads_at_once(arch):
    begin = f"""
import threading
from hypervisor.cpu import aarch64_selftest, selftest

verify = {{"riscv64": selftest.verify, "aarch64": aarch64_selftest.verify}}["{arch}"]
barrier = threading.Barrier(2)
threads = [threading.Thread(target=lambda: (barrier.wait(), verify())) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""

    done = subprocess.run(
        [sys.executable, "-c", begin], check=False, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_engine_of_others_in_the_process_is_left_as_it_is():
    selftest.verify()
    endless = Engine(riscv64_internals.ARCH_RISCV, riscv64_internals.MODE_RISCV64)
    with Ram() as ram:
        endless.map_ram(BASE, SIZE, ram.address)
        ram.store(0, (0x0000006F,))  # j .
        threading.Timer(0.1, library.load().uc_emu_stop, [endless.handle]).start()

        endless.start(BASE)

        endless.close()


@pytest.mark.parametrize("arch", PROGRAMS)
def test_function_that_is_called_from_elsewhere_too_is_left_alone(arch, monkeypatch):
    monkeypatch.setattr(library, "places_of", lambda function: [8, 16])

    assert native_exits.install(arch, 0) is False
