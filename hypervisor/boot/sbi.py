"""The built-in supervisor firmware: RISC-V SBI 2.0, for kernels entered directly in S-mode.

Extensions: BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN and the legacy calls that Linux may use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypervisor.cpu.hart import LOAD
from hypervisor.cpu.riscv64 import SSIP, STIP, Hart
from hypervisor.device.backends import ByteChannel
from hypervisor.device.board import Clock, Control, GuestMemory

SUCCESS, NOT_SUPPORTED, INVALID_PARAM = 0, -2, -3
INVALID_ADDRESS, ALREADY_AVAILABLE, ALREADY_STARTED = -5, -6, -6

BASE, TIME, IPI, RFENCE = 0x10, 0x54494D45, 0x735049, 0x52464E43
HSM, SRST, DBCN = 0x48534D, 0x53525354, 0x4442434E
LEGACY = range(9)

SPECIFICATION_VERSION = 2 << 24
IMPLEMENTATION_ID = 0x7FFF
IMPLEMENTATION_VERSION = 1

_STARTED, _STOPPED = 0, 1
_PLATFORM_SUSPEND = 0x1000_0000
"""The first of the suspend types that are the platform's own."""
_NO_REASON, _SYSTEM_FAILURE = 0, 1
_NANOSECONDS_PER_TICK = 100
_NEVER_TICKS = 1 << 56
_CONSOLE_LIMIT = 1 << 16
_ALL_HARTS = (1 << 64) - 1

Answer = tuple[int, int]


