"""Progress of long work on standard error: a bar on a terminal, else a line for each task."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

Progress = Callable[[str, float | None], None]
"""`progress(task, fraction)`: fraction from 0.0 to 1.0, or None for a remark."""


@contextmanager
def progress() -> Iterator[Progress]:
    """What long work reports to, while the block runs."""
    if sys.stderr is not None and sys.stderr.isatty():
        bars = _Bars()
        try:
            yield bars
        finally:
            bars.close()
    else:
        yield _Lines()


class _Lines:
    """Each task once."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, task: str, fraction: float | None) -> None:
        if task != self._said:
            self._said = task
            click.echo(task, err=True)


class _Bars:
    """rich's bars; nothing of it is imported until there is something to show."""

    def __init__(self) -> None:
        self._display: Any = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, task: str, fraction: float | None) -> None:
        display = self._started()
        if fraction is None:
            display.console.print(task, markup=False, highlight=False)
            return
        if task not in self._tasks:
            self._tasks[task] = display.add_task(_plain(task), total=1.0)
        display.update(self._tasks[task], completed=fraction)

    def _started(self) -> Any:
        if self._display is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            self._display = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._display.start()
        return self._display

    def close(self) -> None:
        if self._display is not None:
            self._display.stop()


def _plain(text: str) -> str:
    """`text` with nothing in it that rich would take for markup."""
    from rich.markup import escape

    return escape(text)
