"""Plain tables: aligned columns, the header bold on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of as many cells as the header has; the last column may be of any width."""
    widths = [max(len(row[n]) for row in (header, *rows)) for n in range(len(header) - 1)]
    click.echo(click.style(_line(header, widths), bold=True))
    for row in rows:
        click.echo(_line(row, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
    return "  ".join([*padded, cells[-1]]).rstrip()
