"""The sentences that runs end with where the machine lacks what the guest asks for."""

from __future__ import annotations

import struct

from hypervisor.machine import Machine

TO_AARCH32 = struct.pack(
    "<3I",
    0xD2800202,  # mov x2, 0x10
    0xD5184002,  # msr spsr_el1, x2
    0x14000000,  # b .
)
BOARD = """
machine: board
cpu: {arch: aarch64}
memory: {ram: {at: 0x4000_0000, size: 16M}}
boot: {firmware: guest.bin}
devices:
  uart0: {type: arm.pl011, at: 0x0900_0000, backend: stdio}
"""


def test_return_to_aarch32_is_a_failure_with_its_reason(tmp_path):
    (tmp_path / "guest.bin").write_bytes(TO_AARCH32)
    (tmp_path / "board.yaml").write_text(BOARD)
    machine = Machine.load(tmp_path / "board.yaml")

    outcome = machine.run(timeout=60)
    machine.close()

    assert (outcome.kind, outcome.code) == ("failed", 1)
    assert outcome.sentence == (
        "hart 0 prepared a return to AArch32 state, which it does not have: "
        "ID_AA64PFR0_EL1 says AArch64 only"
    )
    assert "EL1" in outcome.report
