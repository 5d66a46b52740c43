"""A trace as an SQLite database: a table for each kind of events, and `events` for all.

Every table has `n`, the event's number in the trace, and `time` in ns, besides the event's fields.
`latency` is a view: how long each interrupt line waited to be acknowledged.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable

from hypervisor.events import Event
from hypervisor.trace.file import fields_of, kind_of

_LATENCY = """
CREATE VIEW latency AS
SELECT line, count(*) AS count, min(latency) AS best, avg(latency) AS mean, max(latency) AS worst
FROM ack WHERE latency >= 0 GROUP BY line ORDER BY worst DESC
"""


def database(events: Iterable[Event], path: str = ":memory:") -> sqlite3.Connection:
    """Put events into a new database. Raises sqlite3.Error, and what reading the trace raises."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE events (n INTEGER PRIMARY KEY, time, kind, subject, text)")
    tables: dict[tuple[str, tuple[str, ...]], str] = {}
    for number, event in enumerate(events):
        kind, fields = kind_of(event), fields_of(event)
        row = (number, event.time, kind, event.subject, str(event))
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", row)
        key = (kind, tuple(fields))
        if key not in tables:
            tables[key] = _create(connection, kind, list(fields), set(tables.values()))
        marks = ", ".join("?" * (len(fields) + 2))
        values = (number, event.time, *map(_value, fields.values()))
        connection.execute(f'INSERT INTO "{tables[key]}" VALUES ({marks})', values)
    if "ack" in tables.values():
        connection.execute(_LATENCY)
    connection.commit()
    return connection


def tables_of(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Each table's or view's name and its columns."""
    rows = connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    return [
        (name, ", ".join(row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')))
        for (name,) in rows
        if not name.startswith("sqlite_")
    ]


def _create(connection: sqlite3.Connection, kind: str, fields: list[str], taken: set[str]) -> str:
    name = re.sub(r"\W", "_", kind)
    while name in taken or name in ("events", "latency"):
        name += "_"
    columns = ", ".join(f'"{field}"' for field in ["n", "time", *fields])
    connection.execute(f'CREATE TABLE "{name}" ({columns})')
    return name


def _value(value: object) -> object:
    """SQLite's integers have 64 bits with a sign; what is larger is written as hex text."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return f"{value:#x}"
    return value if isinstance(value, int | float | str | bytes | None) else str(value)
