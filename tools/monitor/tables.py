"""How monitors write tables, times and fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells, aligned; the last column may be of any width."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def seconds(nanoseconds: int) -> str:
    """`1.234567890 s`."""
    return f"{nanoseconds // 1_000_000_000}.{nanoseconds % 1_000_000_000:09d} s"


def fields_of(fields: Mapping[str, int]) -> str:
    """`THRE TEMT WLS=0x3`: what is not zero."""
    return " ".join(n if v == 1 else f"{n}={v:#x}" for n, v in fields.items() if v)
