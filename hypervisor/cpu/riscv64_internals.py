"""The engine's internal functions for RISC-V, and our own CSRs in its table."""

from __future__ import annotations

import threading
from ctypes import c_int, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

from hypervisor.cpu import library
from hypervisor.cpu import riscv64_env as env
from hypervisor.cpu.engine import Engine
from hypervisor.cpu.library import EngineError
from hypervisor.cpu.riscv64_native import callbacks
from hypervisor.cpu.riscv64_tlb import SSTATUS

ARCH_RISCV, MODE_RISCV64 = 8, 8
_REG_USCRATCH = 36
_CSR_USCRATCH = 0x040
_READ, _WRITE = 1, 2
"""Of the functions of a CSR, which the engine has in a table."""
_one_at_a_time = threading.Lock()


class Internals:
    """The engine's internal functions for RISC-V."""

    def __init__(self) -> None:
        d = library.declare
        self.update_mip = d("riscv_cpu_update_mip_riscv64", c_uint32, c_void_p, c_uint32, c_uint32)
        self.do_interrupt = d("riscv_cpu_do_interrupt_riscv64", None, c_void_p)
        self.csr = d(
            "riscv_csrrw_debug_riscv64", c_int, c_void_p, c_int, c_void_p, c_uint64, c_uint64
        )
        self.get_csr_ops = d("riscv_get_csr_ops_riscv64", None, c_int, c_void_p)
        self.set_csr_ops = d("riscv_set_csr_ops_riscv64", None, c_int, c_void_p)
        self.tb_flush = d("tb_flush_riscv64", None, c_void_p)
        self.tlb_flush = d("tlb_flush_riscv64", None, c_void_p)

    def replace_csr_read(self, number: int, read: int) -> None:
        """Let `read` (native address) answer reads of a CSR; its access rule stays."""
        self._replace(number, _READ, read)

    def replace_csr_write(self, number: int, write: int) -> None:
        """The same of writes."""
        self._replace(number, _WRITE, write)

    def _replace(self, number: int, which: int, function: int) -> None:
        operations = (c_void_p * 4)()
        self.get_csr_ops(number, operations)
        operations[which] = function
        self.set_csr_ops(number, operations)


@cache
def internals() -> Internals:
    """Bind the internals and install our own CSRs (a table of the whole process)."""
    found = Internals()
    native = callbacks()
    found.replace_csr_read(env.CSR_TIME, native["read_time"])
    for number in (env.CSR_CYCLE, env.CSR_MCYCLE):
        found.replace_csr_read(number, native["read_cycle"])
    for number in (env.CSR_INSTRET, env.CSR_MINSTRET):
        found.replace_csr_read(number, native["read_instret"])
    found.replace_csr_write(SSTATUS, native["write_sstatus"])
    return found


def find_env(engine: Engine) -> int:
    """The address of an instance's CPURISCVState: a CSR operation is handed it when called."""
    calls = internals()
    seen: list[int] = []

    def read(pointer: int, number: int, value: Any) -> int:
        seen.append(pointer)
        return 0

    answer = library.CsrRead(read)
    allow = library.CsrPredicate(lambda pointer, number: 0)
    original = (c_void_p * 4)()
    ours = (c_void_p * 4)(library.address_of(allow), library.address_of(answer), None, None)
    with _one_at_a_time:  # the table is the whole process's
        calls.get_csr_ops(_CSR_USCRATCH, original)
        calls.set_csr_ops(_CSR_USCRATCH, ours)
        try:
            engine.read_register(_REG_USCRATCH)
        finally:
            calls.set_csr_ops(_CSR_USCRATCH, original)
    if not seen:
        raise EngineError(f"{library.wheel()} does not call CSR operations; its state is not found")
    return seen[0]
