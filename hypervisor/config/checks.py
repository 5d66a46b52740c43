"""Checks between the parts of a description: addresses, interrupts, boot and console."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hypervisor.config.description import DeviceEntry, Interrupt
from hypervisor.config.models import PAGE, Boot, Memory, Trace
from hypervisor.config.node import Node
from hypervisor.config.problem import Problem, nearest

Devices = Mapping[str, DeviceEntry]


@dataclass(frozen=True, slots=True)
class _Range:
    """Guest-physical addresses that something takes, rounded up to whole pages."""

    start: int
    end: int
    name: str
    node: Node

    def __str__(self) -> str:
        return f"{self.start:#x} to {self.end - 1:#x}"


def address_problems(root: Node, memory: Memory | None, devices: Devices) -> Iterator[Problem]:
    """Devices without an address, off page boundaries, or over each other or memory."""
    ranges = []
    if memory is not None:
        ram = memory.ram
        node = root.get("memory", "ram", "at") or root
        ranges.append(_Range(ram.at, ram.at + ram.size, "memory.ram", node))
    for name, entry in devices.items():
        at, whole = entry.options.at, root.deepest(("devices", name))[0]
        if at is None:
            if entry.size:
                said = f"devices.{name}.at: is missing (guest-physical base address)"
                yield Problem(whole.key_mark, said)
            continue
        node = whole.get("at") or whole
        if at % PAGE:
            said = f"must be a multiple of the page size {PAGE:#x}, not {at:#x}"
            yield Problem(node.mark, f"devices.{name}.at: {said}")
        elif entry.size:
            end = at + -(-entry.size // PAGE) * PAGE
            ranges.append(_Range(at, end, f"devices.{name}", node))
    yield from _overlaps(ranges)


def architecture_problems(root: Node, arch: str, devices: Devices) -> Iterator[Problem]:
    """Devices that machines of another architecture have."""
    for name, entry in devices.items():
        if entry.model.arch not in (None, arch):
            node = root.deepest(("devices", name, "type"))[0]
            said = f"a {entry.type} is for {entry.model.arch}; this machine is {arch}"
            yield Problem(node.mark, f"devices.{name}.type: {said}")


def _overlaps(ranges: Sequence[_Range]) -> Iterator[Problem]:
    for index, later in enumerate(ranges):
        for earlier in ranges[:index]:
            if later.start < earlier.end and earlier.start < later.end:
                said = f"{later.name}.at: {later} overlaps {earlier.name} at {earlier}"
                yield Problem(later.node.mark, said)
                break


def interrupt_problems(
    root: Node, devices: Devices, broken: Devices, known: Sequence[str]
) -> Iterator[Problem]:
    """Interrupt inputs that do not exist or that two devices would share.

    `broken` are devices with problems of their own, `known` the names of all.
    """
    taken: dict[Interrupt, str] = {}
    for name in known:
        entry = devices.get(name) or broken.get(name)
        if entry is None:
            continue
        interrupt = entry.interrupt
        node = root.get("devices", name, "irq")
        if interrupt is None or node is None:
            continue
        said = _interrupt_sentence(interrupt, devices, known)
        if said is None and interrupt in taken:
            said = f"{interrupt} is already the interrupt of '{taken[interrupt]}'"
        if said is not None:
            yield Problem(node.mark, f"devices.{name}.irq: {said}")
        taken.setdefault(interrupt, name)


def _interrupt_sentence(interrupt: Interrupt, devices: Devices, known: Sequence[str]) -> str | None:
    name = interrupt.controller
    if name not in known:
        match = nearest(name, known)
        meant = f"; did you mean '{match}'?" if match else ""
        return f"no device named '{name}'{meant}"
    controller = devices.get(name)
    if controller is None:
        return None
    inputs = interrupt_inputs(controller)
    if not inputs:
        return f"'{name}' is no interrupt controller but a {controller.type}"
    first = controller.model.first_input
    if not first <= interrupt.number <= inputs:
        return f"'{name}' has inputs {first} to {inputs}, not {interrupt.number}"
    return None


def interrupt_inputs(entry: DeviceEntry) -> int:
    """The number of a controller's last input; 0 for other devices."""
    count = entry.model.interrupt_inputs
    sources = getattr(entry.options, "sources", None)
    return min(count, sources) if isinstance(sources, int) else count


