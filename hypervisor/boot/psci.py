"""The built-in firmware beneath kernels entered at EL1: PSCI 1.0, called by HVC or SMC.

Follows Arm's Power State Coordination Interface (DEN 0022, sections 5 and 6) and SMC Calling
Convention 1.1 (DEN 0028). A core's affinity is its index, in Aff0 alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hypervisor.device.board import Control, GuestMemory

SUCCESS, NOT_SUPPORTED, INVALID_PARAMETERS = 0, -1, -2
ALREADY_ON, INVALID_ADDRESS = -4, -9

SMCCC_VERSION, SMCCC_ARCH_FEATURES = 0x8000_0000, 0x8000_0001
PSCI_VERSION, CPU_SUSPEND, CPU_OFF, CPU_ON = 0x8400_0000, 0x8400_0001, 0x8400_0002, 0x8400_0003
AFFINITY_INFO, MIGRATE_INFO_TYPE = 0x8400_0004, 0x8400_0006
SYSTEM_OFF, SYSTEM_RESET, PSCI_FEATURES = 0x8400_0008, 0x8400_0009, 0x8400_000A
WIDE = 0x4000_0000
"""Added to the number of a function that takes 64-bit arguments."""

_SMCCC_1_1, _PSCI_1_0 = 1 << 16 | 1, 1 << 16
_ON, _OFF = 0, 1
_NO_TRUSTED_OS = 2
_HIGHEST_LEVEL = 3
_WORD, _ALL_ONES = 0xFFFF_FFFF, (1 << 64) - 1


class Registers(Protocol):
    def __getitem__(self, name: str, /) -> int: ...
    def __setitem__(self, name: str, value: int, /) -> None: ...


class Core(Protocol):
    """A core as its firmware sees it. It already stands behind the instruction that called."""

    index: int
    stopped: bool
    waiting: bool

    @property
    def registers(self) -> Registers: ...
    def stop(self) -> None: ...
    def watch_code(self) -> None: ...
    def begin(self, pc: int, x0: int, /) -> None:
        """Start at EL1 with the MMU off and interrupts masked."""


Handler = Callable[[Core, Sequence[int]], int | None]
"""Takes x1 to x3; gives x0, or None where the call does not return to its caller."""


class Psci:
    """Answers HVC and SMC from EL1. Calls act before the core goes on."""

    name = "psci"

    def __init__(self, cores: Sequence[Core], memory: GuestMemory, control: Control) -> None:
        self._cores = cores
        self._memory = memory
        self._control = control
        self._functions: dict[int, Handler] = {
            SMCCC_VERSION: self._smccc_version,
            SMCCC_ARCH_FEATURES: self._smccc_arch_features,
            PSCI_VERSION: self._psci_version,
            PSCI_FEATURES: self._psci_features,
            CPU_SUSPEND: self._cpu_suspend,
            CPU_OFF: self._cpu_off,
            CPU_ON: self._cpu_on,
            AFFINITY_INFO: self._affinity_info,
            MIGRATE_INFO_TYPE: self._migrate_info_type,
            SYSTEM_OFF: self._system_off,
            SYSTEM_RESET: self._system_reset,
        }
        for function in (CPU_SUSPEND, CPU_ON, AFFINITY_INFO):
            self._functions[function | WIDE] = self._functions[function]
        self.calls: dict[str, int] = {}
        """How often each function was called, by name."""

    def reset(self) -> None:
        """Nothing is kept from one call to the next."""

    def save(self) -> dict[str, Any]:
        return {"calls": dict(self.calls)}

    def load(self, state: dict[str, Any]) -> None:
        self.calls = dict(state["calls"])

    def pending(self, core: Core) -> tuple[str, int]:
        """The function's name and its number."""
        function = core.registers["x0"] & _WORD
        handler = self._functions.get(function)
        return "unknown" if handler is None else handler.__name__.strip("_"), function

    def call(self, core: Core) -> None:
        """Answer the call that `core` has just made."""
        registers = core.registers
        name, function = self.pending(core)
        handler = self._functions.get(function)
        self.calls[name] = self.calls.get(name, 0) + 1
        if handler is None:
            registers["x0"] = NOT_SUPPORTED & _ALL_ONES
            return
        mask = _ALL_ONES if function & WIDE else _WORD
        answer = handler(core, [registers[f"x{number}"] & mask for number in (1, 2, 3)])
        if answer is not None:
            registers["x0"] = answer & _ALL_ONES

    # -- what there is ------------------------------------------------------------------------

    def _smccc_version(self, core: Core, a: Sequence[int]) -> int:
        return _SMCCC_1_1

    def _smccc_arch_features(self, core: Core, a: Sequence[int]) -> int:
        """Of the architecture's own calls; none of the workarounds for processors is one."""
        is_known = a[0] in (SMCCC_VERSION, SMCCC_ARCH_FEATURES)
        return SUCCESS if is_known else NOT_SUPPORTED

    def _psci_version(self, core: Core, a: Sequence[int]) -> int:
        return _PSCI_1_0

    def _psci_features(self, core: Core, a: Sequence[int]) -> int:
        """No flags: CPU_SUSPEND takes the original format, and suspends are never coordinated by
        the system's software."""
        is_known = a[0] in self._functions and a[0] != SMCCC_ARCH_FEATURES
        return SUCCESS if is_known else NOT_SUPPORTED

    def _migrate_info_type(self, core: Core, a: Sequence[int]) -> int:
        return _NO_TRUSTED_OS

    # -- cores --------------------------------------------------------------------------------

    def _cpu_on(self, core: Core, a: Sequence[int]) -> int:
        target = self._core(a[0])
        if target is None:
            return INVALID_PARAMETERS
        if not target.stopped:
            return ALREADY_ON
        if a[1] % 4 or not self._memory.contains(a[1], 4):
            return INVALID_ADDRESS
        for other in self._cores:
            other.watch_code()
        target.begin(a[1], a[2])
        return SUCCESS

    def _cpu_off(self, core: Core, a: Sequence[int]) -> None:
        core.stop()

    def _cpu_suspend(self, core: Core, a: Sequence[int]) -> int:
        """The one state is a core's standby, which is a WFI: type, level and number are 0."""
        if a[0] & _WORD:
            return INVALID_PARAMETERS
        core.waiting = True
        return SUCCESS

    def _affinity_info(self, core: Core, a: Sequence[int]) -> int:
        level = a[1]
        if level > _HIGHEST_LEVEL:
            return INVALID_PARAMETERS
        if level:  # all are in one cluster, whose caller is on
            below = (1 << 8 * level) - 1
            return _ON if not a[0] & ~below else INVALID_PARAMETERS
        target = self._core(a[0])
        if target is None:
            return INVALID_PARAMETERS
        return _OFF if target.stopped else _ON

    def _core(self, affinity: int) -> Core | None:
        return self._cores[affinity] if affinity < len(self._cores) else None

    # -- the system ---------------------------------------------------------------------------

    def _system_off(self, core: Core, a: Sequence[int]) -> None:
        self._control.request_power_off()

    def _system_reset(self, core: Core, a: Sequence[int]) -> None:
        self._control.request_reset()
