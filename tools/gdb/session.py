"""What a GDB asks of a machine, command by command (GDB manual, appendix E).

Threads are harts: thread 1 is hart 0. Everything here runs on the machine's thread while the
machine is between two runs. A command that cannot be understood gets an empty or an error answer,
and does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hypervisor.outcome import Outcome
from hypervisor.stops import Access, Breakpoint, Stop, StopError, Watchpoint
from tools.gdb.memory import GuestMemory
from tools.gdb.packets import PACKET_SIZE
from tools.gdb.registers import Register, layout_of, read, write

if TYPE_CHECKING:
    from tools.control import Control

_OK, _UNKNOWN = b"OK", b""
_NOT_UNDERSTOOD, _NO_MEMORY, _NO_REGISTER, _NO_PLACE = b"E01", b"E0e", b"E03", b"E04"
_INTERRUPTED, _TRAP, _ABORTED = 2, 5, 6
_KINDS: dict[int, Access] = {2: "write", 3: "read", 4: "access"}
_WORDS = {"write": "watch", "read": "rwatch", "access": "awatch"}
_EDGES = {"beginning": b"replaylog:begin;", "replayed": b"replaylog:end;"}
_READ_LIMIT = PACKET_SIZE // 2 - 8

_FEATURES = (
    f"PacketSize={PACKET_SIZE:x};QStartNoAckMode+;qXfer:features:read+;qXfer:memory-map:read+;"
    "vContSupported+;swbreak+;hwbreak+;ReverseStep+;ReverseContinue+"
)


class Session:
    """One client's view of a machine. `send` takes a packet's contents."""

    def __init__(self, control: Control, send: Callable[[bytes], None]) -> None:
        self._control = control
        self._machine = control.machine
        self._send = send
        self._points: dict[tuple[int, int, int], Breakpoint | Watchpoint] = {}
        self._running = False
        self._interrupted = False
        self._physical = False
        self._hart = 0
        self._resumed = 0
        self._last: bytes = b"S05"
        self.no_acks = False
        """The client knows that nothing is lost on the way."""
        self.is_over = False
        self._commands: dict[str, Callable[[bytes], bytes | None]] = {
            "?": lambda _: self._last,
            "g": self._read_registers,
            "G": self._write_registers,
            "p": self._read_register,
            "P": self._write_register,
            "m": self._read_memory,
            "M": self._write_memory,
            "X": self._write_binary,
            "H": self._select,
            "T": self._is_alive,
            "Z": self._place,
            "z": self._remove,
            "c": lambda _: self._go(None),
            "C": lambda _: self._go(None),
            "s": lambda _: self._step(self._resumed, locked=False),
            "S": lambda _: self._step(self._resumed, locked=False),
            "v": self._verbose,
            "b": self._backwards,
            "q": self._query,
            "Q": self._set,
            "D": self._detach,
            "k": self._kill,
        }

    # -- from the control -------------------------------------------------------------------------

    def begin(self) -> None:
        """A client is there: the machine waits for it."""
        self._layout = layout_of(self._machine.description.cpu.arch, self._machine.cpu[0].registers)
        self._registers = self._layout.registers
        self._control.debuggers += 1
        self._control.on_pause.append(self._paused)
        self._control.pause()

    def close(self) -> None:
        """The client has gone, however: nothing of it is left, and the machine goes on."""
        if self.is_over:
            return
        self.is_over = True
        self._control.debuggers -= 1
        self._control.on_pause.remove(self._paused)
        for point in self._points.values():
            self._forget(point)
        self._points.clear()
        self._control.resume()

    def interrupt(self) -> None:
        """Ctrl-C at the client."""
        if self._running:
            self._interrupted = True
            self._control.pause()

    def ended(self, outcome: Outcome) -> None:
        """The machine is off."""
        if self._running:
            self._running = False
            self._send(b"W%02x" % (outcome.code & 0xFF))

    def _paused(self, outcome: Outcome) -> None:
        self._last = self._stop_reply(outcome)
        if self._running:
            self._running = False
            if outcome.kind == "failed":
                self._print(f"{outcome.sentence}\n{outcome.report}\n")
            self._send(self._last)

    def _stop_reply(self, outcome: Outcome) -> bytes:
        if outcome.stop is not None:
            self._hart = self._resumed = outcome.stop.hart
            return b"T%02xthread:%x;%s" % (_TRAP, self._hart + 1, self._why(outcome.stop))
        self._hart = self._resumed = self._machine.turns.index
        signal = _INTERRUPTED if self._interrupted else _TRAP
        if outcome.kind == "failed":
            signal = _ABORTED
        self._interrupted = False
        edge = _EDGES.get(outcome.kind, b"")
        return b"T%02xthread:%x;%s" % (signal, self._hart + 1, edge)

    def _why(self, stop: Stop) -> bytes:
        if stop.watchpoint is not None:
            point = stop.watchpoint
            address = max(point.address, point.address + stop.address - point.physical)
            return f"{_WORDS[point.kind]}:{address:x};".encode()
        if stop.breakpoint is None:
            return b""
        hard = any(point == stop.breakpoint and key[0] == 1 for key, point in self._points.items())
        return b"hwbreak:;" if hard else b"swbreak:;"

    def _print(self, text: str) -> None:
        """Show text at the client's console."""
        data = text.encode()
        for start in range(0, len(data), _READ_LIMIT // 2):
            self._send(b"O" + data[start : start + _READ_LIMIT // 2].hex().encode())

    # -- packets ----------------------------------------------------------------------------------

    def handle(self, packet: bytes) -> None:
        """Answer a packet. What is nonsense gets an error."""
        if self.is_over or not packet:
            return
        command = self._commands.get(chr(packet[0]))
        if command is None:
            self._send(_UNKNOWN)
            return
        if self._running:  # a client that does not wait for its answer: everything needs a pause
            return
        try:
            answer = command(packet[1:])
        except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
            answer = _NOT_UNDERSTOOD
        if answer is not None:
            self._send(answer)

    def _read_registers(self, _: bytes) -> bytes:
        values = self._machine.cpu[self._hart].registers
        parts = []
        for register in self._registers:
            data = read(register, values)
            parts.append(b"x" * (register.bits // 4) if data is None else data.hex().encode())
        return b"".join(parts)

    def _write_registers(self, body: bytes) -> bytes:
        data = bytes.fromhex(body.decode())
        at = 0
        for register in self._registers:
            size = register.bits // 8
            piece = data[at : at + size]
            at += size
            if len(piece) == size and piece != self._value(register):
                self._store(register, piece)
        self._machine.changed("registers")
        return _OK

    def _value(self, register: Register) -> bytes | None:
        return read(register, self._machine.cpu[self._hart].registers)

    def _store(self, register: Register, data: bytes) -> bool:
        hart = self._machine.cpu[self._hart]
        if register.name == "pc":
            if len(data) != 8:
                return False
            hart.pc = int.from_bytes(data, "little")
            return True
        return write(register, hart.registers, data)

    def _read_register(self, body: bytes) -> bytes:
        number = int(body, 16)
        if not 0 <= number < len(self._registers):
            return _NO_REGISTER
        register = self._registers[number]
        data = self._value(register)
        return b"x" * (register.bits // 4) if data is None else data.hex().encode()

    def _write_register(self, body: bytes) -> bytes:
        number, _, value = body.partition(b"=")
        index = int(number, 16)
        if not 0 <= index < len(self._registers):
            return _NO_REGISTER
        register = self._registers[index]
        if not self._store(register, bytes.fromhex(value.decode())):
            return _NO_REGISTER
        self._machine.changed(f"register {register.name}")
        return _OK

    @property
    def _memory(self) -> GuestMemory:
        return GuestMemory(self._machine, None if self._physical else self._hart)

    def _read_memory(self, body: bytes) -> bytes:
        address, size = _numbers(body)
        data = self._memory.read(address, min(size, _READ_LIMIT))
        return data.hex().encode() if data or not size else _NO_MEMORY

    def _write_memory(self, body: bytes) -> bytes:
        place, _, data = body.partition(b":")
        return self._write(place, bytes.fromhex(data.decode()))

    def _write_binary(self, body: bytes) -> bytes:
        place, _, data = body.partition(b":")
        return self._write(place, data)

    def _write(self, place: bytes, data: bytes) -> bytes:
        address, size = _numbers(place)
        if size != len(data):
            return _NOT_UNDERSTOOD
        if not self._memory.write(address, data):
            return _NO_MEMORY
        if data:
            self._machine.changed(f"memory at {address:#x}")
        return _OK

    # -- threads ----------------------------------------------------------------------------------

    def _select(self, body: bytes) -> bytes:
        hart = self._thread(body[1:])
        if body[:1] == b"g":
            self._hart = self._hart if hart is None else hart
        elif body[:1] == b"c":
            self._resumed = self._hart if hart is None else hart
        else:
            return _NOT_UNDERSTOOD
        return _OK

    def _is_alive(self, body: bytes) -> bytes:
        return _OK if self._thread(body) is not None else _NOT_UNDERSTOOD

    def _thread(self, text: bytes) -> int | None:
        """A thread's hart; None for any and all. ValueError where there is none."""
        number = int(text, 16)
        if number in (0, -1):
            return None
        if not 1 <= number <= len(self._machine.cpu):
            raise ValueError("no such thread")
        return number - 1

    # -- breakpoints ------------------------------------------------------------------------------

    def _place(self, body: bytes) -> bytes:
        kind, address, size = _point(body)
        key = (kind, address, size)
        if key in self._points:
            return _OK
        points = self._machine.breakpoints
        if kind in (0, 1):
            self._points[key] = points.add(address)
        elif kind in _KINDS:
            hart = None if self._physical else self._hart
            try:
                self._points[key] = points.watch(address, size, _KINDS[kind], hart=hart)
            except StopError:
                return _NO_PLACE
        else:
            return _UNKNOWN
        return _OK

    def _remove(self, body: bytes) -> bytes:
        point = self._points.pop(_point(body), None)
        if point is not None:
            self._forget(point)
        return _OK

    def _forget(self, point: Breakpoint | Watchpoint) -> None:
        with contextlib.suppress(KeyError):  # a monitor may have deleted it
            self._machine.breakpoints.remove(point)

    # -- going on ---------------------------------------------------------------------------------

    def _go(self, how: Callable[[], Outcome] | None) -> bytes | None:
        self._running = True
        self._control.resume(how)
        return None  # the answer comes when the machine stops

    def _step(self, hart: int, *, locked: bool, inside: tuple[int, int] = (0, 0)) -> bytes | None:
        step = partial(self._machine.step, hart, inside)
        return self._go(partial(self._alone, hart, step) if locked else step)

    def _alone(self, hart: int, how: Callable[[], Outcome]) -> Outcome:
        with self._machine.only(hart):
            outcome = how()
        self._machine.changed("the harts' turns")
        return outcome

    def _verbose(self, body: bytes) -> bytes | None:
        if body == b"Cont?":
            return b"vCont;c;C;s;S;r"
        if body.startswith(b"Cont;"):
            return self._continue(body[5:])
        if body.startswith(b"Kill"):
            self._send(_OK)
            return self._kill(b"")
        return _UNKNOWN

    def _continue(self, body: bytes) -> bytes | None:
        """The actions of vCont: a step of one hart, with the others or without; or all go on."""
        actions = [action.partition(b":") for action in body.split(b";")]
        everyone = any(self._any(thread) and what[:1] in b"cC" for what, _, thread in actions)
        for what, _, thread in actions:
            kind, rest = what[:1], what[1:]
            hart = None if self._any(thread) else self._thread(thread)
            chosen = self._resumed if hart is None else hart
            locked = not everyone and hart is not None and len(self._machine.cpu) > 1
            # Who steps over a breakpoint locks too: the hart goes on where it stopped, and no other
            # would have had a turn.
            if kind in (b"s", b"S") and self._machine.cpu[chosen].is_midway:
                locked = locked and chosen != self._machine.turns.index
            if kind in (b"s", b"S"):
                return self._step(chosen, locked=locked)
            if kind == b"r":
                start, end = (int(number, 16) for number in rest.split(b","))
                return self._step(chosen, locked=locked, inside=(start, end))
            if kind not in (b"c", b"C"):
                return _NOT_UNDERSTOOD
            if locked:
                return self._go(partial(self._alone, chosen, self._machine.run))
        return self._go(None)

    def _any(self, thread: bytes) -> bool:
        return not thread or self._thread(thread) is None

    def _backwards(self, body: bytes) -> bytes | None:
        """`bs` and `bc`: to where the machine was, by its history."""
        history = self._machine.history
        if history is None or body not in (b"s", b"c"):
            return _UNKNOWN
        if body == b"s":
            return self._go(partial(self._back, partial(history.step_back, self._resumed)))
        return self._go(partial(self._back, partial(history.run_back, behind=True)))

    def _back(self, how: Callable[[], Outcome]) -> Outcome:
        from hypervisor.history import HistoryError

        try:
            return how()
        except HistoryError as error:
            self._print(f"{error}\n")
            return Outcome("beginning", str(error))

    # -- the rest ---------------------------------------------------------------------------------

    def _query(self, body: bytes) -> bytes | None:
        name, _, rest = body.partition(b":")
        match name.partition(b",")[0]:
            case b"Supported":
                return _FEATURES.encode()
            case b"Xfer":
                return self._transfer(rest)
            case b"fThreadInfo":
                return b"m" + b",".join(b"%x" % (n + 1) for n in range(len(self._machine.cpu)))
            case b"sThreadInfo":
                return b"l"
            case b"ThreadExtraInfo":
                return self._describe_thread(body.partition(b",")[2])
            case b"C":
                return b"QC%x" % (self._hart + 1)
            case b"Attached":
                return b"1"
            case b"Symbol":
                return _OK
            case b"Rcmd":
                return self._monitor(bytes.fromhex(body.partition(b",")[2].decode()).decode())
            case b"qemu.PhyMemMode":
                return b"1" if self._physical else b"0"
        return _UNKNOWN

    def _describe_thread(self, thread: bytes) -> bytes:
        index = self._thread(thread)
        hart = self._machine.cpu[index or 0]
        state = "stopped" if hart.stopped else "waiting" if hart.waiting else "running"
        return f"hart {hart.index} ({state})".encode().hex().encode()

    def _transfer(self, rest: bytes) -> bytes:
        kind, operation, annex, place = rest.split(b":")
        offset, length = _numbers(place)
        if operation != b"read":
            return _UNKNOWN
        if (kind, annex) == (b"features", b"target.xml"):
            document = self._layout.describe()
        elif (kind, annex) == (b"memory-map", b""):
            document = self._memory_map()
        else:
            return b"E00"
        data = document.encode()
        piece = data[offset : offset + min(length, _READ_LIMIT)]
        return (b"l" if offset + len(piece) >= len(data) else b"m") + piece

    def _memory_map(self) -> str:
        # Everything counts as RAM: virtual addresses are no concern of this map.
        return (
            '<memory-map><memory type="ram" start="0x0" length="0xffffffffffffffff"/></memory-map>'
        )

    def _set(self, body: bytes) -> bytes:
        if body == b"StartNoAckMode":
            self.no_acks = True
            return _OK
        if body.startswith(b"qemu.PhyMemMode:"):
            self._physical = body.endswith(b"1")
            return _OK
        return _UNKNOWN

    def _monitor(self, command: str) -> bytes:
        from tools.gdb.monitor import answer

        text = answer(self._control, command, self._hart)
        if text:
            self._print(text if text.endswith("\n") else text + "\n")
        return _OK

    def _detach(self, _: bytes) -> bytes | None:
        self._send(_OK)
        self.close()
        return None

    def _kill(self, _: bytes) -> bytes | None:
        self.close()
        self._control.end(Outcome("stopped", "ended by its debugger"))
        return None


def _numbers(text: bytes) -> tuple[int, int]:
    """`ADDRESS,LENGTH`, both hex."""
    address, _, length = text.partition(b",")
    pair = int(address, 16), int(length, 16)
    if min(pair) < 0 or max(pair) >= 1 << 64:
        raise ValueError("not a place in memory")
    return pair


def _point(body: bytes) -> tuple[int, int, int]:
    """`TYPE,ADDRESS,KIND`, and conditions, which are not supported."""
    kind, address, size = body.partition(b";")[0].split(b",")
    return int(kind, 16), *_numbers(address + b"," + size)
