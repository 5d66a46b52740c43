"""How runs end: what the guest did, in a sentence, with the hart to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.cpu.hart import Hart
from hypervisor.outcome import Outcome
from hypervisor.report import describe_hart

if TYPE_CHECKING:
    from hypervisor.machine import Machine

PANIC = b"Kernel panic - not syncing"
_PANIC_PRINTS = 50_000_000
"""ns from a panic's first line to its end."""


class Endings:
    """Notices what ends a run, and says so."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._pending: Outcome | None = None
        self._panic = machine.clock.timer("panic", self._end_panic)
        machine.console.watch(PANIC, self._panicked)

    def reset(self) -> None:
        self._panic.cancel()

    def forget(self) -> None:
        self._pending = None

    def take(self) -> Outcome | None:
        """What was noted since the last time."""
        outcome, self._pending = self._pending, None
        return outcome

    def note(self, outcome: Outcome, *, unless_ending: bool = False) -> None:
        """End the run at the next safe point. `unless_ending`: what else ends it goes before."""
        if self._pending is None or not unless_ending:
            self._pending = outcome
            self._machine.kick()

    def fail(self, hart: Hart, sentence: str) -> None:
        self.note(Outcome("failed", sentence, 1, self._describe(hart)))

    def no_handler(self, hart: Hart) -> None:
        """A trap's handler traps at its own first instruction."""
        cause = hart.last_trap or "of an unknown cause"
        self.fail(hart, f"hart {hart.index} took a trap with no handler: {cause}")

    def hang(self) -> None:
        sentence = "the guest hangs: all harts wait, nothing is pending and no input is to come"
        self.fail(self._machine.cpu[0], sentence)

    def powered_off(self, code: int) -> Outcome:
        step = self._machine.console.script_pending
        if step is not None:
            text = step.text.decode(errors="replace")
            sentence = f"the guest powered off before it printed '{text}'"
        elif code:
            sentence = f"the guest powered off with failure code {code}"
        else:
            return Outcome("power-off", "the guest powered off")
        return Outcome("failed", sentence, 1, self._describe(self._machine.turns.present))

    def timed_out(self, seconds: float | None) -> Outcome:
        step = self._machine.console.script_pending
        waiting = f", before '{step.text.decode(errors='replace')}' was printed" if step else ""
        hart = self._machine.turns.present
        return Outcome(
            "timeout", f"{seconds:g} seconds ran out{waiting}", 124, self._describe(hart)
        )

    def _describe(self, hart: Hart) -> str:
        return describe_hart(hart, self._machine.programs)

    def _panicked(self) -> None:
        # The panic's own text is still being printed: end a little later, when it is complete.
        self._panic.arm(self._machine.clock.now() + _PANIC_PRINTS)

    def _end_panic(self) -> None:
        self.fail(self._machine.turns.present, "the guest's kernel panicked")
