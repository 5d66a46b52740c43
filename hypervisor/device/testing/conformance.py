"""What every device model must hold to, whoever wrote it, made from its register table.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_blinker(check):
        with Subject(Blinker) as subject:
            check(subject)

Each check raises AssertionError with a sentence. `hypervisor device test TYPE` runs them all.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import TracebackType
from typing import Any

import cbor2

from hypervisor.device.device import Device
from hypervisor.device.registers import Register, Slot, registers_of
from hypervisor.device.testing.bench import Bench
from hypervisor.device.testing.hostile import RECORD, WIDTHS, HostileGuest

_ACCESSES = 1000
_HARTS = 2


class Subject:
    """A model to be checked and the options to build it with. Closes what it built."""

    def __init__(self, model: type[Device], **options: Any) -> None:
        self.model = model
        self.options: dict[str, Any] = {"at": 0x1000_0000} | options
        self._built: list[Device] = []

    def __enter__(self) -> Subject:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def build(self) -> tuple[Any, Bench]:
        """A new device, reset, on a bench of its own with two harts."""
        bench = Bench(harts=_HARTS)
        device = bench.build(self.model, **self.options)
        self._built.append(device)
        return device, bench

    def close(self) -> None:
        while self._built:
            self._built.pop().close()

    @property
    def table(self) -> list[Register]:
        return list(registers_of(self.model))


def is_documented(subject: Subject) -> None:
    """The model and its options say what they are."""
    model = subject.model
    _all_right(
        ([] if model.summary else ["summary"])
        + [f"option {n}" for n, o in model.Options.model_fields.items() if not o.description],
        "says nothing of itself in: {}",
    )


def registers_lie_inside(subject: Subject) -> None:
    """Every register lies inside the address space that the device takes."""
    device, _ = subject.build()
    size = device.size_for(device.options)
    _all_right(
        [_place(at, slot) for at, slot in device.placed() if at + slot.size > size],
        f"has registers beyond its {size:#x} bytes: {{}}",
    )


def fields_lie_apart(subject: Subject) -> None:
    """Fields lie inside their register and share no bit."""
    wrong = []
    for register in subject.table:
        fields = sorted(register.fields, key=lambda field: field.lsb)
        wrong += [f"{register.name}.{f.name}" for f in fields if f.mask > register.mask]
        wrong += [f"{register.name}.{b.name}" for a, b in pairwise(fields) if a.mask & b.mask]
    _all_right(wrong, "has fields outside their register or over one another: {}")


def reset_values_are_the_tables(subject: Subject) -> None:
    """After a reset every register holds the value that the table gives."""
    device, _ = subject.build()
    _all_right(
        [r.name for r in subject.table if device.values[r.name] != [r.reset] * r.count],
        "does not hold the table's value after a reset in: {}",
    )


def reset_undoes_everything(subject: Subject) -> None:
    """A reset after any accesses leaves what a new device has."""
    device, bench = subject.build()
    fresh = device.save()
    # Input that was typed and not yet taken would be taken after the reset.
    bench.console.type = lambda data: None  # type: ignore[method-assign]
    HostileGuest(device, bench).run(_noise(subject, 1))
    device.reset()
    after = device.save()
    differing = [n for n, v in after["registers"].items() if v != fresh["registers"][n]]
    differing += [name for name in ("bank", "irq", "timers") if after[name] != fresh[name]]
    _all_right(differing, "differs from a new device after a reset in: {}")


def read_only_registers_ignore_stores(subject: Subject) -> None:
    """Stores to read-only registers change nothing at all."""
    device, _ = subject.build()
    shared = Counter(at for at, _ in device.placed())
    wrong = []
    for at, slot in list(device.placed()):
        if slot.register.access != "ro" or shared[at] > 1 or slot.index > 3:
            continue
        before = device.save()
        for value in (slot.register.mask, 0):
            device.write(at, slot.size, value)
        if device.save() != before:
            wrong.append(_place(at, slot))
    _all_right(wrong, "lets a guest change read-only registers: {}")


def reserved_bits_keep_their_value(subject: Subject) -> None:
    """Bits that the table says are not writable are not changed by a store."""
    device, _ = subject.build()
    wrong = []
    for at, slot in _plain(device):
        register = slot.register
        fixed = register.mask & ~register.writable & ~register.w1c
        before = slot.store[slot.index] & fixed
        for value in (register.mask, 0):
            device.write(at, slot.size, value)
            if slot.store[slot.index] & fixed != before:
                wrong.append(_place(at, slot))
    _all_right(wrong, "lets a guest change reserved bits of: {}")


def writing_one_clears(subject: Subject) -> None:
    """Write-1-to-clear bits are kept by a 0 and cleared by a 1."""
    device, _ = subject.build()
    wrong = []
    for at, slot in _plain(device):
        bits = slot.register.w1c
        slot.store[slot.index] |= bits
        device.write(at, slot.size, 0)
        kept = slot.store[slot.index] & bits
        device.write(at, slot.size, bits)
        if kept != bits or slot.store[slot.index] & bits:
            wrong.append(_place(at, slot))
    _all_right(wrong, "does not clear by writing 1 as the table says: {}")


def partial_accesses_are_parts(subject: Subject) -> None:
    """A register's bytes, loaded one by one, make the register; a byte stored changes that byte."""
    device, _ = subject.build()
    wrong = []
    for at, slot in _plain(device):
        register = slot.register
        if register.access == "wo" or register.w1c or register.tagged:
            continue
        pattern = 0x1122_3344_5566_7788 & register.writable
        device.write(at, slot.size, pattern)
        whole = device.read(at, slot.size)
        bytes_read = [device.read(at + n, 1) for n in range(slot.size)]
        device.write(at + slot.size - 1, 1, 0)
        low = (1 << 8 * (slot.size - 1)) - 1
        expected = whole & low | whole & ~low & ~register.writable
        if bytes(bytes_read) != whole.to_bytes(slot.size, "little") or (
            device.read(at, slot.size) != expected
        ):
            wrong.append(_place(at, slot))
    _all_right(wrong, "answers narrow accesses with something else than parts of: {}")


