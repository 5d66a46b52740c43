"""Where the engine looks for a reason to stop."""

from __future__ import annotations

import pytest

from hypervisor.cpu import aarch64_internals, library, riscv64_internals
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.selftest import BASE, SIZE, Ram

DEVICE = 0x1000
ENGINES = {
    "riscv64": (
        (riscv64_internals.ARCH_RISCV, riscv64_internals.MODE_RISCV64, None),
        # lui a0, 1; sw zero, 0(a0); sw zero, 0(a0); jal zero, .+4; wfi
        (0x00001537, 0x00052023, 0x00052023, 0x0040006F, 0x10500073),
    ),
    "aarch64": (
        (
            aarch64_internals.ARCH_ARM64,
            aarch64_internals.MODE_ARM,
            aarch64_internals.CORTEX_A72,
        ),
        # mov x0, 0x1000; str wzr, [x0]; str wzr, [x0]; b .+4; wfi
        (0xD2820000, 0xB900001F, 0xB900001F, 0x14000001, 0xD503207F),
    ),
}


@pytest.fixture(params=ENGINES)
def rig(request):
    """An engine whose program stores twice to a device that asks for a stop at once."""
    arguments, code = ENGINES[request.param]
    stores = []
    with Ram() as ram:
        engine = Engine(*arguments)
        engine.map_ram(BASE, SIZE, ram.address)
        ram.store(0, code)

        def write(uc, offset, size, value, data):
            stores.append(offset)
            library.load().uc_emu_stop(engine.handle)

        engine.map_mmio(DEVICE, 0x1000, library.MmioRead(lambda *_: 0), library.MmioWrite(write))
        yield engine, stores
        engine.close()


def test_stop_waits_for_the_next_block(rig):
    engine, stores = rig
    engine.check_exits(False)

    engine.start(BASE)

    assert stores == [0, 0]


def test_stop_is_taken_after_an_access_where_that_is_wanted(rig):
    engine, stores = rig
    engine.check_exits(True)

    engine.start(BASE)

    assert stores == [0]


def test_flags_elsewhere_are_noticed(rig, monkeypatch):
    engine, _ = rig
    monkeypatch.setattr("hypervisor.cpu.engine._INIT_DONE", 0x568)

    with pytest.raises(library.EngineError, match="keeps its flags where they cannot be found"):
        engine.check_exits(False)
