"""A hart's registers as GDB numbers and describes them (GDB manual, appendix G)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

_RISCV_CSRS = (
    *("sstatus", "sie", "stvec", "scounteren", "sscratch", "sepc", "scause", "stval", "sip"),
    *("satp", "mstatus", "misa", "medeleg", "mideleg", "mie", "mtvec", "mcounteren", "mscratch"),
    *("mepc", "mcause", "mtval", "mip", "cycle", "time", "instret", "mcycle", "minstret"),
    *("mvendorid", "marchid", "mimpid", "mhartid"),
)
_VECTOR_TYPES = """
<vector id="v2d" type="ieee_double" count="2"/><vector id="v2u" type="uint64" count="2"/>
<vector id="v4f" type="ieee_single" count="4"/><vector id="v4u" type="uint32" count="4"/>
<vector id="v8u" type="uint16" count="8"/><vector id="v16u" type="uint8" count="16"/>
<union id="vnd"><field name="f" type="v2d"/><field name="u" type="v2u"/></union>
<union id="vns"><field name="f" type="v4f"/><field name="u" type="v4u"/></union>
<union id="vnh"><field name="u" type="v8u"/></union>
<union id="vnb"><field name="u" type="v16u"/></union>
<union id="vnq"><field name="u" type="uint128"/></union>
<union id="aarch64v"><field name="d" type="vnd"/><field name="s" type="vns"/>
<field name="h" type="vnh"/><field name="b" type="vnb"/><field name="q" type="vnq"/></union>
"""


@dataclass(frozen=True, slots=True)
class Register:
    """One of GDB's registers; its number is its place among all."""

    name: str
    source: str
    """The hart's name for it."""
    bits: int = 64
    type: str = "int"
    group: str = ""
    """GDB's `info registers GROUP`; "" where it knows by the name."""

    def describe(self) -> str:
        group = f' group="{self.group}"' if self.group else ""
        return f'<reg name={quoteattr(self.name)} bitsize="{self.bits}" type="{self.type}"{group}/>'


@dataclass(frozen=True, slots=True)
class Feature:
    """A group of registers that GDB knows by name, or ours."""

    name: str
    registers: Sequence[Register]
    types: str = ""


@dataclass(frozen=True)
class Layout:
    """What GDB is told of an architecture's registers."""

    architecture: str
    features: Sequence[Feature]

    @property
    def registers(self) -> list[Register]:
        return [register for feature in self.features for register in feature.registers]

    def describe(self) -> str:
        """The target description."""
        parts = ['<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>']
        parts.append(f"<architecture>{self.architecture}</architecture>")
        for feature in self.features:
            parts.append(f"<feature name={quoteattr(feature.name)}>{feature.types}")
            parts += [each.describe() for each in feature.registers]
            parts.append("</feature>")
        return "\n".join([*parts, "</target>"])


def layout_of(arch: str, names: Mapping[str, int]) -> Layout:
    """Registers of `arch`; `names` is a hart's mapping of them."""
    return _aarch64(names) if arch == "aarch64" else _riscv64(names)


def pack(register: Register, value: int) -> bytes:
    """A value as it is sent: little-endian, of the register's size."""
    size = register.bits // 8
    return (value & (1 << register.bits) - 1).to_bytes(size, "little")


def read(register: Register, registers: Mapping[str, int]) -> bytes | None:
    """The register's bytes; None where the hart has none such just now."""
    try:
        return pack(register, registers[register.source])
    except KeyError:
        return None


def write(register: Register, registers: Any, data: bytes) -> bool:
    """Set it; whether it could be."""
    if len(data) != register.bits // 8:
        return False
    try:
        registers[register.source] = int.from_bytes(data, "little")
    except KeyError:
        return False
    return True


def _known(names: Mapping[str, int], wanted: Iterable[str], group: str = "") -> list[Register]:
    found = []
    for name in wanted:
        register = Register(name, name, group=group)
        if read(register, names) is not None:
            found.append(register)
    return found


def _riscv64(names: Mapping[str, int]) -> Layout:
    from hypervisor.cpu.riscv64_env import FLOAT_NAMES, INTEGER_NAMES

    pointers = {"ra": "code_ptr", "sp": "data_ptr", "gp": "data_ptr", "tp": "data_ptr"}
    core = [
        Register("fp" if name == "s0" else name, name, type=pointers.get(name, "int"))
        for name in INTEGER_NAMES
    ]
    core.append(Register("pc", "pc", type="code_ptr"))
    floats = [Register(name, name, type="ieee_double") for name in FLOAT_NAMES]
    floats += [Register(name, name, 32) for name in ("fflags", "frm", "fcsr")]
    return Layout(
        "riscv:rv64",
        (
            Feature("org.gnu.gdb.riscv.cpu", core),
            Feature("org.gnu.gdb.riscv.fpu", floats),
            Feature("org.gnu.gdb.riscv.virtual", [Register("priv", "priv")]),
            Feature("org.gnu.gdb.riscv.csr", _known(names, _RISCV_CSRS)),
        ),
    )


def _aarch64(names: Mapping[str, int]) -> Layout:
    from hypervisor.cpu.aarch64_env import INTEGER_NAMES, SYSTEM_REGISTERS

    core = [Register(name, name) for name in INTEGER_NAMES]
    core += [Register("sp", "sp", type="data_ptr"), Register("pc", "pc", type="code_ptr")]
    core.append(Register("cpsr", "pstate", 32))
    vectors = [Register(f"v{n}", f"v{n}", 128, "aarch64v") for n in range(32)]
    vectors += [Register(name, name, 32) for name in ("fpsr", "fpcr")]
    timers = [f"CNT{t}_{part}_EL0" for t in "PV" for part in ("CTL", "CVAL")]
    known = ("SP_EL0", "SP_EL1", "MPIDR_EL1", "MIDR_EL1", "CTR_EL0", *SYSTEM_REGISTERS)
    known = (*known, "CNTPCT_EL0", "CNTVCT_EL0", *timers)
    return Layout(
        "aarch64",
        (
            Feature("org.gnu.gdb.aarch64.core", core),
            Feature("org.gnu.gdb.aarch64.fpu", vectors, _VECTOR_TYPES),
            Feature("org.hypervisor.aarch64.system", _known(names, known, "system")),
        ),
    )
