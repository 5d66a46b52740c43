"""Options of a device in the machine description, and the value types they are written in."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(value: Any) -> Any:
    """`512M`, `64 KiB`, `4096` -> bytes; binary units."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+)\s*([KMGT]?)(?:i?B)?\s*", value, re.IGNORECASE)
        if match is None:
            raise ValueError(f"'{value}' is not a size such as 4096, 64K or 512M")
        return int(match[1]) * _UNITS[match[2].upper()]
    return value


_NANOSECONDS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


def parse_duration(value: Any) -> Any:
    """`100us`, `2 ms`, `5s` -> ns; a bare number is ns."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s)\s*", value)
        if match is None:
            raise ValueError(f"'{value}' is not a time such as 100us, 2ms or 5s")
        return int(float(match[1]) * _NANOSECONDS[match[2]])
    return value


def check_line_end(value: str) -> str:
    """`stdio`, `none` or `channel:NAME`."""
    if not re.fullmatch(r"stdio|none|channel:[\w.-]+", value):
        raise ValueError(f"'{value}' is no end of a serial line; say stdio, none or channel:NAME")
    return value


Address = Annotated[int, Field(ge=0, lt=1 << 56)]
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str), Field(ge=0)]
Duration = Annotated[
    int, BeforeValidator(parse_duration, json_schema_input_type=int | str), Field(ge=0)
]
LineEnd = Annotated[str, AfterValidator(check_line_end)]
"""The other end of a serial line: the console, nowhere, or `Machine.channels["NAME"]`."""


class FileRef(str):
    """A file named in a description: a host path, or `image:NAME/FILE` of the image catalogue."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(min_length=1)
        )


class Options(BaseModel):
    """Options every device has. A model's own `Options` derive from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(default="", description="device type, or ./file.py:Class of your own")
    at: Address | None = Field(default=None, description="guest-physical base address")
    irq: str | None = Field(default=None, description="interrupt input: CONTROLLER.NUMBER")
