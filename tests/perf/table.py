"""The results: rows with targets, as tables for the terminal, JSON and the README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

PEERS = {"bench": "QEMU", "gpu-bench": "native"}
"""The tables by their names in the README, and what stands beside ours in each."""


@dataclass(frozen=True)
class Row:
    """One figure: ours, the peer's where it has one, and the promise on it (None: information)."""

    name: str
    unit: str
    ours: float
    peer: float | None = None
    target: float | None = None
    of: Literal["ratio", "most", "least"] = "most"
    """What `target` bounds: the ratio to the peer's, or our figure from above or from below."""
    table: Literal["bench", "gpu-bench"] = "bench"

    @property
    def ratio(self) -> float | None:
        return None if not self.peer else self.ours / self.peer

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        if self.of == "ratio":
            return self.ratio is not None and self.ratio <= self.target
        return self.ours <= self.target if self.of == "most" else self.ours >= self.target

    @property
    def promise(self) -> str:
        if self.target is None:
            return ""
        bound = {"ratio": f"≤ {self.target:g}x", "most": "≤ ", "least": "≥ "}[self.of]
        return (
            bound
            if self.of == "ratio"
            else bound + self._with_unit(self.target, f"{self.target:,g}")
        )

    def cells(self) -> tuple[str, ...]:
        return (
            self.name,
            self._with_unit(self.ours),
            "" if self.peer is None else self._with_unit(self.peer),
            "" if self.ratio is None else f"{self.ratio:.2f}x",
            self.promise,
            {None: "", True: "met", False: "missed"}[self.met],
        )

    def data(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "met": self.met}

    def _with_unit(self, value: float, text: str | None = None) -> str:
        if text is None:
            text = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
        return f"{text} {self.unit}"


def tables(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each table that has any."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.table, []).append(row)
    return found


def _headings(rows: Sequence[Row]) -> tuple[str, ...]:
    return "what", "ours", PEERS[rows[0].table], "ratio", "target", ""


def as_text(rows: Sequence[Row]) -> str:
    """One table; columns, aligned."""
    lines = [_headings(rows), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, 4) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_markdown(rows: Sequence[Row], host: str) -> str:
    """A table for the README, misses in bold."""
    lines = [_line(_headings(rows)), "|---|---:|---:|---:|---|---|"]
    for row in rows:
        cells = row.cells()
        lines.append(_line((*cells[:-1], "**missed**" if row.met is False else cells[-1])))
    return "\n".join([*lines, "", host])


def put_in_readme(path: Path, table: str, text: str) -> None:
    """Replace what is between a table's two comments; ValueError where they are not."""
    begin, end = f"<!-- {table}:begin -->", f"<!-- {table}:end -->"
    old = path.read_text(encoding="utf-8")
    before, is_begun, rest = old.partition(begin)
    _, is_ended, after = rest.partition(end)
    if not is_begun or not is_ended:
        raise ValueError(f"{path} has no section from {begin} to {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
