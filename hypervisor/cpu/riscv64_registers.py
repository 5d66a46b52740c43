"""A RISC-V hart's registers, by the names of the specification."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import c_uint64

from hypervisor.cpu import registers
from hypervisor.cpu import riscv64_env as env
from hypervisor.cpu.cells import NEVER
from hypervisor.cpu.riscv64_internals import internals
from hypervisor.cpu.riscv64_tlb import SSTATUS, SUM

# Addresses before configurations: a locked entry would refuse its address.
PMP_NAMES = {f"pmpaddr{n & 15}": n for n in env.PMP_ADDRESSES}
PMP_NAMES |= {f"pmpcfg{n & 15}": n for n in env.PMP_CONFIGURATIONS}


class Registers(registers.Registers):
    """A hart's registers by name: x ("a0"), f ("f10", raw 64 bits), pc, and CSRs."""

    def __init__(self, address: int) -> None:
        self._address = address
        self._arguments = (c_uint64 * 8).from_address(address + env.X0 + 10 * 8)
        self._fields = {name: env.X0 + 8 * n for n, name in enumerate(env.INTEGER_NAMES)}
        self._fields |= {name: env.F0 + 8 * n for n, name in enumerate(env.FLOAT_NAMES)}
        self._fields |= env.FIELDS
        self._csrs = dict(env.CSRS)
        self._csrs |= PMP_NAMES

    def __iter__(self) -> Iterator[str]:
        yield from self._fields
        yield from self._csrs

    def __len__(self) -> int:
        return len(self._fields) + len(self._csrs)

    def __getitem__(self, name: str) -> int:
        if name == "pc":
            return c_uint64.from_address(self._address + env.PC).value
        at = self._fields.get(name)
        if at is not None:
            return c_uint64.from_address(self._address + at).value
        number = self._csrs.get(name)
        return self.read_csr(env.VIEWS[name] if number is None else number)

    def __setitem__(self, name: str, value: int) -> None:
        value &= NEVER
        if name == "pc":
            c_uint64.from_address(self._address + env.PC).value = value
        elif name == "zero":
            return
        elif name == "mstatus":
            if (self[name] ^ value) & SUM:  # the TLBs follow
                internals().csr(self._address, SSTATUS, None, value & SUM, SUM)
            c_uint64.from_address(self._address + env.MSTATUS).value = value
        elif (at := self._fields.get(name)) is not None:
            c_uint64.from_address(self._address + at).value = value
        else:
            number = self._csrs.get(name)
            number = env.VIEWS[name] if number is None else number
            internals().csr(self._address, number, None, value, NEVER)

    def arguments(self) -> list[int]:
        """a0 to a7, at one go."""
        return self._arguments[:]

    def read_csr(self, number: int) -> int:
        """Any CSR, whatever the present privilege; KeyError when the hart has none such."""
        value = c_uint64()
        if internals().csr(self._address, number, ctypes.byref(value), 0, 0) != 0:
            raise KeyError(f"no CSR {number:#x}")
        return value.value
