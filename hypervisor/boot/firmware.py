"""The built-in firmware beneath a guest's kernel, as the machine sees it: SBI or PSCI."""

from __future__ import annotations

from typing import Any, Protocol


class Firmware(Protocol):
    """What answers harts' calls."""

    name: str
    """The interface's: `sbi`, `psci`."""
    calls: dict[str, int]
    """How often each function was called, by name."""

    def pending(self, hart: Any, /) -> tuple[str, int]:
        """The name and the number of the function that `hart` is about to have answered."""

    def call(self, hart: Any, /) -> None:
        """Answer the call that `hart` has just made."""

    def reset(self) -> None: ...
    def save(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any], /) -> None: ...
