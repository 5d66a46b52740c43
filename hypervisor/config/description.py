"""A checked machine description: what the machine is built from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypervisor.config.faults import Fault
from hypervisor.config.models import Boot, ClockOptions, Cpu, DebugOptions, Memory, Trace
from hypervisor.device import Device

IMAGE = "image:"
"""Files that begin so belong to the image catalogue."""

DeviceModel = type[Device]


@dataclass(frozen=True, slots=True)
class Interrupt:
    """An input of an interrupt controller."""

    controller: str
    number: int

    def __str__(self) -> str:
        return f"{self.controller}.{self.number}"


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """One device of a description."""

    name: str
    type: str
    model: DeviceModel
    options: Any
    """An instance of `model.Options`; files in it can be opened as they are."""
    size: int
    """Bytes of address space from `options.at`."""
    interrupt: Interrupt | None


@dataclass(frozen=True, slots=True)
class Description:
    """Everything a description says, checked. Relative files have become openable paths."""

    path: str
    machine: str
    cpu: Cpu
    memory: Memory
    clock: ClockOptions
    boot: Boot
    console: str | None
    """Name of the device that is the machine's console."""
    strict: bool
    devices: Mapping[str, DeviceEntry]
    """In the order of the description."""
    trace: tuple[Trace, ...]
    source: bytes
    """The whole description as JSON, bases and overrides merged in; `load_text` reads it back."""
    digest: str
    """sha256 of the same with files as they were written, and without `debug`: equal for equal
    machines anywhere."""
    debug: DebugOptions
    faults: tuple[Fault, ...] = ()
    """What is to go wrong, in the order of the description."""

    @property
    def epoch(self) -> int:
        """Wall-clock time of virtual time 0, in ns since 1970."""
        return time.time_ns() if self.clock.epoch == "host" else self.clock.epoch

    @property
    def seed(self) -> int | None:
        """Seed of the machine's randomness; None: take the host's."""
        if self.boot.rng_seed == "host":
            return None
        return 0 if self.boot.rng_seed == "off" else self.boot.rng_seed

    @property
    def machine_mode(self) -> bool:
        """True where the guest itself starts in machine mode; else we are its firmware."""
        return self.boot.firmware is not None or self.boot.kernel is None

    def resolve(self, file: str) -> str:
        """The path to open for a file of this description; images are fetched when they must be.

        Raises ImageError.
        """
        if not file.startswith(IMAGE):
            return file
        from hypervisor.images import Images

        return str(Images().path(file))