def straddling_accesses_are_answered(subject: Subject) -> None:
    """Accesses of all widths at and around every register are answered with a value that fits."""
    device, bench = subject.build()
    guest = HostileGuest(device, bench)
    starts = {at for at, slot in device.placed() if slot.index < 64}
    for start in starts:
        for size in WIDTHS:
            for offset in range(max(start - size + 1, 0), min(start + 8, guest.extent)):
                guest.read(offset, size)
                device.write(offset, size, 0)
    _all_right(guest.wrong, "gives answers that do not fit: {}")


def random_accesses_are_survived(subject: Subject) -> None:
    """Random accesses, input, waiting and interrupt levels raise nothing."""
    device, bench = subject.build()
    guest = HostileGuest(device, bench)
    guest.run(_noise(subject, 2))
    _all_right(guest.wrong, "gives answers that do not fit: {}")


def snapshots_go_round(subject: Subject) -> None:
    """A device that takes another's saved state is the same, and answers the same from then on."""
    device, bench = subject.build()
    guest = HostileGuest(device, bench)
    guest.run(_noise(subject, 3))
    try:
        saved = cbor2.loads(cbor2.dumps(device.save()))
    except cbor2.CBOREncodeError as error:
        raise AssertionError(
            f"{subject.model.type} saves what is not plain data: {error}"
        ) from None
    other, other_bench = subject.build()
    other_bench.clock.advance(bench.clock.now())
    other.load(saved)
    again = cbor2.loads(cbor2.dumps(other.save()))
    differing = [part for part in saved if again.get(part) != saved[part]]
    _all_right(differing, "saves something else than it loaded in: {}")
    twin = HostileGuest(other, other_bench)
    twin.take_over(guest)
    guest.answers.clear()
    more = _noise(subject, 4)
    guest.run(more)
    twin.run(more)
    after, twins = device.save(), other.save()
    differing = [part for part in after if after[part] != twins[part]]
    differing += ["answers"] if guest.answers != twin.answers else []
    _all_right(differing, "goes on differently after a snapshot in: {}")


Check = Callable[[Subject], None]

CHECKS: tuple[Check, ...] = (
    is_documented,
    registers_lie_inside,
    fields_lie_apart,
    reset_values_are_the_tables,
    reset_undoes_everything,
    read_only_registers_ignore_stores,
    reserved_bits_keep_their_value,
    writing_one_clears,
    partial_accesses_are_parts,
    straddling_accesses_are_answered,
    random_accesses_are_survived,
    snapshots_go_round,
)


def _plain(device: Device) -> Iterator[tuple[int, Slot]]:
    """Registers that are what the table says and nothing more: no hook acts on an access, and
    nothing else is at their offset. Of an array, the first four."""
    shared = Counter(at for at, _ in device.placed())
    for at, slot in list(device.placed()):
        register = slot.register
        hooked = register.read_hook is not None or register.write_hook is not None
        if register.access == "rw" and not hooked and shared[at] == 1 and slot.index < 4:
            yield at, slot


def _place(offset: int, slot: Slot) -> str:
    return f"{slot.register.instance_name(slot.index)} at {offset:#x}"


def _noise(subject: Subject, number: int) -> bytes:
    return random.Random(f"{subject.model.type} {number}").randbytes(_ACCESSES * RECORD)


def _all_right(wrong: list[str], sentence: str) -> None:
    """Raise the sentence with the first of what is wrong."""
    if wrong:
        more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        raise AssertionError("it " + sentence.format(", ".join(wrong[:6]) + more))
