"""Memory as text: `x/8xw`, as debuggers have it."""

from __future__ import annotations

import re

from tools.monitor.errors import MonitorError

_FORMAT = re.compile(r"(\d*)([xduci]?)([bhwg]?)")
_SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}
_MOST = 65536
_LINE = 16


def parse_format(text: str) -> tuple[int, str, int]:
    """Count, letter (x, d, u, c or i) and bytes a value of `NFU`. Raises MonitorError."""
    match = _FORMAT.fullmatch(text)
    count = int(match[1] or 1) if match and len(match[1]) < 9 else 0
    if match is None or not 0 < count <= _MOST:
        raise MonitorError(
            f"'/{text}' is no format: a count up to {_MOST}, one of x d u c i, one of b h w g"
        )
    letter = match[2] or "x"
    return count, letter, 1 if letter == "c" else _SIZES[match[3] or "w"]


def dump(data: bytes, address: int, letter: str, size: int) -> str:
    """Values of `size` bytes, 16 bytes a line."""
    lines = []
    for at in range(0, len(data), _LINE):
        part = data[at : at + _LINE]
        values = [part[n : n + size] for n in range(0, len(part), size)]
        shown = " ".join(_value(value, letter) for value in values)
        lines.append(f"{address + at:016x}: {shown}")
    return "\n".join(lines)


def _value(data: bytes, letter: str) -> str:
    if letter == "c":
        return repr(chr(data[0])) if 32 <= data[0] < 127 else f"'\\x{data[0]:02x}'"
    number = int.from_bytes(data, "little", signed=letter == "d")
    return f"{number:0{2 * len(data)}x}" if letter == "x" else str(number)
