"""The GICv2 against a model of the specification's words (ARM IHI 0048B.b, chapter 3): one object
for each interrupt, one stack for each hart, everything worked out anew at each step."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from devices.interrupt.gicv2 import Gicv2
from hypervisor.device.testing import Bench
from tests.effort import effort

HARTS = 2
SOFTWARE, PRIVATE, SHARED = (1, 15), (16, 27), (32, 33, 63, 64)
SPURIOUS = 1023
ENABLE, DISABLE, PEND, UNPEND, ACTIVE = 0x100, 0x180, 0x200, 0x280, 0x300
PRIORITY, TARGETS, CONFIG, SGIR = 0x400, 0x800, 0xC00, 0xF00
GICC_CTLR, PMR, IAR, EOIR, RPR = (0x1_0000 + n for n in (0x00, 0x04, 0x0C, 0x10, 0x14))

hart = st.integers(0, HARTS - 1)
shared = st.sampled_from(SHARED)
wired = st.sampled_from(PRIVATE + SHARED)
priority = st.sampled_from((0x00, 0x08, 0x80, 0x88, 0xF8))


@dataclass
class Interrupt:
    number: int
    enabled: bool = False
    edge: bool = False
    level: bool = False
    latched: bool = False
    active: bool = False
    priority: int = 0
    targets: set[int] = field(default_factory=set)
    senders: set[int] = field(default_factory=set)

    @property
    def pending(self) -> bool:
        return self.latched or bool(self.senders) or (self.level and not self.edge)


class GicMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(harts=HARTS)
        self.gic: Gicv2 = self.bench.build(Gicv2, "gic", sources=95)
        self.masks = [0] * HARTS
        self.running: list[list[tuple[int, int]]] = [[] for _ in range(HARTS)]
        """For each hart what was acknowledged and not ended: (ID with sender, priority)."""
        common = {number: Interrupt(number) for number in SHARED}
        self.seen = [
            {n: Interrupt(n, enabled=n < 16, targets={h}) for n in SOFTWARE + PRIVATE} | common
            for h in range(HARTS)
        ]
        self.write(0, 0, 1)
        for index in range(HARTS):
            self.write(index, GICC_CTLR, 1)
            self.mask(index, 0xF8)
            for place, number in enumerate(PRIVATE + SHARED):
                self.enable(index, number, True)
                self.prioritise(index, number, 0x88 if place % 2 else 0x08)
        for number in SHARED:
            self.target(0, number, {0, 1})

    def write(self, hart: int, offset: int, value: int, size: int = 4) -> None:
        self.bench.hart = hart
        self.gic.write(offset, size, value)

    def read(self, hart: int, offset: int) -> int:
        self.bench.hart = hart
        return self.gic.read(offset, 4)

    def write_bit(self, hart: int, register: int, number: int) -> None:
        self.write(hart, register + number // 32 * 4, 1 << number % 32)

    def expected(self, hart: int) -> Interrupt | None:
        """What interrupts a hart."""
        waiting = [
            each
            for each in self.seen[hart].values()
            if each.enabled and each.pending and not each.active and hart in each.targets
        ]
        first = min(waiting, key=lambda each: (each.priority, each.number), default=None)
        limit = min([self.masks[hart], *(priority for _, priority in self.running[hart])])
        return first if first is not None and first.priority < limit else None

    @rule(hart=hart, number=wired, level=st.booleans())
    def drive(self, hart: int, number: int, level: bool) -> None:
        is_shared = number in SHARED
        gic = self.gic
        (gic.input(number) if is_shared else gic.private_input(hart, number)).set(level)
        interrupt = self.seen[hart][number]
        rose = level and not interrupt.level
        interrupt.level = level
        interrupt.latched |= interrupt.edge and rose

    @rule(hart=hart, number=wired, enable=st.booleans())
    def enable(self, hart: int, number: int, enable: bool) -> None:
        self.write_bit(hart, ENABLE if enable else DISABLE, number)
        self.seen[hart][number].enabled = enable

    @rule(hart=hart, number=wired, pend=st.booleans())
    def pend(self, hart: int, number: int, pend: bool) -> None:
        self.write_bit(hart, PEND if pend else UNPEND, number)
        self.seen[hart][number].latched = pend

    @rule(hart=hart, number=st.sampled_from(SOFTWARE + PRIVATE + SHARED), priority=priority)
    def prioritise(self, hart: int, number: int, priority: int) -> None:
        self.write(hart, PRIORITY + number, priority, size=1)
        self.seen[hart][number].priority = priority

    @rule(hart=hart, number=shared, harts=st.sets(hart))
    def target(self, hart: int, number: int, harts: set[int]) -> None:
        self.write(hart, TARGETS + number, sum(1 << each for each in harts), size=1)
        self.seen[hart][number].targets = harts

    @rule(number=shared, edge=st.booleans())
    def configure(self, number: int, edge: bool) -> None:
        bit = 2 << number % 16 * 2
        word = CONFIG + number // 16 * 4
        others = self.read(0, word) & ~bit
        self.write(0, word, others | bit * edge)
        self.seen[0][number].edge = edge

    @rule(hart=hart, mask=priority)
    def mask(self, hart: int, mask: int) -> None:
        self.write(hart, PMR, mask)
        self.masks[hart] = mask

    @rule(sender=hart, number=st.sampled_from(SOFTWARE), harts=st.sets(hart))
    def send(self, sender: int, number: int, harts: set[int]) -> None:
        self.write(sender, SGIR, sum(1 << each for each in harts) << 16 | number)
        for each in harts:
            self.seen[each][number].senders.add(sender)

    @rule(hart=hart)
    def acknowledge(self, hart: int) -> None:
        interrupt = self.expected(hart) or Interrupt(SPURIOUS)
        sender = min(interrupt.senders, default=0)
        interrupt.senders.discard(sender)
        interrupt.latched = False
        interrupt.active = True
        name = sender << 10 | interrupt.number
        taken = [(name, interrupt.priority)] * (interrupt.number != SPURIOUS)
        self.running[hart] += taken

        assert self.read(hart, IAR) == name

    @rule(hart=hart, number=wired)
    def interrupt(self, hart: int, number: int) -> None:
        """Oftener than by chance: so that handlers are interrupted, too."""
        self.pend(hart, number, True)
        self.acknowledge(hart)

    @precondition(lambda self: any(self.running))
    @rule(hart=hart)
    def end(self, hart: int) -> None:
        for name, _ in self.running[hart][-1:]:
            self.write(hart, EOIR, name)
            self.seen[hart][name & 0x3FF].active = False
        del self.running[hart][-1:]

    @invariant()
    def outputs_are_those_of_the_model(self) -> None:
        levels = [self.bench.harts[index].interrupt(0).level for index in range(HARTS)]

        assert levels == [self.expected(index) is not None for index in range(HARTS)]

    @invariant()
    def registers_show_the_model(self) -> None:
        for index in range(HARTS):
            for register, name in ((PEND, "pending"), (ACTIVE, "active"), (ENABLE, "enabled")):
                shown = {
                    number
                    for number in SOFTWARE + PRIVATE + SHARED
                    if self.read(index, register + number // 32 * 4) >> number % 32 & 1
                }
                assert shown == {n for n, i in self.seen[index].items() if getattr(i, name)}
            lowest = min((priority for _, priority in self.running[index]), default=0xFF)
            assert self.read(index, RPR) == lowest


TestGicMachine = GicMachine.TestCase
TestGicMachine.settings = settings(
    max_examples=effort(20, 1_000), stateful_step_count=50, deadline=None
)
