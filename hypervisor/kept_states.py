"""The states of a running machine that its history keeps: the longer ago, the fewer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cbor2

from hypervisor import state as machine_state
from hypervisor.pages import PageStore, Slots, StoreFull

if TYPE_CHECKING:
    from hypervisor.machine import Machine

OVERHEAD = 256 << 20
"""Bytes of all that states hold but for pages, at most."""
LEAST_SECONDS = 0.25
"""Of host time between two states."""
SHARE = 12
"""States take one part in so many of the host's time."""


class HistoryError(Exception):
    """The machine cannot be taken there, or no state of it be kept: one sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """The machine at a safe point."""

    units: int
    cursor: int
    """How many inputs had come in."""
    slots: Slots
    rest: bytes


class KeptStates:
    """Of `machine`, in the order of their time. `store`: bytes of pages at most. `is_recorded`: the
    inputs are kept anyway, and count for nothing."""

    def __init__(self, machine: Machine, store: int, *, is_recorded: bool) -> None:
        self._machine = machine
        self._pages = PageStore(machine.memory, store)
        self._states: list[State] = []
        self._is_recorded = is_recorded
        self._due = 0.0

    def close(self) -> None:
        self._pages.close()

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[State]:
        """The present ones, the first first."""
        return iter([*self._states])

    def __contains__(self, state: State) -> bool:
        return state in self._states

    @property
    def first(self) -> State:
        return self._states[0]

    @property
    def size(self) -> int:
        """Bytes of memory that they take."""
        return self._pages.used + self._overhead

    @property
    def _overhead(self) -> int:
        states = sum(len(state.rest) + state.slots.nbytes for state in self._states)
        return states + self._log_size

    @property
    def _log_size(self) -> int:
        """What of the inputs is kept for the states alone."""
        return 0 if self._is_recorded else self._machine.inputs.log_size

    def nearest(self, units: int) -> State:
        """The last state at or before a clock."""
        earlier = [state for state in self._states if state.units <= units]
        return earlier[-1] if earlier else self._states[0]

    def glance(self) -> None:
        """At a safe point of a run: keep a state now and then."""
        is_later = self._machine.clock.cell.units > self._states[-1].units
        if is_later and time.monotonic() >= self._due:
            try:
                self.keep()
            except HistoryError as error:
                self._machine.log(f"{error}: no more are kept")
                self._due = math.inf

    def keep(self) -> None:
        """The machine as it stands. HistoryError where there is no room for a second one."""
        machine = self._machine
        began = time.monotonic()
        rest = cbor2.dumps(machine_state.save(machine))
        while True:
            try:
                slots = self._pages.capture()
                break
            except StoreFull:
                self._thin_out()
        state = State(machine.clock.cell.units, machine.inputs.position, slots, rest)
        self._states.append(state)
        self._states.sort(key=lambda each: each.units)
        while len(self._states) > 2 and self._log_size > OVERHEAD // 2:
            self._forget_first()
        while len(self._states) > 2 and self._overhead > OVERHEAD:
            self._thin_out()
        now = time.monotonic()
        self._due = now + max(LEAST_SECONDS, SHARE * (now - began))

    def restore(self, state: State) -> None:
        machine = self._machine
        machine.host.forget()
        self._pages.restore(state.slots)
        machine_state.load(machine, cbor2.loads(state.rest))
        machine.inputs.go_back(state.cursor, None)

    def start_anew(self) -> None:
        """Keep the machine as it stands, and nothing from before."""
        states, self._states = self._states, []
        for state in states:
            self._pages.drop(state.slots)
        self.keep()
        self._machine.inputs.trim(self.first.cursor)

    def drop_after(self, units: int) -> None:
        for state in [each for each in self._states if each.units > units]:
            self._states.remove(state)
            self._pages.drop(state.slots)

    def _thin_out(self) -> None:
        """Drop the state whose loss is felt least: the longer ago, the fewer are kept."""
        now = self._machine.clock.cell.units
        states = self._states
        inner = range(1, len(states) - 1)
        if not inner:
            raise HistoryError("the store for a history is too small for two states")

        def loss(n: int) -> float:
            gap = states[n + 1].units - states[n - 1].units
            return gap / (abs(now - states[n].units) + 1)

        self._pages.drop(states.pop(min(inner, key=loss)).slots)

    def _forget_first(self) -> None:
        """So much has come in that it cannot all be kept: the history begins later."""
        self._pages.drop(self._states.pop(0).slots)
        self._machine.inputs.trim(self._states[0].cursor)
