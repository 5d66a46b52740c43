"""A context as plain data: what snapshots carry.

All that was sent is finished at the host first, and what the device's memory has is fetched, so
all is as it will be, also where the worker is lost over that. What is not to be seen
by the guest yet keeps its virtual time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from gpu.core.blobs import Blob
from gpu.core.context import Context
from gpu.core.objects import (
    Argument,
    Buffer,
    Event,
    Image,
    Kernel,
    Mapping,
    Object,
    Program,
    Queue,
)
from gpu.core.saved_fields import PLAIN, WORK
from gpu.core.work import Operation, Submission, Work
from gpu.host.builds import Build
from gpu.opencl import Status
from gpu.worker.printed import MOST as MAX_PRINTED


def save_context(context: Context) -> dict[str, Any]:
    """Plain data of all there is in a context."""
    link = context.link
    link.flush()
    link.wait(link.message)
    graph = _Graph(context, _all_contents(context))
    untaken = link.untaken()
    order = {number: index + 1 for index, (number, *_) in enumerate(untaken)}
    graph.messages = order
    latched = context.latched
    state: dict[str, Any] = {
        "number": context.number,
        "label": context.label,
        "lost": context.lost,
        "has_worker": link.worker is not None,
        "commands": context.commands,
        "numbers": context.numbers,
        "printed": _printed(context),
        "latched": None if latched is None else latched.pack(),
        "blobs": [
            [
                identifier,
                blob.number,
                [list(piece) for piece in blob.pieces],
                blob.save_shadow(),
                [list(part) for part in blob.owed],
            ]
            for identifier, blob in context.blobs.items()
        ],
        "table": [[identifier, graph.object(o)] for identifier, o in context.table.items()],
        "rings": [
            [ring, [graph.submission(each) for each in waiting]]
            for ring, waiting in sorted(context.rings.items())
            if waiting
        ],
        "untaken": [
            [[graph.concern(concern), code] for concern, code in failed] for _, failed, _ in untaken
        ],
        "found": [[list(vars(each).values()) for each in found] for *_, found in untaken],
    }
    state["works"], state["objects"] = graph.save_all()
    return state


class _Graph:
    """Gives numbers to works and submissions, and saves each once."""

    def __init__(self, context: Context, contents: dict[int, bytes | None]) -> None:
        self._context = context
        self._contents = contents
        self.messages: dict[int, int] = {}
        self._objects: dict[int, Object] = {}
        self._works: dict[Work, int] = {}
        self._saved = 0
        self._submissions = {
            submission: [ring, index]
            for ring, waiting in context.rings.items()
            for index, submission in enumerate(waiting)
        }

    def object(self, thing: Object | None) -> int:
        if thing is None:
            return 0
        self._objects[thing.number] = thing
        return thing.number

    def work(self, work: Work | None) -> int:
        """Its index; -1 where there is none."""
        return -1 if work is None else self._works.setdefault(work, len(self._works))

    def concern(self, concern: Work | Object | None) -> list[Any]:
        if isinstance(concern, Work):
            return ["work", self.work(concern)]
        return ["object", self.object(concern)]

    def message(self, message: int) -> int:
        """The last of the untaken messages up to `message`; 0: all were taken."""
        return max((i for number, i in self.messages.items() if number <= message), default=0)

    def submission(self, each: Submission) -> dict[str, Any]:
        return {
            "tag": each.tag,
            "ready": each.ready,
            "at": each.at,
            "message": self.message(each.message),
            "unsent": each.unsent,
            "weight": each.weight,
            "outputs": _ranges(each.outputs),
            "answers": [
                [
                    None if place is None else [place.blob, place.offset, place.size],
                    list(command),
                    int(status),
                    self._producer(producer),
                ]
                for place, command, status, producer in each.answers
            ],
        }

    def _producer(self, producer: tuple[str, Any] | None) -> list[Any] | None:
        if producer is None:
            return None
        kind, subject = producer
        if kind == "record":
            return [kind, type(subject).__name__, subject.pack()]
        if kind in ("build", "build_info"):
            return [kind, _build(subject)]
        return [kind, self.object(subject)]

    def save_all(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Works and objects; each names further ones while it is saved."""
        works: list[dict[str, Any]] = []
        saved: dict[int, dict[str, Any]] = {}
        while self._saved < len(self._works) or len(saved) < len(self._objects):
            works += self._save_works()
            for number, thing in list(self._objects.items()):
                if number not in saved:
                    saved[number] = self._save_object(thing)
        return works, [saved[number] for number in sorted(saved)]

    def _save_works(self) -> list[dict[str, Any]]:
        """All works that were named since the last call, and those that they name."""
        found = []
        while self._saved < len(self._works):
            work = list(self._works)[self._saved]
            self._saved += 1
            found.append(self._save_work(work))
        return found

    def _save_work(self, work: Work) -> dict[str, Any]:
        is_held = not work.is_sent
        submission = self._submissions.get(work.submission) if work.submission else None
        return {
            **{name: _plain(getattr(work, name)) for name in WORK},
            "message": self.message(work.message),
            "queue": self.object(work.queue),
            "submission": submission,
            "dependents": [self.work(each) for each in work.dependents],
            "waits": [self.work(each) for each in work.waits],
            "operation": _plain(work.operation) if is_held else None,
            "objects": [self.object(each) for each in work.objects] if is_held else [],
            "inputs": _ranges(work.inputs) if is_held else [],
            "outputs": _ranges(work.outputs) if is_held else [],
            "arguments": self._arguments(work.arguments) if is_held else None,
        }

    def _arguments(self, arguments: Iterable[Argument | None] | None) -> list[Any] | None:
        if arguments is None:
            return None
        return [
            None if each is None else [each.kind, each.value, self.object(each.object)]
            for each in arguments
        ]

    def _save_object(self, thing: Object) -> dict[str, Any]:
        saved = {
            "class": type(thing).__name__,
            "number": thing.number,
            "scope": self.object(thing.scope),
            "uses": thing.uses,
            "command": list(thing.command),
            "host": thing.host,
            "is_released": thing.is_released,
            "failure": int(thing.failure),
            **{name: _plain(getattr(thing, name)) for name in PLAIN[type(thing)]},
        }
        if isinstance(thing, Queue):
            saved["tail"], saved["barrier"] = self.work(thing.tail), self.work(thing.barrier)
            saved["unsent"] = [self.work(work) for work in thing.unsent or ()]
            saved["gathered"] = self.work(thing.gathered)
            saved["since"] = [self.work(work) for work in thing.since or ()]
        elif isinstance(thing, Buffer):
            saved["blob"] = thing.blob.number if thing.blob is not None else 0
            saved["parent"] = self.object(thing.parent)
        elif isinstance(thing, Image):
            saved["blob"] = thing.blob.number if thing.blob is not None else 0
            saved["buffer"] = self.object(thing.buffer)
        elif isinstance(thing, Program):
            saved["build"] = _build(thing.build)
        elif isinstance(thing, Kernel):
            saved["program"] = self.object(thing.program)
            saved["name"] = thing.description.name if thing.description is not None else ""
            saved["arguments"] = self._arguments(thing.arguments)
            saved["launches"] = [
                _plain([grid, each.operation, each.local_size, each.items, each.cost])
                for grid, each in thing.launches.items()
            ]
        elif isinstance(thing, Event):
            saved["work"] = self.work(thing.work)
        elif isinstance(thing, Mapping):
            saved["memory"] = self.object(thing.memory)
            saved["operation"] = _plain(thing.operation)
        if isinstance(thing, Buffer | Image) and _has_contents(self._context, thing):
            saved["contents"] = self._contents[thing.number]
        return saved


