"""Faults that a description asks for: what goes wrong, where, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hypervisor.config.models import Part
from hypervisor.device import Duration, Register, registers_of
from hypervisor.device.device import Device


class Fault(Part):
    """What every fault says: at which device, and which of the occasions it takes.

    An occasion is an access, a raised interrupt, a request or a packet that the fault is about, at
    or after `at`. Occasions are numbered from 1.
    """

    needs: ClassVar[str] = ""
    """What a device must have for it: `registers`, `interrupt`, or one of `Device.fault_points`."""

    kind: str = Field(description="what goes wrong, as in the headings below")
    device: str = Field(description="name of the device that it happens to")
    at: Duration = Field(
        default=0,
        description="virtual time from which on it may happen",
        json_schema_extra={"default": "0s"},
    )
    nth: int = Field(default=1, ge=1, description="number of the first occasion that it may take")
    count: Annotated[int, Field(ge=1)] | Literal["all"] | None = Field(
        default=None,
        description="how often it happens at most; unless given once, with a probability all",
    )
    probability: float = Field(
        default=1.0, gt=0, le=1, description="share of the occasions that it takes"
    )
    seed: int = Field(
        default=0, ge=0, lt=1 << 64, description="which occasions these are; the same in each run"
    )

    @property
    def limit(self) -> int | None:
        """How often it happens at most; None: any number of times."""
        if self.count is None:
            return 1 if self.probability == 1 else None
        return None if self.count == "all" else self.count


class RegisterFault(Fault):
    """The guest reads another value from a register. The device is read all the same."""

    needs = "registers"
    kind: Literal["register"] = "register"
    name: str = Field(description="the register's name, such as LSR, or PRIORITY[3]")
    value: int = Field(ge=0, lt=1 << 64, description="what the guest reads")
    mask: int | None = Field(
        default=None, ge=1, lt=1 << 64, description="the bits that are replaced; by default all"
    )


class LostInterrupt(Fault):
    """A rise of a device's interrupt line does not reach the interrupt controller; the line must
    fall before it can rise again."""

    needs = "interrupt"
    kind: Literal["interrupt.lost"] = "interrupt.lost"


class DelayedInterrupt(Fault):
    """A rise of a device's interrupt line reaches the interrupt controller later, if the line is
    still high by then."""

    needs = "interrupt"
    kind: Literal["interrupt.delayed"] = "interrupt.delayed"
    delay: Duration = Field(description="how much later")


class SpuriousInterrupt(Fault):
    """The interrupt controller sees a device's line rise though the device did not raise it. The
    occasions are the time `at`, and from there on one each `every`."""

    needs = "interrupt"
    kind: Literal["interrupt.spurious"] = "interrupt.spurious"
    every: Duration | None = Field(
        default=None, ge=1_000, description="time between occasions; unless given there is one"
    )
    width: Duration = Field(
        default=10_000,
        ge=1,
        description="how long the line stays high",
        json_schema_extra={"default": "10us"},
    )


Operation = Literal["any", "read", "write", "flush", "discard"]


class _DiskFault(Fault):
    needs = "requests"
    operation: Operation = Field(default="any", description="the requests that it is about")
    sector: int | None = Field(
        default=None,
        ge=0,
        description="only reads and writes that touch this sector of 512 bytes",
    )
    sectors: int = Field(default=1, ge=1, description="how many sectors there are from `sector` on")

    def concerns(self, operation: str, offset: int, size: int) -> bool:
        """Whether it is about a request at `offset` bytes, of `size` bytes."""
        if self.operation not in ("any", operation):
            return False
        if self.sector is None:
            return True
        start, end = self.sector * 512, (self.sector + self.sectors) * 512
        return operation in ("read", "write") and offset < end and start < offset + size


class DiskError(_DiskFault):
    """A disk answers a request with an I/O error; the medium is neither read nor written."""

    kind: Literal["disk.error"] = "disk.error"


class DiskDelay(_DiskFault):
    """A disk answers a request later."""

    kind: Literal["disk.delay"] = "disk.delay"
    delay: Duration = Field(description="how much later")


class LostPacket(Fault):
    """A packet is lost between a network interface and its link."""

    needs = "packets"
    kind: Literal["packet.lost"] = "packet.lost"
    direction: Literal["any", "sent", "received"] = Field(
        default="any", description="packets that the guest sends, or those that it receives"
    )


class _GpuFault(Fault):
    needs = "commands"


class GpuAllocationFailure(_GpuFault):
    """A GPU has no memory for a buffer or an image: the guest's command fails with
    CL_MEM_OBJECT_ALLOCATION_FAILURE."""

    kind: Literal["gpu.allocation"] = "gpu.allocation"


class GpuDelayedFence(_GpuFault):
    """A submission to a GPU completes later, and with it what follows on its ring."""

    kind: Literal["gpu.fence"] = "gpu.fence"
    delay: Duration = Field(description="how much later")


class GpuLostWorker(_GpuFault):
    """The process that computes for a guest's context ends when it is about to get a command: the
    occasions are the commands of all contexts. The context is lost (CL_OUT_OF_RESOURCES)."""

    kind: Literal["gpu.worker"] = "gpu.worker"


FAULTS: dict[str, type[Fault]] = {
    str(model.model_fields["kind"].default): model
    for model in (
        *(RegisterFault, LostInterrupt, DelayedInterrupt, SpuriousInterrupt),
        *(DiskError, DiskDelay, LostPacket),
        *(GpuAllocationFailure, GpuDelayedFence, GpuLostWorker),
    )
}
"""The kinds of fault."""


def register_named(model: type[Device], name: str) -> tuple[Register, int] | None:
    """The register of a device's class by its instance's name, and its index in an array."""
    base, _, rest = name.partition("[")
    index = rest.removesuffix("]")
    for register in registers_of(model):
        if register.name == base and register.is_array == bool(rest):
            if not rest:
                return register, 0
            if rest == f"{index}]" and index.isascii() and index.isdigit() and len(index) < 7:
                return (register, int(index)) if int(index) < register.count else None
    return None


def register_names(model: type[Device]) -> Sequence[str]:
    """Names to choose from, one for each array."""
    return [register.instance_name(0) for register in registers_of(model)]