def parse_interrupt(text: str) -> Interrupt | None:
    """`plic.10`, None for anything else."""
    controller, _, number = text.rpartition(".")
    if not controller or not (number.isascii() and number.isdigit()) or len(number) > 9:
        return None
    return Interrupt(controller, int(number))


def boot_problems(
    root: Node, boot: Boot, memory: Memory | None, devices: Devices | None
) -> Iterator[Problem]:
    """A machine with nothing to run, or with parts that nothing would use or that fit nowhere."""
    node = root.get("boot") or root
    if not any(node.child(key) for key in ("kernel", "firmware", "entry")):
        said = "boot: nothing to run; give 'kernel' or 'firmware', or 'entry' with 'load'"
        yield Problem(node.key_mark, said)
    elif boot.initrd is not None and boot.kernel is None and boot.firmware is None:
        yield Problem(node.deepest(("initrd",))[0].mark, "boot.initrd: needs a kernel or firmware")
    if memory is None:
        return
    ram = memory.ram
    inside = f"memory.ram is {ram.at:#x} to {ram.at + ram.size - 1:#x}"
    for index, blob in enumerate(boot.load):
        if not ram.at <= blob.at < ram.at + ram.size:
            place = node.deepest(("load", index, "at"))[0]
            yield Problem(place.mark, f"boot.load.{index}.at: {blob.at:#x} is no memory; {inside}")
    entry = boot.entry
    if entry is not None and devices is not None:
        spans = [(d.options.at, d.size) for d in devices.values() if d.options.at is not None]
        if not any(at <= entry < at + size for at, size in (*spans, (ram.at, ram.size))):
            place = node.deepest(("entry",))[0]
            yield Problem(place.mark, f"boot.entry: nothing is at {entry:#x}; {inside}")


def trace_problems(root: Node, traces: Sequence[Trace]) -> Iterator[Problem]:
    """Filters that choose nothing that there is. Devices of the user's own may have kinds of
    events, so this comes after they were loaded."""
    if not traces:
        return
    from hypervisor.trace.filter import Filter, FilterError

    for index, trace in enumerate(traces):
        try:
            Filter.parse(trace.events)
        except FilterError as error:
            place = root.deepest(("trace", index, "events"))[0]
            yield Problem(place.mark, f"trace.{index}.events: {error}")


def find_console(devices: Devices, wanted: str | None) -> str | None:
    """The name of the console: the device `wanted`, else the first whose backend is stdio."""
    if wanted is not None:
        return wanted
    return next((name for name, entry in devices.items() if _is_console(entry)), None)


def console_problems(
    root: Node, devices: Devices, known: Sequence[str], wanted: str | None
) -> Iterator[Problem]:
    """A console that does not exist, or is two."""
    if wanted is not None:
        node = root.deepest(("console",))[0]
        if wanted not in known:
            match = nearest(wanted, known)
            meant = f"; did you mean '{match}'?" if match else ""
            yield Problem(node.mark, f"console: no device named '{wanted}'{meant}")
            return
        if wanted in devices and not _is_console(devices[wanted]):
            entry = devices[wanted]
            has = hasattr(entry.options, "backend")
            said = "its backend is not stdio" if has else f"a {entry.type} has no serial line"
            yield Problem(node.mark, f"console: '{wanted}' cannot be the console: {said}")
            return
    console = find_console(devices, wanted)
    for name, entry in devices.items():
        if name != console and _is_console(entry):
            whole = root.deepest(("devices", name))[0]
            place = whole.get("backend")
            said = f"'{console}' already is the console (backend stdio); write backend: none"
            mark = place.mark if place is not None else whole.key_mark
            yield Problem(mark, f"devices.{name}.backend: {said}")


def _is_console(entry: DeviceEntry) -> bool:
    return getattr(entry.options, "backend", None) == "stdio"
