"""A device's register table: one declaration from which access, reset, naming, tracing,
inspection, snapshots, documentation and fuzzing all follow.

    class Uart(Device):
        IER = Register(0x1, size=1, writable=0x0F, fields={"RDA": 0, "THRE": 1})

        @IER.on_write
        def _ier_written(self, value: int) -> None:
            self.update_interrupts()

Read from an instance a register is its stored value (`self.IER`); assigning stores one.
A guest access runs the hooks; a device's own use does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar, overload

Access = Literal["rw", "ro", "wo"]
Bits = int | tuple[int, int]
"""One bit's number, or (most significant, least significant)."""

SystemRegisters = Mapping[
    tuple[int, int, int, int, int], tuple[Callable[[], int] | None, Callable[[int], None] | None]
]
"""Of a processor, by op0, op1, CRn, CRm and op2: how to read and how to write each, None where it
cannot be."""

_Hook = TypeVar("_Hook", bound=Callable[..., Any])


class Field:
    """A named range of bits in a register."""

    __slots__ = ("lsb", "name", "tagged", "width")

    def __init__(self, name: str, bits: Bits, tagged: bool = False) -> None:
        msb, self.lsb = bits if isinstance(bits, tuple) else (bits, bits)
        self.name = name
        self.width = msb - self.lsb + 1
        self.tagged = tagged

    @property
    def mask(self) -> int:
        return ((1 << self.width) - 1) << self.lsb

    def of(self, value: int) -> int:
        """This field's value in a register's value."""
        return (value & self.mask) >> self.lsb


class Register:
    """One register, or with `count` an array of equal ones `stride` bytes apart.

    offset: bytes from the device's base. size: bytes (1, 2, 4 or 8). reset: value at reset.
    access: what the guest may do; reading a "wo" or writing a "ro" register is ignored.
    writable: mask of bits a guest write changes. w1c: mask of bits that writing 1 clears.
    fields: names of bits. tagged: names of bits that are known and not implemented (a guest
    that sets one is logged). bank: the value of `Device.register_bank` at which this register
    is the one at its offset (None: always). doc: one line for the reference.
    """

    def __init__(
        self,
        offset: int,
        *,
        size: int = 4,
        reset: int = 0,
        access: Access = "rw",
        writable: int | None = None,
        w1c: int = 0,
        fields: Mapping[str, Bits] | None = None,
        tagged: Mapping[str, Bits] | None = None,
        count: int = 1,
        stride: int | None = None,
        bank: int | None = None,
        doc: str = "",
    ) -> None:
        self.name = ""
        self.offset = offset
        self.size = size
        self.reset = reset
        self.access = access
        self.mask = (1 << 8 * size) - 1
        self.writable = (self.mask if writable is None else writable) & ~w1c
        self.w1c = w1c
        self.fields = [Field(n, b) for n, b in (fields or {}).items()]
        self.fields += [Field(n, b, tagged=True) for n, b in (tagged or {}).items()]
        self.tagged = sum(f.mask for f in self.fields if f.tagged)
        self.count = count
        self.stride = size if stride is None else stride
        self.is_array = count > 1
        self.bank = bank
        self.doc = doc
        self.read_hook: str | None = None
        self.write_hook: str | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def on_read(self, hook: _Hook) -> _Hook:
        """`hook(self) -> int` (arrays: `hook(self, index)`) gives what the guest reads."""
        self.read_hook = hook.__name__
        return hook

    def on_write(self, hook: _Hook) -> _Hook:
        """`hook(self, written)` (arrays: `hook(self, index, written)`) runs after the store."""
        self.write_hook = hook.__name__
        return hook

    def decode(self, value: int) -> dict[str, int]:
        """Field values by name."""
        return {field.name: field.of(value) for field in self.fields}

    def instance_name(self, index: int) -> str:
        return f"{self.name}[{index}]" if self.is_array else self.name

    @overload
    def __get__(self, device: None, owner: type) -> Register: ...
    @overload
    def __get__(self, device: object, owner: type) -> int: ...
    def __get__(self, device: Any, owner: type) -> Register | int:
        return self if device is None else device.values[self.name][0]

    def __set__(self, device: Any, value: int) -> None:
        device.values[self.name][0] = value & self.mask


class Slot:
    """One address of a table: register, array index, and bound hooks of one device. What an access
    needs of the register is here too, one step nearer."""

    __slots__ = (
        *("index", "read_hook", "register", "size", "store", "tagged", "write_hook"),
        *("_fixed", "_is_read_only", "_is_write_only", "_mask", "_w1c", "_writable"),
    )

    def __init__(self, device: Any, register: Register, index: int) -> None:
        self.register = register
        self.index = index
        self.size = register.size
        self.tagged = register.tagged
        self._is_read_only = register.access == "ro"
        self._is_write_only = register.access == "wo"
        self._mask = register.mask
        self._writable = register.writable
        self._fixed = ~register.writable
        self._w1c = register.w1c
        self.store: list[int] = device.values[register.name]
        self.read_hook = _bind(device, register, register.read_hook, index)
        self.write_hook = _bind(device, register, register.write_hook, index)

    def read(self) -> int:
        if self._is_write_only:
            return 0
        if self.read_hook is not None:
            return int(self.read_hook()) & self._mask
        return self.store[self.index]

    def write(self, value: int) -> None:
        if self._is_read_only:
            return
        kept = self.store[self.index] & self._fixed
        if self._w1c:
            kept &= ~(value & self._w1c)
        self.store[self.index] = kept | (value & self._writable)
        if self.write_hook is not None:
            self.write_hook(value & self._mask)


def _bind(
    device: Any, register: Register, name: str | None, index: int
) -> Callable[..., Any] | None:
    if name is None:
        return None
    hook: Callable[..., Any] = getattr(device, name)
    if register.is_array:
        return lambda *args: hook(index, *args)
    return hook


def registers_of(owner: type) -> Iterator[Register]:
    """The table of a device class, by offset."""
    found: dict[str, Register] = {}
    for cls in reversed(owner.__mro__):
        for name, value in vars(cls).items():
            if isinstance(value, Register):
                found[name] = value
    return iter(sorted(found.values(), key=lambda r: (r.offset, r.bank or 0, r.access == "wo")))
