"""A small guest, its description, and the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.main import run

GUEST = """
    la   s0, banner
    li   s1, 0x10000000
1:  lbu  a0, 0(s0)
    beqz a0, 2f
    sb   a0, 0(s1)
    addi s0, s0, 1
    j    1b
2:  lbu  a1, 5(s1)              # echo what is typed, until q
    andi a1, a1, 1
    beqz a1, 2b
    lbu  a0, 0(s1)
    sb   a0, 0(s1)
    li   a2, 'q'
    bne  a0, a2, 3f
    li   a0, 0x5555             # power off
    li   a1, 0x100000
    sw   a0, 0(a1)
3:  li   a2, 'f'
    bne  a0, a2, 4f
    li   a0, 0x73333            # power off with failure code 7
    li   a1, 0x100000
    sw   a0, 0(a1)
4:  li   a2, 'w'
    bne  a0, a2, 5f
    csrw mie, zero
    wfi                         # nothing will ever come
5:  li   a2, 't'
    bne  a0, a2, 2b
    csrw mtvec, zero
    unimp                       # a trap with no handler
banner: .asciz "guest ready\\n"
"""

DESCRIPTION = """machine: test-board
cpu: {arch: riscv64}
memory:
  ram: {at: 0x8000_0000, size: 1M}
boot:
  firmware: guest.bin
devices:
  finisher: {type: sifive.test, at: 0x0010_0000}
  plic: {type: riscv.plic, at: 0x0c00_0000}
  uart0: {type: ns16550a, at: 0x1000_0000, irq: plic.10, backend: stdio}
"""


@pytest.fixture
def folder(
    tmp_path: Path, assemble: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The current directory, with `board.yaml` and its guest in it."""
    (tmp_path / "guest.bin").write_bytes(assemble(GUEST))
    (tmp_path / "board.yaml").write_text(DESCRIPTION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


CommandLine = Callable[..., Result]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> CommandLine:
    """`command("run", "board.yaml")`: exit code and what was printed."""

    def take(*arguments: str) -> Result:
        code = run(list(arguments))
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return take
