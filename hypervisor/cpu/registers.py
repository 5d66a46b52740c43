"""A hart's registers, by the names of its architecture's specification."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping


class Registers(Mapping[str, int]):
    """Read and set as a mapping; values are unsigned. Iteration gives what a snapshot carries, in
    the order in which it must be set; other names may be known besides."""

    @abstractmethod
    def __setitem__(self, name: str, value: int) -> None: ...
