"""The distributor of a GIC: the state of every interrupt, and which is the most urgent.

Follows ARM IHI 0048B.b, sections 2.2 (interrupt types), 3.2 (state machine) and 4.3.

An interrupt's number is its ID: 0 to 15 are software-generated (SGI), 16 to 31 private inputs of
each hart (PPI), from 32 on inputs shared by all (SPI). Inside, every private interrupt of every
hart is a *source* of its own, so that a set of sources is one integer, and hart h's interrupts
are in the order of their IDs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_HARTS = 8
LAST_NUMBER = 1019
_PRIVATE = 32
_SHARED_BASE = MAX_HARTS * _PRIVATE - _PRIVATE
_SOURCES = _SHARED_BASE + LAST_NUMBER + 1
_SGIS = 16
_WORD = 0xFFFF_FFFF


def source_of(number: int, hart: int) -> int:
    """The source that `hart` knows as interrupt `number`."""
    return number + _SHARED_BASE if number >= _PRIVATE else hart * _PRIVATE + number


def number_of(source: int) -> int:
    shared = source - _SHARED_BASE
    return shared if shared >= _PRIVATE else source % _PRIVATE


@dataclass
class Distributor:
    """Sets of sources are integers with bit n for source n."""

    harts: int
    last: int
    """The highest interrupt number."""
    high: int = 0
    """Inputs that are high now."""
    latched: int = 0
    """Made pending by an edge or by software, and not acknowledged yet."""
    active: int = 0
    enabled: int = 0
    group1: int = 0
    edge: int = 0
    """Sources that a rising edge makes pending, rather than a high level."""
    priorities: bytes = b""
    """One byte a source."""
    senders: bytes = b""
    """16 bytes a hart: the set of harts from which each SGI is pending."""
    visible: list[int] = field(default_factory=list)
    """For each hart the sources that it may be interrupted by."""
    implemented: int = 0
    fixed_sgis: bool = True
    """SGIs are always enabled."""

    def __post_init__(self) -> None:
        shared = (1 << self.last + 1) - (1 << _PRIVATE)
        self._shared = shared << _SHARED_BASE
        self._private = [_WORD << source_of(0, hart) for hart in range(self.harts)]
        self._sgis = sum(0xFFFF << source_of(0, hart) for hart in range(self.harts))
        self.implemented = self._shared | sum(self._private)
        self.reset()

    def reset(self) -> None:
        """Power-on, with the inputs as they are. SGIs are edge-triggered."""
        self.latched = self.active = self.group1 = 0
        self.edge = self._sgis
        self.enabled = self._sgis if self.fixed_sgis else 0
        self.priorities = bytes(_SOURCES)
        self.senders = bytes(_SGIS * self.harts)
        self.visible = list(self._private)
        if self.harts == 1:
            self.visible[0] |= self._shared

    def save(self) -> dict[str, Any]:
        return {name: _copy(getattr(self, name)) for name in _STATE}

    def load(self, state: dict[str, Any]) -> None:
        for name in _STATE:
            setattr(self, name, _copy(state[name]))

    # -- what happens ---------------------------------------------------------------------------

    def drive(self, bit: int, level: bool) -> None:
        """An input changed."""
        if not level:
            self.high &= ~bit
        elif not self.high & bit:
            self.high |= bit
            self.latched |= bit & self.edge

    @property
    def pending(self) -> int:
        return self.latched | self.high & ~self.edge

    @property
    def ready(self) -> int:
        """Sources that some hart should take."""
        return self.pending & self.enabled & ~self.active

    def most_urgent(self, hart: int, groups: int) -> int | None:
        """The source that `hart` should take next: of the highest priority, then the lowest
        number. `groups`: bit 0 admits group 0, bit 1 group 1."""
        candidates = self.ready & self.visible[hart]
        if not groups & 1:
            candidates &= self.group1
        if not groups & 2:
            candidates &= ~self.group1
        best, urgency = None, 256
        while candidates:
            bit = candidates & -candidates
            candidates ^= bit
            source = bit.bit_length() - 1
            if self.priorities[source] < urgency:
                best, urgency = source, self.priorities[source]
        return best

    def sender_of(self, source: int) -> int:
        """The hart whose SGI is acknowledged next; 0 for what is no SGI."""
        senders = self._senders(source)
        return (senders & -senders).bit_length() - 1 if senders else 0

    def acknowledge(self, source: int) -> None:
        """From pending to active. A level that stays high, and an SGI from another hart, are
        pending again at once."""
        bit = 1 << source
        self.active |= bit
        if self._sgis & bit:
            self.set_senders(source, self._senders(source) & ~(1 << self.sender_of(source)))
        else:
            self.latched &= ~bit

    # -- what software sets ---------------------------------------------------------------------

    def set_enabled(self, bits: int, enable: bool) -> None:
        bits &= self.implemented
        if self.fixed_sgis:
            bits &= ~self._sgis
        self.enabled = self.enabled | bits if enable else self.enabled & ~bits

    def set_pending(self, bits: int, pend: bool) -> None:
        """SGIs are made pending by `set_senders` alone (section 4.3.7)."""
        bits &= self.implemented & ~self._sgis
        self.latched = self.latched | bits if pend else self.latched & ~bits

    def set_active(self, bits: int, activate: bool) -> None:
        bits &= self.implemented
        self.active = self.active | bits if activate else self.active & ~bits

    def set_priority(self, source: int, priority: int) -> None:
        if self.implemented >> source & 1:
            old = self.priorities
            self.priorities = old[:source] + bytes((priority,)) + old[source + 1 :]

    def targets(self, source: int) -> int:
        """The set of harts that a source may interrupt."""
        return sum((seen >> source & 1) << hart for hart, seen in enumerate(self.visible))

    def set_targets(self, source: int, harts: int) -> None:
        """Of a shared source. A lone hart takes everything (section 4.3.12)."""
        bit = 1 << source & self._shared
        if self.harts == 1:
            return
        for hart, seen in enumerate(self.visible):
            self.visible[hart] = seen | bit if harts >> hart & 1 else seen & ~bit

    def set_edge(self, bits: int, edge: int) -> None:
        """Of the shared sources in `bits`, those in `edge` are edge-triggered."""
        bits &= self._shared
        self.edge = self.edge & ~bits | edge & bits

    def senders_of(self, hart: int, number: int) -> int:
        return self.senders[_SGIS * hart + number]

    def set_senders(self, source: int, harts: int) -> None:
        hart, number = divmod(source, _PRIVATE)
        at = _SGIS * hart + number
        harts &= (1 << self.harts) - 1
        self.senders = self.senders[:at] + bytes((harts,)) + self.senders[at + 1 :]
        bit = 1 << source
        self.latched = self.latched | bit if harts else self.latched & ~bit

    def _senders(self, source: int) -> int:
        if not self._sgis >> source & 1:
            return 0
        return self.senders_of(*divmod(source, _PRIVATE))


_STATE = (
    *("high", "latched", "active", "enabled", "group1", "edge"),
    *("priorities", "senders", "visible"),
)


def _copy(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value
