"""What a description may say about a GPU's display, whichever front end it has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gpu.display import edid
from gpu.display.scanout import Scanout
from hypervisor.device import Board, Size

if TYPE_CHECKING:
    from gpu.display.vnc import VncServer

LOOPBACK = "127.0.0.1"
MAX_PASSWORD = 8
"""Characters that VNC's authentication uses."""


class ScreenOptions(BaseModel):
    """What the machine's user sees of a GPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=1024, ge=64, le=edid.MAX_SIDE, description="pixels in a row")
    height: int = Field(default=768, ge=64, le=edid.MAX_SIDE, description="rows of pixels")
    vnc: str | None = Field(
        default=None,
        description="serve VNC there: HOST:PORT, or PORT of the loopback; port 0 picks one",
    )
    password: str | None = Field(
        default=None, description="password that VNC clients must know, 8 characters at most"
    )

    @field_validator("vnc", mode="before")
    @classmethod
    def _is_address(cls, value: Any) -> Any:
        text = str(value) if isinstance(value, int) else value
        if isinstance(text, str):
            match = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[\w.-]*):)?(\d{1,5})", text)
            if match is None or int(match[2]) > 0xFFFF:
                raise ValueError(f"'{text}' is no address such as 127.0.0.1:5900 or 5900")
        return text

    @field_validator("password")
    @classmethod
    def _fits_the_scheme(cls, value: str | None) -> str | None:
        if value is not None and not 0 < len(value.encode("latin-1", "replace")) <= MAX_PASSWORD:
            raise ValueError(f"VNC uses {MAX_PASSWORD} characters of a password; give 1 to 8")
        if value is not None and not all(ord(letter) < 256 for letter in value):
            raise ValueError("VNC's passwords are of Latin-1 characters")
        return value

    @model_validator(mode="after")
    def _is_guarded(self) -> ScreenOptions:
        address = self.address
        if address is not None and self.password is None and not _is_loopback(address[0]):
            raise ValueError(
                f"VNC on {address[0]} can be reached from other hosts: give it a password, "
                f"or say {LOOPBACK}"
            )
        return self

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port that VNC listens on; None: there is none."""
        if self.vnc is None:
            return None
        host, _, port = self.vnc.rpartition(":")
        return host.strip("[]") or LOOPBACK, int(port)


class DisplayOptions(ScreenOptions):
    """The same of a GPU that holds pictures of the guest's."""

    memory: Size = Field(
        default=256 << 20, gt=0, description="host memory for the guest's pictures, at most"
    )


def serve(name: str, board: Board, options: ScreenOptions, scanout: Scanout) -> VncServer | None:
    """The VNC server that the options ask for. BackendError where it cannot listen."""
    if options.address is None or board.offline:
        return None
    from gpu.display.vnc import VncServer  # asyncio and a cipher, for those who want them

    return VncServer(name, board, scanout, options.address, options.password)


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
