"""Parts of an image that installed packages bring, by name: a recipe's `parts`.

They are found as device models are, through an entry-point group: `hypervisor.image_parts`.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from hypervisor.config.problem import nearest
from hypervisor.images.errors import ImageError

GROUP = "hypervisor.image_parts"


class Part(Protocol):
    """Files that are made for an architecture (Debian's name)."""

    def key(self, architecture: str) -> str:
        """A digest of all that decides about the files."""

    def build(self, architecture: str, folder: Path) -> dict[str, tuple[Path, int]]:
        """Make the files below `folder`; where each goes in the guest, and its permissions.

        Raises RuntimeError with a sentence that says what is in the way.
        """


def part(name: str) -> Part:
    """The part of that name. Raises ImageError."""
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in known:
        match = nearest(name, sorted(known))
        meant = f"; did you mean '{match}'?" if match else ""
        raise ImageError(f"there is no image part '{name}'{meant}")
    made: Part = known[name].load()()
    return made


def key(names: list[str], architecture: str) -> dict[str, str]:
    """What decides about the parts of these names. Raises ImageError."""
    return {name: part(name).key(architecture) for name in names}


def build(name: str, architecture: str, folder: Path) -> dict[str, tuple[Path, int]]:
    """The part's files by their place in the guest. Raises ImageError."""
    folder.mkdir()
    try:
        return part(name).build(architecture, folder)
    except RuntimeError as error:
        raise ImageError(f"the image part '{name}' cannot be made: {error}") from None
