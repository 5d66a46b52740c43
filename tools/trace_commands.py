"""`hypervisor trace`: what there is to do with a trace file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from tools.errors import HostError

if TYPE_CHECKING:
    import sqlite3

    from hypervisor.events import Event
    from hypervisor.trace import TraceReader


class _Time(click.ParamType[int]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from hypervisor.device.options import parse_duration

        try:
            found: int = parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return found


_events = click.option("--events", metavar="FILTER", help="Those that a filter chooses.")
_from = click.option("--from", "begin", type=_Time(), default="0s", metavar="TIME", help="As 1.5s.")
_to = click.option("--to", "end", type=_Time(), metavar="TIME", help="Up to this virtual time.")


@click.group()
def trace() -> None:
    """Show, filter, compare and query traces."""


@trace.command()
@click.argument("file", metavar="TRACE")
@_events
@_from
@_to
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N only.")
def show(file: str, events: str | None, begin: int, end: int | None, limit: int | None) -> None:
    """Print a trace, an event a line: virtual time in seconds, and what happened."""
    from hypervisor.trace import TraceReader
    from hypervisor.trace.tracer import line_of

    with TraceReader(file) as reader:
        for event in islice(_chosen(reader, events, begin, end), limit):
            click.echo(line_of(event))


@trace.command(name="filter")
@click.argument("source", metavar="TRACE")
@click.argument("target", metavar="TO")
@_events
@_from
@_to
def filter_(source: str, target: str, events: str | None, begin: int, end: int | None) -> None:
    """Write a part of a trace, or all of it in another form.

    TO is as with `run --trace-to`: .pftrace for Perfetto, .txt for text, else a trace file.
    """
    import os

    from hypervisor.trace import TraceReader, sink_for

    if os.path.exists(target) and os.path.samefile(source, target):
        raise click.BadParameter("is the trace itself", param_hint="'TO'")
    with TraceReader(source) as reader:
        sink = sink_for(target, reader.about)
        count = 0
        try:
            for event in _chosen(reader, events, begin, end):
                sink.write(event)
                count += 1
            sink.close()
        except OSError as error:
            raise HostError(f"{target} cannot be written: {error.strerror}") from None
    click.echo(f"{target}: {count} of {reader.count} events")


@trace.command()
@click.argument("first")
@click.argument("second")
@_events
@click.option("--ignore-times", is_flag=True, help="Compare what happened, not when.")
def diff(first: str, second: str, events: str | None, ignore_times: bool) -> int:
    """Find the first event at which two traces differ.

    Exit code: 0 they are the same; 1 they differ.
    """
    from hypervisor.trace import TraceReader
    from hypervisor.trace.diff import first_difference
    from hypervisor.trace.tracer import line_of

    with TraceReader(first) as one, TraceReader(second) as other:
        found = first_difference(
            _chosen(one, events, 0, None), _chosen(other, events, 0, None), times=not ignore_times
        )
        if found is None:
            click.echo(f"the traces are the same: {one.count} events")
            return 0
    click.echo(f"the first {found.index} events are the same, then they differ:")
    for event in found.before:
        click.echo(f"    {line_of(event)}")
    for mark, colour, last in (("-", "red", found.first), ("+", "green", found.second)):
        said = line_of(last) if last is not None else "(the trace ends here)"
        click.secho(f"  {mark} {said}", fg=colour)
    return 1


@trace.command()
@click.argument("file", metavar="TRACE")
@click.argument("query", required=False)
@click.option("--save", metavar="FILE.db", help="Keep the database in a file.")
def sql(file: str, query: str | None, save: str | None) -> None:
    """Query a trace with SQL (SQLite's). Without QUERY, list the tables and their columns."""
    import os
    import sqlite3

    from hypervisor.trace import TraceReader
    from hypervisor.trace.database import database, tables_of
    from tools.table import print_table

    if save is not None and os.path.exists(save):
        raise click.BadParameter(f"{save} exists already", param_hint="'--save'")
    with TraceReader(file) as reader:
        try:
            connection = database(reader, save or ":memory:")
        except sqlite3.Error as error:
            raise HostError(f"{save or 'the database'} cannot be written: {error}") from None
    if query is None:
        print_table(("TABLE", "COLUMNS"), tables_of(connection))
        return
    header, rows = _ask(connection, query)
    if header:
        print_table(header, [[_cell(value) for value in row] for row in rows])


def _ask(connection: sqlite3.Connection, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    import sqlite3

    try:
        cursor = connection.execute(query)
        return [each[0] for each in cursor.description or ()], cursor.fetchall()
    except (sqlite3.Error, sqlite3.Warning) as error:
        said = f"{error}; without a query the tables are listed"
        raise click.BadParameter(said, param_hint="'QUERY'") from None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _chosen(
    reader: TraceReader, events: str | None, begin: int, end: int | None
) -> Iterator[Event]:
    from hypervisor.trace import Filter
    from hypervisor.trace.file import kind_of

    choice = None
    if events is not None:
        choice = Filter.parse(events, reader.about.get("kinds", ()))
    for event in reader:
        if event.time < begin or (end is not None and event.time > end):
            continue
        if choice is None or choice.chooses(kind_of(event), event.subject):
            yield event
