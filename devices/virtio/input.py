"""Virtio keyboard and tablet.

Follows VIRTIO 1.2, section 5.8, "Input Device". What is typed and pointed comes from the machine's
`seat`, for instance from a VNC client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from struct import Struct
from typing import Any, Literal

from pydantic import Field

from hypervisor.device import Board, Options, Register
from hypervisor.device.seat import POINTER_RANGE
from hypervisor.device.virtio import CONFIG, VirtioDevice

MAX_WAITING = 1024
"""Events that wait for buffers of the guest; only keys that come up are kept beyond."""

ID_NAME, ID_SERIAL, ID_DEVIDS, PROP_BITS, EV_BITS, ABS_INFO = 0x01, 0x02, 0x03, 0x10, 0x11, 0x12

# Linux's input-event-codes.h, which the specification refers to.
EV_SYN, EV_KEY, EV_REL, EV_ABS, EV_LED, EV_REP = 0x00, 0x01, 0x02, 0x03, 0x11, 0x14
SYN_REPORT = 0
REL_WHEEL = 8
ABS_X, ABS_Y = 0, 1
LAST_KEY = 248
BUTTONS = (0x110, 0x112, 0x111)
"""Left, middle, right: BTN_LEFT, BTN_MIDDLE, BTN_RIGHT."""
_WHEEL = ((1 << 3, 1), (1 << 4, -1))
_LEDS = range(3)

_EVENT = Struct("<HHi")
_ABSINFO = Struct("<5I")
_DEVIDS = Struct("<4H")
_BUS_VIRTUAL = 0x06
_EVENTQ, _STATUSQ = 0, 1

Event = tuple[int, int, int]
"""Type, code, value."""


def _bits(numbers: Iterable[int]) -> bytes:
    """A bitmap with these bits set, as many bytes as it takes."""
    value = 0
    for number in numbers:
        value |= 1 << number
    return value.to_bytes(-(-value.bit_length() // 8), "little")


class VirtioInputOptions(Options):
    kind: Literal["keyboard", "tablet"] = Field(
        default="keyboard", description="a keyboard, or a pointer that is where one points"
    )


class VirtioInput(VirtioDevice):
    """A keyboard, or a tablet: a pointer that is where one points, with buttons and a wheel."""

    Options = VirtioInputOptions
    type = "virtio.input"
    summary = "virtio keyboard or tablet"
    device_id = 18
    queue_names = ("eventq", "statusq")
    queue_size = 64

    select = Register(CONFIG + 0x0, size=1, doc="what `data` tells of")
    subsel = Register(CONFIG + 0x1, size=1, doc="of which kind of events, or axis")
    size = Register(CONFIG + 0x2, size=1, access="ro", doc="bytes of `data`")
    data = Register(CONFIG + 0x8, size=1, count=128, access="ro", doc="what was selected")

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self._waiting: deque[Event] = deque()
        self._down: set[int] = set()
        """Keys and buttons that the guest was told, or will be, are down."""
        if options.kind == "keyboard":
            self._facts = self._keyboard_facts()
            board.seat.keyboards.append(self._key)
        else:
            self._facts = self._tablet_facts()
            board.seat.pointers.append(self._point)
        self._facts[ID_NAME, 0] = f"Hypervisor {options.kind}".encode()
        self._facts[ID_SERIAL, 0] = name.encode()[:64]

    @staticmethod
    def _keyboard_facts() -> dict[tuple[int, int], bytes]:
        return {
            (ID_DEVIDS, 0): _DEVIDS.pack(_BUS_VIRTUAL, 0x5048, 1, 1),
            (EV_BITS, EV_KEY): _bits(range(1, LAST_KEY + 1)),
            (EV_BITS, EV_LED): _bits(_LEDS),
            (EV_BITS, EV_REP): _bits((0, 1)),
        }

    @staticmethod
    def _tablet_facts() -> dict[tuple[int, int], bytes]:
        axis = _ABSINFO.pack(0, POINTER_RANGE, 0, 0, 0)
        return {
            (ID_DEVIDS, 0): _DEVIDS.pack(_BUS_VIRTUAL, 0x5048, 2, 1),
            (EV_BITS, EV_KEY): _bits(BUTTONS),
            (EV_BITS, EV_REL): _bits((REL_WHEEL,)),
            (EV_BITS, EV_ABS): _bits((ABS_X, ABS_Y)),
            (ABS_INFO, ABS_X): axis,
            (ABS_INFO, ABS_Y): axis,
        }

    def reset(self) -> None:
        super().reset()
        self._waiting.clear()
        self._down.clear()

    def on_queue_reset(self, index: int) -> None:
        if index == _EVENTQ:
            self._waiting.clear()
            self._down.clear()

    def on_queue(self, index: int) -> None:
        if index == _EVENTQ:
            self._deliver()
        else:
            for chain in self.chains(_STATUSQ):  # lights, of which there are none
                self.complete(chain, 0)

    # -- configuration ------------------------------------------------------------------------

    def _fact(self) -> bytes:
        return self._facts.get((self.select, self.subsel), b"")

    @size.on_read
    def _read_size(self) -> int:
        return len(self._fact())

    @data.on_read
    def _read_data(self, index: int) -> int:
        fact = self._fact()
        return fact[index] if index < len(fact) else 0

    # -- events -------------------------------------------------------------------------------

    def _key(self, code: int, down: bool) -> None:
        """A key of the keyboard, from the machine's seat."""
        if 0 < code <= LAST_KEY:
            self._report(self._press(code, down))

    def _point(self, x: int, y: int, buttons: int) -> None:
        events = [(EV_ABS, ABS_X, x), (EV_ABS, ABS_Y, y)]
        for bit, code in enumerate(BUTTONS):
            events += self._press(code, bool(buttons >> bit & 1))
        events += [(EV_REL, REL_WHEEL, step) for bit, step in _WHEEL if buttons & bit]
        self._report(events)

    def _press(self, code: int, down: bool) -> list[Event]:
        if down == (code in self._down):
            return []
        return [(EV_KEY, code, int(down))]

    def _report(self, events: list[Event]) -> None:
        if not self.running:
            return
        if len(self._waiting) >= MAX_WAITING:
            events = [event for event in events if event[0] == EV_KEY and not event[2]]
        for kind, code, value in events:
            if kind == EV_KEY:
                (self._down.add if value else self._down.discard)(code)
        if events:
            self._waiting.extend([*events, (EV_SYN, SYN_REPORT, 0)])
            self._deliver()

    def _deliver(self) -> None:
        for _ in range(self.queues[_EVENTQ].size):
            if not self._waiting:
                return
            chain = self.pop(_EVENTQ)
            if chain is None:
                return
            self.complete(chain, chain.write(_EVENT.pack(*self._waiting.popleft())))

    # -- snapshots ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return {
            **super().save(),
            "waiting": [list(event) for event in self._waiting],
            "down": sorted(self._down),
        }

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        waiting = state["waiting"][: 4 * MAX_WAITING]
        self._waiting = deque((int(kind), int(code), int(value)) for kind, code, value in waiting)
        self._down = {int(code) for code in state["down"]}
