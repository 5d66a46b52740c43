"""Checks of faults against the devices that they are to happen to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hypervisor.config.description import DeviceEntry
from hypervisor.config.faults import (
    FAULTS,
    Fault,
    RegisterFault,
    SpuriousInterrupt,
    register_named,
    register_names,
)
from hypervisor.config.node import Node
from hypervisor.config.problem import Problem, suggestion
from hypervisor.config.sentences import validate

Devices = Mapping[str, DeviceEntry]

_LACKS = {
    "registers": "has no registers in the guest's address space",
    "interrupt": "has no interrupt (irq)",
    "requests": "is no disk",
    "packets": "is no network interface",
    "commands": "is no GPU",
}


def read_faults(
    root: Node, devices: Devices, known: Sequence[str]
) -> tuple[list[Fault], list[Problem]]:
    """The faults of a description, and what is wrong with them. `known`: names of all devices,
    those with problems of their own included."""
    node = root.get("faults")
    faults: list[Fault] = []
    problems: list[Problem] = []
    if node is None or not isinstance(node.value, list):
        return faults, problems
    for index, item in enumerate(node.value):
        if not item.is_mapping:
            continue  # the document's own check says so
        where = f"faults.{index}"
        model, wrong = _model(item, where)
        if model is None:
            problems.append(wrong)
            continue
        fault, found = validate(model, item, ("faults", index))
        problems += found
        if fault is not None:
            faults.append(fault)
            problems += _misplaced(fault, item, where, devices, known)
    return faults, problems


def device_problem(fault: Fault, entry: DeviceEntry) -> tuple[str, str] | None:
    """Why the fault cannot happen to this device: the key that is wrong, and a sentence's end."""
    has = set(entry.model.fault_points)
    if entry.options.at is not None and entry.size:
        has.add("registers")
    if entry.interrupt is not None:
        has.add("interrupt")
    if fault.needs not in has:
        return "device", f"'{entry.name}' {_LACKS[fault.needs]}, which {fault.kind} is about"
    if isinstance(fault, RegisterFault):
        found = register_named(entry.model, fault.name)
        if found is None:
            names = register_names(entry.model)
            said = f"{entry.type} has no register '{fault.name}'"
            return "name", said + suggestion(fault.name, names, most=24)
        if found[0].access == "wo":
            return "name", f"{entry.type}'s {fault.name} cannot be read"
        if fault.value > found[0].mask:
            bits = 8 * found[0].size
            return "value", f"must fit {fault.name}'s {bits} bits, not {fault.value:#x}"
    if isinstance(fault, SpuriousInterrupt):
        if fault.every is None and (fault.nth > 1 or fault.count not in (None, 1)):
            return "nth" if fault.nth > 1 else "count", "needs 'every', as 'at' is one occasion"
        if fault.every is not None and fault.every <= fault.width:
            return "every", "must be longer than 'width', or the line would never fall"
    return None


def _model(item: Node, where: str) -> tuple[type[Fault] | None, Problem]:
    kind = item.get("kind")
    if kind is None:
        said = f"{where}.kind: is missing{suggestion('', list(FAULTS), most=24)}"
        return None, Problem(item.mark, said)
    model = FAULTS.get(kind.value) if isinstance(kind.value, str) else None
    said = f"{where}.kind: no fault '{kind.text}'{suggestion(kind.text, list(FAULTS), most=24)}"
    return model, Problem(kind.mark, said)


def _misplaced(
    fault: Fault, item: Node, where: str, devices: Devices, known: Sequence[str]
) -> Iterator[Problem]:
    if fault.device not in known:
        said = f"no device named '{fault.device}'{suggestion(fault.device, known)}"
        yield Problem(item.deepest(("device",))[0].mark, f"{where}.device: {said}")
    elif fault.device in devices:
        problem = device_problem(fault, devices[fault.device])
        if problem is not None:
            key, said = problem
            yield Problem(item.deepest((key,))[0].mark, f"{where}.{key}: {said}")
