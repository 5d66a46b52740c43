"""From a file to a checked Description, or all that is wrong with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel

from hypervisor.config import checks
from hypervisor.config.description import Description, DeviceEntry
from hypervisor.config.fault_checks import read_faults
from hypervisor.config.faults import Fault
from hypervisor.config.files import CheckImage, file_problem, file_references, located
from hypervisor.config.models import TOOLS, Boot, Document, Memory
from hypervisor.config.node import Node, Path
from hypervisor.config.problem import DescriptionError, Problem, nearest
from hypervisor.config.registry import DeviceTypeError, FindDevice, find_device
from hypervisor.config.sentences import partial, validate
from hypervisor.config.sources import read_description, read_text
from hypervisor.config.yaml_loader import UNPRINTABLE

M = TypeVar("M", bound=BaseModel)


def load_description(
    path: str,
    overrides: Sequence[str] = (),
    find: FindDevice = find_device,
    check_image: CheckImage | None = None,
) -> Description:
    """The machine described in the file `path`, with `a.b.c=value` overrides.

    `check_image` says what is wrong with an `image:` reference. Raises DescriptionError with
    everything that is wrong.
    """
    return _Loader(read_description(path, overrides), find, check_image).description(path)


def load_text(
    data: bytes | str,
    file: str,
    overrides: Sequence[str] = (),
    find: FindDevice = find_device,
    check_image: CheckImage | None = None,
) -> Description:
    """Like `load_description`, for text that stands for a file named `file`."""
    return _Loader(read_text(data, file, overrides), find, check_image).description(file)


class _Loader:
    """Checks one document, collecting problems."""

    def __init__(self, root: Node, find: FindDevice, check_image: CheckImage | None) -> None:
        self.root = root
        self.find = find
        self.check_image = check_image
        self.problems: list[Problem] = []
        self.devices: dict[str, DeviceEntry] = {}
        self.broken: dict[str, DeviceEntry] = {}
        """Devices as far as they are right."""
        self.files: list[Path] = []
        self.faults: list[Fault] = []

    def description(self, path: str) -> Description:
        document = self._model(Document, self.root, ())
        # What the rest says is checked even where one part is wrong.
        memory = document.memory if document else self._part(Memory, "memory")
        boot = document.boot if document else self._part(Boot, "boot")
        names = self._load_devices()
        if boot is not None:
            self._check_files(boot, ("boot",))
        self._check(memory, boot, names)
        self.faults, problems = read_faults(self.root, self.devices, names)
        self.problems += problems
        if document is not None:
            arch = document.cpu.arch
            self.problems += checks.architecture_problems(self.root, arch, self.devices)
            self.problems += checks.trace_problems(self.root, document.trace)
        if self.problems or document is None:
            raise DescriptionError(self.problems)
        return self._finish(path, document)

    def _check(self, memory: Memory | None, boot: Boot | None, names: list[str]) -> None:
        devices, root = self.devices, self.root
        console = root.get("console")
        wanted = console.value if console is not None else None
        self.problems += checks.address_problems(root, memory, devices)
        self.problems += checks.interrupt_problems(root, devices, self.broken, names)
        if boot is not None:
            complete = devices if len(devices) == len(names) else None
            self.problems += checks.boot_problems(root, boot, memory, complete)
        if wanted is None or isinstance(wanted, str):
            self.problems += checks.console_problems(root, devices, names, wanted)

    def _model(self, model: type[M], node: Node, path: Path) -> M | None:
        found, problems = validate(model, node, path)
        self.problems += problems
        return found

    def _part(self, model: type[M], name: str) -> M | None:
        """A part of a document that is wrong elsewhere; its own problems are known already."""
        node = self.root.get(name)
        return None if node is None else partial(model, node)

    # -- devices ------------------------------------------------------------------------------

    def _load_devices(self) -> list[str]:
        """Fill `devices` with those that are right; the names of all."""
        node = self.root.get("devices")
        if node is None or not node.is_mapping:
            return []
        for name, entry in node.value.items():
            if entry.is_mapping:
                self._load_device(name, entry, list(node.value))
        return list(node.value)

    def _load_device(self, name: str, node: Node, names: list[str]) -> None:
        where = f"devices.{name}"
        kind = node.get("type")
        if kind is None:
            others = [each for each in names if each != name]
            match = nearest(name, others)
            meant = f"; did you mean '{match}'?" if match else ""
            self.problems.append(Problem(node.key_mark, f"{where}.type: is missing{meant}"))
            return
        if not isinstance(kind.value, str):
            self.problems.append(Problem(kind.mark, f"{where}.type: must be a device type's name"))
            return
        try:
            model = self.find(kind.value, kind.directory())
        except DeviceTypeError as error:
            self.problems.append(Problem(kind.mark, f"{where}.type: {error}"))
            return
        options = self._model(model.Options, node, ("devices", name))
        devices = self.devices if options is not None else self.broken
        options = options or partial(model.Options, node)
        if options is None:
            return
        interrupt = checks.parse_interrupt(options.irq) if options.irq is not None else None
        if options.irq is not None and interrupt is None:
            said = f"'{options.irq}' is not CONTROLLER.NUMBER such as plic.10"
            self.problems.append(Problem(node.deepest(("irq",))[0].mark, f"{where}.irq: {said}"))
        self._check_files(options, ("devices", name))
        size = model.size_for(options)
        devices[name] = DeviceEntry(name, kind.value, model, options, size, interrupt)

    # -- files --------------------------------------------------------------------------------

    def _check_files(self, model: BaseModel, path: Path) -> None:
        for steps, reference in file_references(model, path):
            node = self.root.get(*steps)
            if node is not None:
                self.files.append(steps)
                problem = file_problem(node, steps, reference, self.check_image)
                self.problems += [problem] if problem is not None else []

    # -- the end ------------------------------------------------------------------------------

    def _finish(self, path: str, document: Document) -> Description:
        """Everything is right: take it again with files as paths that can be opened."""
        root = located(self.root, self.files)
        changed = {steps[:2] for steps in self.files}
        boot, devices = document.boot, dict(self.devices)
        if any(steps[0] == "boot" for steps in changed):
            boot = self._again(Boot, root, ("boot",))
        for name, entry in self.devices.items():
            if ("devices", name) in changed:
                options = self._again(entry.model.Options, root, ("devices", name))
                devices[name] = replace(entry, options=options)
        return Description(
            path=path,
            machine=document.machine,
            cpu=document.cpu,
            memory=document.memory,
            clock=document.clock,
            boot=boot,
            console=checks.find_console(devices, document.console),
            strict=document.strict,
            devices=devices,
            trace=document.trace,
            source=_readable(root.plain()),
            digest=hashlib.sha256(_canonical(self.root.plain())).hexdigest(),
            faults=tuple(self.faults),
            debug=document.debug,
        )

    def _again(self, model: type[M], root: Node, path: Path) -> M:
        found, problems = validate(model, root.deepest(path)[0], path)
        if found is None:
            raise DescriptionError(problems)
        return found


def _readable(data: dict[str, Any]) -> bytes:
    """JSON that is also YAML: no pairs of surrogates, and no bare control characters."""
    text = json.dumps(data, ensure_ascii=False)
    return UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()


def _canonical(data: dict[str, Any]) -> bytes:
    """JSON that does not depend on the order of keys, but on that of devices."""
    ordered = {
        key: list(value.items()) if key == "devices" else value
        for key, value in data.items()
        if key not in TOOLS
    }
    return json.dumps(ordered, sort_keys=True, separators=(",", ":")).encode()
