"""Tables that are filled anew again and again: rows keep their place, changes are marked."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widgets import DataTable

CHANGED = "bold black on yellow"
MARKED = 4
"""How many looks a change stays marked for."""


class LiveTable(DataTable[Text]):
    """A table of texts. A cell that differs from the last time is marked for a while."""

    def __init__(self, columns: Sequence[str], *, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=True)
        self._names = tuple(columns)
        self._before: dict[str, tuple[str, ...]] = {}
        self._marks: dict[tuple[str, str], int] = {}

    def on_mount(self) -> None:
        for name in self._names:
            self.add_column(name, key=name)

    def show(self, rows: Sequence[Sequence[str]]) -> None:
        """Fill it; the first cell of a row is its name."""
        wanted = {row[0]: tuple(row) for row in rows}
        if list(wanted) != list(self._before):
            self.clear()
            self._marks.clear()
            for name, row in wanted.items():
                self.add_row(*map(Text, row), key=name)
            self._before = wanted
            return
        for name, row in wanted.items():
            for column, value, old in zip(self._names, row, self._before[name], strict=True):
                left = MARKED if value != old else self._marks.get((name, column), 0) - 1
                self._marks[name, column] = left
                text = Text(value, style=CHANGED if left > 0 else "")
                shown = self.get_cell(name, column)
                if (shown.plain, shown.style) != (text.plain, text.style):
                    self.update_cell(name, column, text, update_width=True)
        self._before = wanted

    def forget(self) -> None:
        """What comes next is another thing's, and not a change."""
        self.clear()
        self._before = {}
