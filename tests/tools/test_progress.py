"""Progress: lines without a terminal, bars on one."""

import io

from rich.text import Text

from tools import progress as module
from tools.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_each_task_is_said_once(capfd):
    with progress() as report:
        for fraction in (0.0, 0.5, 1.0):
            report("fetching it", fraction)
        report("done [all]", None)

    assert capfd.readouterr().err == "fetching it\ndone [all]\n"


def test_terminal_shows_a_bar_and_remarks_as_they_are(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(module.sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")

    with progress() as report:
        report("[red]fetching[/red]", 0.25)
        report("a [remark]", None)
        report("[red]fetching[/red]", 1.0)

    shown = Text.from_ansi(screen.getvalue()).plain
    assert "[red]fetching[/red]" in shown
    assert "a [remark]" in shown
    assert "100%" in shown


def test_nothing_is_shown_where_nothing_is_reported(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(module.sys, "stderr", screen)

    with progress():
        """Work that has nothing to say."""

    assert screen.getvalue() == ""