def _all_contents(context: Context) -> dict[int, bytes | None]:
    """The bytes of all that is in the device's memory, by number: what has a handle, what waiting
    commands need, and what those need."""
    found: dict[int, bytes | None] = {}
    things = [*context.table.values()]
    for work in context.held:
        things += work.objects
    seen = set()
    while things:
        thing = things.pop()
        if thing.number in seen:
            continue
        seen.add(thing.number)
        things += thing.parents()
        if isinstance(thing, Buffer | Image) and _has_contents(context, thing):
            found[thing.number] = _contents(context, thing)
    return found


def _has_contents(context: Context, thing: Buffer | Image) -> bool:
    """Whether its bytes are the device's, rather than guest memory or another object's."""
    if thing.failure or context.link.worker is None:
        return False
    if isinstance(thing, Buffer):
        return thing.parent is None and thing.charge > 0
    return thing.buffer is None and thing.charge > 0


def _contents(context: Context, thing: Buffer | Image) -> bytes | None:
    """Its bytes; None: all are zero."""
    data = _fetch(context, ("save", thing.number), thing.size, thing.size)
    return data if data.count(0) != len(data) else None


def _printed(context: Context) -> bytes:
    """What kernels printed and the guest has not read."""
    if context.link.worker is None:
        return b""
    return _fetch(context, ("save_printed",), 0, MAX_PRINTED)


def _fetch(context: Context, operation: Operation, size: int, most: int) -> bytes:
    """What the worker writes into a file that has `size` bytes before: the first `most`."""
    fd = os.memfd_create("gpu-saved", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        context.link.operate(operation)
        context.link.flush(fd)
        context.link.wait(context.link.message)
        return read_file(fd, most)
    finally:
        os.close(fd)


def read_file(fd: int, size: int) -> bytes:
    """The first `size` bytes; one call reads no more than about 2 GiB."""
    parts = []
    at = 0
    while at < size and (part := os.pread(fd, size - at, at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _build(build: Build | None) -> list[Any] | None:
    """Its recipe, its key, and where it failed its status and log: it may not fail again."""
    if build is None:
        return None
    built = build.join()
    failure = None if built.status == Status.SUCCESS else [int(built.status), built.log]
    return [_plain(build.recipe), build.key, failure]


def _ranges(ranges: Iterable[tuple[Blob, int, int]]) -> list[list[int]]:
    return [[blob.number, offset, size] for blob, offset, size in ranges]


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value
