"""Tracing a machine: events that a filter chooses, to a sink, from now until `close`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from hypervisor.device import BackendError
from hypervisor.events import KINDS, Event
from hypervisor.trace.file import TraceWriter
from hypervisor.trace.filter import Filter

if TYPE_CHECKING:
    from hypervisor.machine import Machine

_TEXT = (".txt", ".log")
_PERFETTO = (".pftrace", ".perfetto-trace", ".perfetto")


class Sink(Protocol):
    """Where events go."""

    def write(self, event: Event) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class TextWriter:
    """A line for each event: the virtual time in seconds, and what happened."""

    def __init__(self, file: TextIO | None, closes: bool = False) -> None:
        self._file = file
        self._closes = closes

    def write(self, event: Event) -> None:
        if self._file is not None:
            self._file.write(line_of(event) + "\n")

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        self.flush()
        if self._closes and self._file is not None:
            self._file.close()


def line_of(event: Event) -> str:
    """`12.345678900 irq uart0 raised`."""
    return f"{event.time // 1_000_000_000}.{event.time % 1_000_000_000:09d} {event}"


def sink_for(to: str | os.PathLike[str] | None, about: dict[str, Any]) -> Sink:
    """What writes to `to`: standard error (None or "-"), text (.txt, .log), Perfetto's format
    (.pftrace, .perfetto-trace, .perfetto), or else a trace file of our own. Raises BackendError."""
    name = None if to is None else os.fspath(to)
    if name in (None, "-"):
        return TextWriter(sys.stderr)
    if name.endswith(_TEXT):
        try:
            return TextWriter(open(name, "w", encoding="utf-8"), closes=True)
        except OSError as error:
            raise BackendError(f"the trace {name} cannot be written: {error.strerror}") from None
    if name.endswith(_PERFETTO):
        from hypervisor.trace.perfetto import PerfettoWriter

        return PerfettoWriter(name, about)
    return TraceWriter(name, about)


class Tracer:
    """A trace that is being made."""

    def __init__(
        self,
        machine: Machine,
        events: str | Filter,
        to: str | os.PathLike[str] | Callable[[Event], None] | None = None,
    ) -> None:
        """Trace the `events` that a filter chooses to a file (see `sink_for`) or a callable.
        Raises FilterError and BackendError."""
        self.filter = events if isinstance(events, Filter) else Filter.parse(events)
        self.to = to
        self._sink: Sink | None = None
        if callable(to):
            write: Callable[[Event], None] = to
        else:
            description = machine.description
            about = {
                "machine": description.machine,
                "events": self.filter.text,
                "kinds": list(KINDS),
            }
            self._sink = sink_for(to, about)
            write = self._sink.write
        self._log = machine.log
        self._subscriptions = [
            machine.events.subscribe(KINDS[kind], write, self.filter.where(kind))
            for kind in self.filter.kinds
            if kind in KINDS
        ]

    def flush(self) -> None:
        if self._sink is not None:
            self._sink.flush()

    def close(self) -> None:
        """Trace no more, and make the file whole. What cannot be written is said, not raised."""
        while self._subscriptions:
            self._subscriptions.pop().cancel()
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.close()
            except OSError as error:
                self._log(f"the trace {self.to} is not whole: {error.strerror}")
