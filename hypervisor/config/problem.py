"""What is wrong with a description: one sentence each, with its place, all reported together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a description. Lines and columns count from 1; line 0 means the whole source."""

    file: str
    line: int = 0
    column: int = 0
    override: bool = False
    """True for `--set`: then `file` is the option as given, without its value."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def order(self) -> tuple[bool, str, int, int]:
        return (self.override, self.file, self.line, self.column)


@dataclass(frozen=True, slots=True)
class Problem:
    """`where` is the place, `sentence` what is wrong there and what would be right."""

    where: Mark
    sentence: str
    host: bool = False
    """True where the description may well be right, but a file it names cannot be read."""

    def __str__(self) -> str:
        return f"{self.where}: {self.sentence}"


class DescriptionError(Exception):
    """A description is wrong. `problems` holds everything found, in the order of their places."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        # Without repeats: an alias or an inherited file can show the same mistake twice.
        unique = dict.fromkeys(problems)
        self.problems = sorted(unique, key=lambda problem: problem.where.order)
        super().__init__("\n".join(map(str, self.problems)))

    @property
    def host_only(self) -> bool:
        """Whether all that is missing are files."""
        return all(problem.host for problem in self.problems)


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that `name` most likely meant."""
    import difflib  # here, because a right description never needs it

    names = list(valid)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if found:
        return found[0]
    lower = name.lower()
    return next((each for each in names if each.lower() == lower), None)


def suggestion(name: str, valid: Sequence[str], most: int = 8) -> str:
    """A sentence's end that helps: the nearest valid name, else all of them when they are few."""
    match = nearest(name, valid)
    if match is not None:
        return f"; did you mean '{match}'?"
    if 0 < len(valid) <= most:
        return f"; valid are {', '.join(valid)}"
    return ""
