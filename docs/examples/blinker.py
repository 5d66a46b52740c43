"""A light that blinks, counts its blinks, and interrupts at each."""

from hypervisor.device import Device, Register


class Blinker(Device):
    type = "blinker"
    summary = "A light that blinks"
    compatible = ("example,blinker",)

    CONTROL = Register(0x0, writable=1, fields={"ENABLE": 0}, doc="1: blink")
    PERIOD = Register(0x4, reset=500, doc="milliseconds from blink to blink")
    COUNT = Register(0x8, access="ro", doc="blinks so far")
    STATUS = Register(0xC, writable=0, w1c=1, fields={"BLINKED": 0}, doc="write 1 to clear")

    def __init__(self, name, options, board):
        super().__init__(name, options, board)
        self.next_blink = self.timer("blink", self.blink)

    @CONTROL.on_write
    def control_written(self, value):
        self.arm() if self.CONTROL else self.next_blink.cancel()

    @STATUS.on_write
    def status_written(self, value):
        self.irq.set(self.STATUS == 1)

    def arm(self):
        self.next_blink.arm(self.clock.now() + max(self.PERIOD, 1) * 1_000_000)

    def blink(self):
        self.COUNT += 1
        self.STATUS = 1
        self.irq.set(True)
        self.arm()
