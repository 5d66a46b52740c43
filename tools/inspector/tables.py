"""Tables that are filled anew again and again: rows keep their place, changes are marked."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widgets import DataTable

CHANGED = "bold black on yellow"


class LiveTable(DataTable[Text]):
    """A table of texts. A cell that differs from the last time is marked until the next."""

    def __init__(self, columns: Sequence[str], *, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=True)
        self._names = tuple(columns)
        self._before: dict[str, tuple[str, ...]] = {}

    def on_mount(self) -> None:
        for name in self._names:
            self.add_column(name, key=name)

    def show(self, rows: Sequence[Sequence[str]]) -> None:
        """Fill it; the first cell of a row is its name."""
        wanted = {row[0]: tuple(row) for row in rows}
        if list(wanted) != list(self._before):
            self.clear()
            for name, row in wanted.items():
                self.add_row(*map(Text, row), key=name)
            self._before = wanted
            return
        for name, row in wanted.items():
            for column, value, old in zip(self._names, row, self._before[name], strict=True):
                text = Text(value, style=CHANGED if value != old else "")
                shown = self.get_cell(name, column)
                if (shown.plain, shown.style) != (text.plain, text.style):
                    self.update_cell(name, column, text, update_width=True)
        self._before = wanted

    def forget(self) -> None:
        """What comes next is another thing's, and not a change."""
        self.clear()
        self._before = {}
