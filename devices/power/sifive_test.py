"""SiFive test finisher: powers the machine off or resets it.

Follows the "sifive,test0" binding and the finisher codes of the SiFive test device: the low half
of the word is the command, the high half the exit code.
"""

from __future__ import annotations

from hypervisor.device import Device, Node, Ref, Register, Value

FAIL, PASS, RESET = 0x3333, 0x5555, 0x7777


class SifiveTest(Device):
    """One register; Linux reaches it through syscon-poweroff and syscon-reboot."""

    type = "sifive.test"
    summary = "SiFive test finisher: power-off and reset"
    compatible = ("sifive,test1", "sifive,test0", "syscon")

    FINISHER = Register(
        0x0,
        access="wo",
        writable=0,
        fields={"COMMAND": (15, 0), "CODE": (31, 16)},
        doc="0x5555 powers off, 0x3333 powers off with CODE, 0x7777 resets",
    )

    def node(self) -> Node:
        return Node(f"test@{self.options.at or 0:x}", {}, [], label=self.name)

    def extra_nodes(self) -> list[Node]:
        return [self._command("poweroff", PASS), self._command("reboot", RESET)]

    def _command(self, name: str, value: int) -> Node:
        properties: dict[str, Value] = {
            "compatible": f"syscon-{name}",
            "regmap": Ref(self.name),
            "offset": 0,
            "value": value,
        }
        return Node(name, properties, [])

    @FINISHER.on_write
    def _finish(self, value: int) -> None:
        command, code = value & 0xFFFF, value >> 16
        if command == PASS:
            self.board.control.request_power_off(0)
        elif command == FAIL:
            # A failure without a code must not look like success.
            self.board.control.request_power_off(code or 1)
        elif command == RESET:
            self.board.control.request_reset()
