"""What a runtime that checks kernels found wrong with them.

Oclgrind writes a report into its log for each access that is out of bounds, races, or reads what
nobody wrote: a line that says what, and indented ones with the kernel, the work-items and the
places in the source. A loop makes thousands that differ in addresses only: those are one finding.
"""

from __future__ import annotations

import os
import re

LOG = "reports"
"""The name of Oclgrind's log in the worker's folder."""
SETTINGS = {
    "OCLGRIND_DATA_RACES": "1",
    "OCLGRIND_UNINITIALIZED": "1",
    # So that what it finds, and what a kernel that races computes, is the same each time.
    "OCLGRIND_NUM_THREADS": "1",
    # Of one context. It says so in its log when there are more.
    "OCLGRIND_MAX_ERRORS": "10000",
}
"""Oclgrind's options, as environment variables."""
MOST = 64
"""Findings that are told at once."""
_MOST_BYTES = 16 << 20
_ADDRESS = re.compile(r" address (0x[0-9a-f]+)")
_KERNEL = re.compile(r"^\tKernel: (\S+)", re.MULTILINE)
_ITEM = re.compile(r"^\t(?:First e|Second e|E)ntity: +Global(\([\d,]+\))", re.MULTILINE)
_PLACE = re.compile(r"^\tAt line (\d+)(?: \(column (\d+)\))?", re.MULTILINE)

Finding = list[str | int]
"""The kernel's name, what is wrong, an example of it, and how often it was found."""


class Reports:
    """Reads a log that grows."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._at = 0
        self.exists = os.path.exists(path)
        """Whether the runtime writes one."""

    def take(self) -> list[Finding]:
        """What was found since the last call."""
        size = os.stat(self._path).st_size
        if size == self._at:
            return []
        with open(self._path, "rb") as file:
            file.seek(self._at)
            data = file.read(_MOST_BYTES)
        self._at = size
        return findings(data.decode(errors="replace"))


def findings(log: str) -> list[Finding]:
    """A log in short."""
    found: dict[tuple[str, str], Finding] = {}
    for report in re.split(r"^(?=[^\s])", log, flags=re.MULTILINE):
        head = report.partition("\n")[0].strip()
        if not head:
            continue
        address, kernel, place = (each.search(report) for each in (_ADDRESS, _KERNEL, _PLACE))
        what = _ADDRESS.sub("", head) + _at(place)
        example = [f"address {address[1]}"] if address else []
        example += [f"work-item {item}" for item in _ITEM.findall(report)[:2]]
        name = kernel[1] if kernel else ""
        finding = found.setdefault((name, what), [name, what, ", ".join(example), 0])
        finding[3] = int(finding[3]) + 1
    return list(found.values())[:MOST]


def _at(place: re.Match[str] | None) -> str:
    if place is None:
        return ""
    return f", line {place[1]}" + (f", column {place[2]}" if place[2] else "")
