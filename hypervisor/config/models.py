"""What a machine description may say, apart from its devices' own options."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hypervisor.device import Address, FileRef, Size

PAGE = 0x1000
MAX_RAM = 64 << 30
DEFAULT_EPOCH = 1_704_067_200_000_000_000
"""2024-01-01T00:00:00Z in ns since 1970: the same day in every run."""
_MACHINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,+-]{0,63}")
_DEVICE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}")
_NOT_TEXT = "must be a time such as 2024-01-01T00:00:00Z, or host"


def parse_epoch(value: Any) -> Any:
    """`2024-01-01T00:00:00Z` -> ns since 1970; without a zone it is UTC. `host` stays."""
    if not isinstance(value, str):
        raise ValueError(_NOT_TEXT)
    if value == "host":
        return value
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{_NOT_TEXT}, not '{value}'") from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    nanoseconds = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    if not 0 <= nanoseconds < 1 << 63:
        raise ValueError(f"must be a time from 1970 to 2262, not '{value}'")
    return nanoseconds


def _page_multiple(value: int) -> int:
    if value % PAGE:
        raise ValueError(f"must be a multiple of the page size {PAGE:#x}, not {value:#x}")
    return value


def _machine_name(value: str) -> str:
    if not _MACHINE_NAME.fullmatch(value):
        raise ValueError("must be a name of letters, digits and '-', such as riscv64-virt")
    return value


def _device_name(value: str) -> str:
    if not _DEVICE_NAME.fullmatch(value):
        raise ValueError(
            "a device's name begins with a letter and has at most 31 letters, digits, '_' and '-'"
        )
    return value


def _auto_is_none(value: Any) -> Any:
    return None if value == "auto" else value


class Part(BaseModel):
    """Base of every part of a description: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Cpu(Part):
    """The processor."""

    arch: Literal["riscv64", "aarch64"] = Field(description="instruction set")
    harts: int = Field(default=1, ge=1, le=8, description="number of harts (cores)")


class Region(Part):
    """A range of guest-physical memory."""

    at: Annotated[Address, AfterValidator(_page_multiple)] = Field(
        description="guest-physical base address"
    )
    size: Annotated[Size, Field(ge=PAGE, le=MAX_RAM), AfterValidator(_page_multiple)] = Field(
        description="bytes, such as 512M"
    )


class Memory(Part):
    """The machine's memory."""

    ram: Region = Field(description="main memory")


class ClockOptions(Part):
    """Virtual time, the only time that the guest sees."""

    pace: Literal["auto", "free", "realtime"] = Field(
        default="auto",
        description="auto: idle time is skipped while nothing outside can arrive; free: it is "
        "always skipped; realtime: busy time too keeps to the wall clock",
    )
    epoch: Annotated[
        Literal["host"] | int, BeforeValidator(parse_epoch, json_schema_input_type=str)
    ] = Field(
        default=DEFAULT_EPOCH,
        description="date and time when the machine starts, such as 2024-01-01T00:00:00Z, or host",
        json_schema_extra={"default": "2024-01-01T00:00:00Z"},
    )
    timebase: Literal[10_000_000] = Field(
        default=10_000_000, description="rate of the architecture's time counter, Hz"
    )


class Blob(Part):
    """A file that is put into memory."""

    file: FileRef = Field(description="its bytes are loaded as they are")
    at: Address = Field(description="guest-physical address of the first byte")


class Boot(Part):
    """What runs first. At least `kernel`, `firmware` or `entry` is needed."""

    kernel: FileRef | None = Field(
        default=None, description="Linux image, ELF program or raw binary; its kind is detected"
    )
    initrd: FileRef | None = Field(default=None, description="initial RAM disk for the kernel")
    command_line: str = Field(default="", max_length=4096, description="the kernel's arguments")
    firmware: FileRef | None = Field(
        default=None,
        description="firmware, which runs first: in machine mode at the start of RAM (riscv64), or "
        "at EL1 with the device tree there (aarch64)",
    )
    dtb: Annotated[FileRef | None, BeforeValidator(_auto_is_none, json_schema_input_type=str)] = (
        Field(default=None, description="device tree blob; auto generates it from this description")
    )
    load: tuple[Blob, ...] = Field(
        default=(), max_length=64, description="more files to put into memory"
    )
    entry: Address | None = Field(
        default=None, description="first instruction's address, if the image does not say"
    )
    rng_seed: Annotated[int, Field(ge=0, lt=1 << 64)] | Literal["host", "off"] = Field(
        default=1,
        description="seed of all randomness the guest gets; host: different in each run; "
        "off: no seed in the device tree",
    )


def _port(value: str | None) -> str | None:
    if value is not None:
        _, _, port = value.rpartition(":")
        if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise ValueError(f"must be HOST:PORT, or a port of the loopback, not '{value}'")
    return value


class DebugOptions(Part):
    """Tools that a run comes with. They change nothing in it."""

    gdb: Annotated[str | None, AfterValidator(_port)] = Field(
        default=None, description="where GDB may connect: HOST:PORT, or :PORT for the loopback"
    )
    wait: bool = Field(default=False, description="run nothing before GDB says so")


class Trace(Part):
    """A trace that is made of every run."""

    events: str = Field(description="filter: which events, such as `mmio:uart0,interrupts`")
    to: str | None = Field(
        default=None,
        description="file: .pftrace for Perfetto, .txt for text, else one for `hypervisor trace`; "
        "standard error unless given",
    )


class Document(Part):
    """A machine description."""

    base: str | None = Field(
        default=None, description="description to inherit from; this file's values win"
    )
    machine: Annotated[str, AfterValidator(_machine_name)] = Field(
        description="name of the machine, shown to the guest"
    )
    cpu: Cpu
    memory: Memory
    clock: ClockOptions = ClockOptions()
    boot: Boot = Boot()
    console: str | None = Field(
        default=None,
        description="device whose serial line is the machine's console; by default the one "
        "whose backend is stdio",
    )
    debug: DebugOptions = DebugOptions()
    strict: bool = Field(
        default=False, description="stop where the guest touches what does not exist"
    )
    devices: dict[Annotated[str, AfterValidator(_device_name)], dict[str, Any]] = Field(
        default={}, description="name of each device: its type and options"
    )
    faults: tuple[dict[str, Any], ...] = Field(
        default=(), max_length=256, description="what is to go wrong, for testing drivers"
    )
    trace: tuple[Trace, ...] = Field(default=(), description="traces to make of every run")


TOOLS = ("debug", "trace")
"""What watches a machine and is no part of it: machines that differ in it only are the same."""
