"""Where the engine looks for a reason to stop, and where it cuts code into blocks."""

from __future__ import annotations

import pytest

from hypervisor.cpu import aarch64_internals, library, native_exits, riscv64_internals
from hypervisor.cpu.cells import ClockCell
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.riscv64 import Hart
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
            aarch64_internals.PAGE,
        ),
        # mov x0, 0x1000; str wzr, [x0]; str wzr, [x0]; b .+4; wfi
        (0xD2820000, 0xB900001F, 0xB900001F, 0x14000001, 0xD503207F),
    ),
}
NOPS = {"riscv64": (0x00000013,), "aarch64": (0xD503201F,)}


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


def test_stop_is_taken_after_an_access_where_that_is_wanted(rig):
    engine, stores = rig
    engine.check_exits(True)

    engine.start(BASE)

    assert stores == [0]


@pytest.mark.parametrize("name", ENGINES)
def test_code_is_cut_at_the_ends_of_pages_only(name):
    arguments, (*_, wait) = ENGINES[name]
    blocks = []
    block = library.BlockHook(lambda uc, address, size, data: blocks.append(address - BASE))
    with Ram() as ram:
        engine = Engine(*arguments)
        engine.map_ram(BASE, SIZE, ram.address)
        engine.hook(library.HOOK_BLOCK, library.address_of(block), 0)
        ram.store(0xA00, NOPS[name] * 400)
        ram.store(0xA00 + 1600, (wait,))

        engine.start(BASE + 0xA00)
        engine.close()

    assert blocks == [0xA00, 0x1000]


@pytest.mark.parametrize(
    ("name", "elsewhere"), [("NO_EXIT_REQUEST", 0x568), ("_TCG_CONTEXT", 0x8), ("_BACK", {"": 8})]
)
def test_flags_elsewhere_are_noticed(name, elsewhere, monkeypatch):
    monkeypatch.setattr(native_exits, name, elsewhere)

    with pytest.raises(library.EngineError, match="keeps its flags where they cannot be found"):
        Hart(0, ClockCell(), 0)
