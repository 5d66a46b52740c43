"""What can go wrong with guest images. Every message is one sentence for a user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ImageError(Exception):
    """An image cannot be named, fetched, read or built."""


class NoPackageSource(ImageError):
    """No Debian archive could be reached or trusted: the caller may offer something else."""


class PackageNotFound(ImageError):
    """The archive answers, but none of the suites holds the package."""


class DamagedPackage(ImageError):
    """A cached package was no longer what it had been, and has been dropped."""


class DescriptionError(ImageError):
    """A catalogue or a recipe is wrong. `errors` holds one sentence per mistake."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(self.errors))


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest of `names`, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