class Sbi:
    """Answers ecalls from S-mode. One timer a hart; calls act before the hart goes on."""

    name = "sbi"

    def __init__(
        self,
        harts: Sequence[Hart],
        clock: Clock,
        memory: GuestMemory,
        console: ByteChannel,
        control: Control,
    ) -> None:
        self._harts = harts
        self._clock = clock
        self._memory = memory
        self._console = console
        self._control = control
        self._timers = [
            clock.timer(f"sbi.timer{hart.index}", self._timer_line(hart, True)) for hart in harts
        ]
        self._extensions: dict[int, Callable[[Hart, int, Sequence[int]], Answer]] = {
            BASE: self._base,
            TIME: self._time,
            IPI: self._ipi,
            RFENCE: self._rfence,
            HSM: self._hsm,
            SRST: self._srst,
            DBCN: self._dbcn,
        }
        self.calls: dict[str, int] = {}
        """How often each extension was called, by name."""

    def reset(self) -> None:
        for hart in self._harts:
            self._quiet(hart)

    def _quiet(self, hart: Hart) -> None:
        """No timer interrupt, pending or to come."""
        self._timers[hart.index].cancel()
        hart.interrupt(STIP).set(False)

    def pending(self, hart: Hart) -> tuple[str, int]:
        """The extension and the function's number within it."""
        *_, function, extension = hart.registers.arguments()
        handler = self._extensions.get(extension)
        if handler is not None:
            return handler.__name__.strip("_"), function
        return ("legacy", extension) if extension in LEGACY else (f"{extension:#x}", function)

    def call(self, hart: Hart) -> None:
        """Answer the ecall `hart` stands at, and step over it."""
        registers = hart.registers
        *arguments, function, extension = registers.arguments()
        hart.step_over(4)
        if extension in LEGACY:
            registers["a0"] = self._legacy(hart, extension, arguments)
            return
        handler = self._extensions.get(extension)
        if handler is None:
            error, value = NOT_SUPPORTED, 0
        else:
            self._count(handler.__name__.strip("_"))
            error, value = handler(hart, function, arguments)
        if (extension, function) == (HSM, 1) and error == SUCCESS:
            return  # the hart has stopped; its registers are the next start's
        registers["a0"] = error
        registers["a1"] = value

    def _count(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1

    def _timer_line(self, hart: Hart, level: bool) -> Callable[[], None]:
        return lambda: hart.interrupt(STIP).set(level)

    # -- extensions -----------------------------------------------------------------------

    def _base(self, hart: Hart, function: int, a: Sequence[int]) -> Answer:
        answers = {
            0: SPECIFICATION_VERSION,
            1: IMPLEMENTATION_ID,
            2: IMPLEMENTATION_VERSION,
            3: int(a[0] in self._extensions or a[0] in LEGACY),
            4: 0,
            5: 0,
            6: 0,
        }
        if function not in answers:
            return NOT_SUPPORTED, 0
        return SUCCESS, answers[function]

    def _time(self, hart: Hart, function: int, a: Sequence[int]) -> Answer:
        if function != 0:
            return NOT_SUPPORTED, 0
        self._quiet(hart)
        if a[0] < _NEVER_TICKS:
            self._timers[hart.index].arm(a[0] * _NANOSECONDS_PER_TICK)
        return SUCCESS, 0

    def _ipi(self, hart: Hart, function: int, a: Sequence[int]) -> Answer:
        targets = self._targets(a[0], a[1])
        if function != 0:
            return NOT_SUPPORTED, 0
        if targets is None:
            return INVALID_PARAM, 0
        for target in targets:
            target.set_pending(SSIP, True)
        return SUCCESS, 0

    def _rfence(self, hart: Hart, function: int, a: Sequence[int]) -> Answer:
        if function > 2:  # 3-6 are for the hypervisor extension
            return NOT_SUPPORTED, 0
        targets = self._targets(a[0], a[1])
        if targets is None:
            return INVALID_PARAM, 0
        for target in targets:
            if function == 0:
                target.synchronize_code()
            else:
                target.flush_tlb()
        return SUCCESS, 0

    def _hsm(self, hart: Hart, function: int, a: Sequence[int]) -> Answer:
        if function == 1:
            hart.stop()
            self._quiet(hart)
            return SUCCESS, 0
        if function == 3:
            return self._suspend(hart, a)
        if function not in (0, 2):
            return NOT_SUPPORTED, 0
        if a[0] >= len(self._harts):
            return INVALID_PARAM, 0
        target = self._harts[a[0]]
        if function == 2:
            return SUCCESS, _STOPPED if target.stopped else _STARTED
        if not target.stopped:
            return ALREADY_AVAILABLE, 0
        if not self._memory.contains(a[1], 4):
            return INVALID_ADDRESS, 0
        for other in self._harts:
            other.watch_code()  # one hart's stores leave stale code in another's engine
        target.begin_supervisor(a[1], a[2])
        return SUCCESS, 0

    def _suspend(self, hart: Hart, a: Sequence[int]) -> Answer:
        kind = a[0] & 0xFFFF_FFFF
        if kind == 0:  # default retentive: a WFI
            hart.waiting = True
            return SUCCESS, 0
        is_reserved = 0 < kind & 0x7FFF_FFFF < _PLATFORM_SUSPEND
        return (INVALID_PARAM if is_reserved else NOT_SUPPORTED), 0

    def _srst(self, hart: Hart, function: int, a: Sequence[int]) -> Answer:
        if function != 0:
            return NOT_SUPPORTED, 0
        kind, reason = a[0] & 0xFFFF_FFFF, a[1] & 0xFFFF_FFFF
        if reason not in (_NO_REASON, _SYSTEM_FAILURE) or kind > 2:
            return INVALID_PARAM, 0
        if kind == 0:
            self._control.request_power_off(reason)
        else:
            self._control.request_reset()
        return SUCCESS, 0

    def _dbcn(self, hart: Hart, function: int, a: Sequence[int]) -> Answer:
        length = min(a[0], _CONSOLE_LIMIT)
        address = a[1] | a[2] << 64
        if function in (0, 1) and not self._memory.contains(address, a[0]):
            return INVALID_PARAM, 0
        if function == 0:
            self._console.write(self._memory.read(address, length))
            return SUCCESS, length
        if function == 1:
            data = self._console.read(length)
            self._memory.write(address, data)
            return SUCCESS, len(data)
        if function == 2:
            self._console.write(bytes([a[0] & 0xFF]))
            return SUCCESS, 0
        return NOT_SUPPORTED, 0

    def _legacy(self, hart: Hart, extension: int, a: Sequence[int]) -> int:
        self._count("legacy")
        if extension == 0:
            self._time(hart, 0, a)
        elif extension == 1:
            self._console.write(bytes([a[0] & 0xFF]))
        elif extension == 2:
            data = self._console.read(1)
            return data[0] if data else -1
        elif extension == 3:
            hart.set_pending(SSIP, False)
        elif extension == 8:
            self._control.request_power_off(0)
        else:
            return self._legacy_mask(hart, extension, a)
        return 0

    def _legacy_mask(self, hart: Hart, extension: int, a: Sequence[int]) -> int:
        """Calls 4-7 take the virtual address of a hart mask; 0 means all harts."""
        mask, base = 0, _ALL_HARTS
        if a[0]:
            data = hart.read_virtual(a[0], 8, LOAD)
            if data is None:
                return INVALID_ADDRESS
            mask, base = int.from_bytes(data, "little"), 0
        if extension == 4:
            return self._ipi(hart, 0, [mask, base])[0]
        return self._rfence(hart, extension - 5, [mask, base])[0]

    # -- helpers --------------------------------------------------------------------------

    def _targets(self, mask: int, base: int) -> list[Hart] | None:
        """The started harts of a hart mask; None when it names one that does not exist."""
        if base == _ALL_HARTS:
            return [hart for hart in self._harts if not hart.stopped]
        named = [base + bit for bit in range(64) if mask >> bit & 1]
        if any(index >= len(self._harts) for index in named):
            return None
        return [self._harts[index] for index in named if not self._harts[index].stopped]

    def save(self) -> dict[str, Any]:
        return {"calls": dict(self.calls)}

    def load(self, state: dict[str, Any]) -> None:
        self.calls = dict(state["calls"])
