"""Goldfish real-time clock, as Linux's rtc-goldfish drives it.

Follows the Android emulator's "Goldfish virtual hardware" document, section "Goldfish timer"
(device name goldfish_rtc): 64-bit times in ns since 1970, read and written in halves.
"""

from __future__ import annotations

from typing import Any

from hypervisor.device import Board, Device, Register

_LOW = 0xFFFF_FFFF
_TIME_MASK = (1 << 64) - 1
_END_OF_TIME = 1 << 63


class GoldfishRtc(Device):
    """Time of day with one alarm. The guest may set it; the machine's own clock stays as it is."""

    type = "goldfish.rtc"
    summary = "Goldfish real-time clock"
    compatible = ("google,goldfish-rtc",)
    state = ("offset", "running", "pending")

    TIME_LOW = Register(0x00, writable=0, doc="low half of the time; reading latches the high half")
    TIME_HIGH = Register(0x04, writable=0, doc="high half of the time as of reading the low half")
    ALARM_LOW = Register(0x08, doc="low half of the alarm; writing arms it")
    ALARM_HIGH = Register(0x0C, doc="high half of the alarm, written first")
    IRQ_ENABLED = Register(0x10, writable=1, fields={"ENABLED": 0}, doc="let alarms interrupt")
    CLEAR_ALARM = Register(0x14, access="wo", writable=0, doc="any write disarms the alarm")
    ALARM_STATUS = Register(0x18, access="ro", fields={"RUNNING": 0}, doc="the alarm is armed")
    CLEAR_INTERRUPT = Register(0x1C, access="wo", writable=0, doc="any write lowers the interrupt")

    def __init__(self, name: str, options: Any, board: Board) -> None:
        super().__init__(name, options, board)
        self.offset = 0
        """What the guest's setting added to the machine's time, ns."""
        self.running = False
        self.pending = False
        self.alarm = self.timer("alarm", self._fire)

    def reset(self) -> None:
        super().reset()
        self.offset = 0
        self.running = False
        self.pending = False

    def time(self) -> int:
        """Guest's time of day, ns since 1970."""
        return (self.clock.epoch + self.clock.now() + self.offset) & _TIME_MASK

    @TIME_LOW.on_read
    def _read_low(self) -> int:
        now = self.time()
        self.TIME_HIGH = now >> 32
        return now & _LOW

    @TIME_LOW.on_write
    def _write_low(self, value: int) -> None:
        now = self.time()
        self.offset += (now & ~_LOW | value) - now
        self._arm()

    @TIME_HIGH.on_write
    def _write_high(self, value: int) -> None:
        # Half a new time is no time yet: the alarm looks at it once the low half follows.
        now = self.time()
        self.offset += (value << 32 | now & _LOW) - now

    @ALARM_LOW.on_write
    def _alarm_written(self, value: int) -> None:
        self.running = True
        self._arm()

    @IRQ_ENABLED.on_write
    def _enabled_written(self, value: int) -> None:
        self._update()

    @CLEAR_ALARM.on_write
    def _clear_alarm(self, value: int) -> None:
        self.running = False
        self.alarm.cancel()

    @ALARM_STATUS.on_read
    def _status(self) -> int:
        return int(self.running)

    @CLEAR_INTERRUPT.on_write
    def _clear_interrupt(self, value: int) -> None:
        self.pending = False
        self._update()

    def _arm(self) -> None:
        if not self.running:
            return
        wait = (self.ALARM_HIGH << 32 | self.ALARM_LOW) - self.time()
        if wait <= 0:
            self._fire()
        elif wait < _END_OF_TIME:
            self.alarm.arm(self.clock.now() + wait)
        else:
            self.alarm.cancel()

    def _fire(self) -> None:
        self.alarm.cancel()
        self.running = False
        self.pending = True
        self._update()

    def _update(self) -> None:
        self.irq.set(self.pending and self.IRQ_ENABLED == 1)
