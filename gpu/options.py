"""What a description may say about a virtual GPU, whichever front end it has."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hypervisor.device.options import Duration, Options, Size

Timing = Literal["modelled", "strict", "host"]


class OpenClOptions(BaseModel):
    """Which of the host's OpenCL devices computes, and what a guest may take of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    platform: str = Field(
        default="auto",
        description="part of the OpenCL platform's name; auto: the first, Oclgrind last",
    )
    device: str = Field(
        default="auto", description="auto, cpu, gpu, or part of the OpenCL device's name"
    )
    memory: Size = Field(
        default=1 << 30, ge=1 << 20, description="bytes of device memory that the guest may use"
    )
    build_timeout: Duration = Field(
        default=60_000_000_000,
        ge=10_000_000,
        description="host time that building one program may take before it has failed",
    )
    sandbox: Literal["auto", "required"] = Field(
        default="auto",
        description="what to do where the host's kernel lacks a part of the worker's sandbox: "
        "auto: say so and go on; required: have no device",
    )
    timeout: Duration = Field(
        default=5_000_000_000,
        ge=10_000_000,
        description="host time that one command may take before its context is ended",
    )


class TimingModel(BaseModel):
    """What commands cost in virtual time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    launch: Duration = Field(default=10_000, description="each command")
    item: int = Field(default=1000, ge=0, description="each work-item, in ps")
    bandwidth: int = Field(
        default=10_000_000_000, gt=0, description="bytes per second of copies and fills"
    )
    build: Duration = Field(default=20_000_000, description="building a program")


class GpuOptions(Options):
    """Options of every front end."""

    opencl: OpenClOptions = Field(
        default=OpenClOptions(), description="the host's OpenCL device, and limits"
    )
    isolation: Literal["shared", "strict"] = Field(
        default="shared",
        description="shared: the worker maps granted guest memory; strict: it gets copies",
    )
    timing: Timing = Field(
        default="modelled",
        description="modelled: completions at modelled virtual times; strict: the machine also "
        "waits at each submission; host: when the host is done",
    )
    model: TimingModel = Field(
        default=TimingModel(), description="costs in virtual time, for timing modelled and strict"
    )
    coalesce: Duration = Field(
        default=0,
        description="completions within so long of each other are signalled together",
    )
    capture: str | None = Field(
        default=None, description="file that all commands are written to, for `hypervisor gpu`"
    )
