"""A context as plain data, and back: what snapshots carry.

All that was sent is finished at the host first, so memory is as it will be. What is not to be seen
by the guest yet keeps its virtual time. A restored context gets a new worker, in which everything
is made anew.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gpu import objects, protocol
from gpu.answers import KINDS_OF_RECORD
from gpu.blobs import Blob
from gpu.builds import Build
from gpu.objects import (
    Argument,
    Buffer,
    Event,
    Image,
    Kernel,
    Mapping,
    Object,
    Program,
    Queue,
    Sampler,
)
from gpu.opencl import MapFlags, Status
from gpu.process import WorkerLostError
from gpu.protocol import AnswerPlace
from gpu.work import Submission, Work
from gpu.work_groups import give_groups

if TYPE_CHECKING:
    from gpu.context import Context
    from gpu.core import Resume

_PLAIN: dict[type[Object], tuple[str, ...]] = {
    objects.ClContext: (),
    Queue: ("is_in_order", "is_profiling", "priority", "end"),
    Buffer: ("size", "flags", "blob_offset", "origin", "charge", "maps"),
    Image: (
        *("size", "flags", "blob_offset", "charge", "maps", "type"),
        *("format", "pixel", "shape", "pitches", "extent"),
    ),
    Sampler: ("settings",),
    Program: ("recipe", "is_loaded", "groups", "kernels"),
    Kernel: (),
    Event: ("is_user", "is_profiling"),
    Mapping: ("ranges", "flags"),
}
_TYPES: dict[str, type[Object]] = {kind.__name__: kind for kind in _PLAIN}
_WORK = (
    *("command", "cost", "priority", "needs", "has_waited", "is_sent"),
    *("queued", "start", "end", "status"),
)


# -- saving ------------------------------------------------------------------------------------


def save_context(context: Context) -> dict[str, Any]:
    """Plain data of all there is in a context."""
    link = context.link
    link.flush()
    link.wait(link.message)
    graph = _Graph(context)
    untaken = link.untaken()
    order = {number: index + 1 for index, (number, _) in enumerate(untaken)}
    graph.messages = order
    latched = context.latched
    state: dict[str, Any] = {
        "number": context.number,
        "label": context.label,
        "lost": context.lost,
        "has_worker": link.worker is not None,
        "commands": context.commands,
        "numbers": context.numbers,
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
            [[graph.concern(concern), code] for concern, code in failed] for _, failed in untaken
        ],
    }
    state["works"], state["objects"] = graph.save_all()
    return state


class _Graph:
    """Gives numbers to works and submissions, and saves each once."""

    def __init__(self, context: Context) -> None:
        self._context = context
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
            **{name: _plain(getattr(work, name)) for name in _WORK},
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
            "is_released": thing.is_released,
            "failure": int(thing.failure),
            **{name: _plain(getattr(thing, name)) for name in _PLAIN[type(thing)]},
        }
        if isinstance(thing, Queue):
            saved["tail"], saved["barrier"] = self.work(thing.tail), self.work(thing.barrier)
            saved["unsent"] = [self.work(work) for work in thing.unsent or ()]
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
        elif isinstance(thing, Event):
            saved["work"] = self.work(thing.work)
        elif isinstance(thing, Mapping):
            saved["memory"] = self.object(thing.memory)
            saved["operation"] = _plain(thing.operation)
        if isinstance(thing, Buffer | Image) and _has_contents(self._context, thing):
            saved["contents"] = _contents(self._context, thing)
        return saved


def _has_contents(context: Context, thing: Buffer | Image) -> bool:
    """Whether its bytes are the device's, rather than guest memory or another object's."""
    if thing.failure or context.link.worker is None:
        return False
    if isinstance(thing, Buffer):
        return thing.parent is None and thing.charge > 0
    return thing.buffer is None and thing.charge > 0


def _contents(context: Context, thing: Buffer | Image) -> bytes | None:
    """Its bytes; None: all are zero."""
    fd = os.memfd_create("gpu-contents", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, thing.size)
        context.link.operate(("save", thing.number))
        context.link.flush(fd)
        context.link.wait(context.link.message)
        data = os.pread(fd, thing.size, 0)
    finally:
        os.close(fd)
    return data if data.count(0) != len(data) else None


def _build(build: Build | None) -> list[Any] | None:
    if build is None:
        return None
    build.join()
    return [_plain(build.recipe), build.key]


def _ranges(ranges: Iterable[tuple[Blob, int, int]]) -> list[list[int]]:
    return [[blob.number, offset, size] for blob, offset, size in ranges]


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value


# -- loading -----------------------------------------------------------------------------------


def load_context(context: Context, state: dict[str, Any], resume: Resume) -> None:
    """Fill a new context. ValueError where the host can not have been the snapshot's."""
    blobs = _load_blobs(context, state)
    if state["has_worker"]:
        try:
            context.link.start(list(blobs.values()))
        except WorkerLostError as error:
            raise ValueError(f"{context.gpu.name}: {error}") from None
    context.lost = state["lost"]
    things = {saved["number"]: _make(saved) for saved in state["objects"]}
    works = [Work(None) for _ in state["works"]]
    for saved in state["objects"]:
        _fill(context, saved, things, works, blobs)
    submissions = _load_rings(context, state, things, blobs, resume)
    for work, saved in zip(works, state["works"], strict=True):
        _fill_work(work, saved, things, works, blobs, submissions)
    context.table = {identifier: things[number] for identifier, number in state["table"]}
    queues = [thing for thing in things.values() if isinstance(thing, Queue)]
    held = [work for queue in queues for work in queue.unsent or ()]
    context.held = dict.fromkeys(sorted(held, key=lambda work: work.command))
    context.commands = state["commands"]
    context.numbers = state["numbers"]
    latched = state["latched"]
    if latched is not None:
        context.latched = protocol.LatchedError.unpack(latched, 0, len(latched))
    _load_untaken(context, state, things, works, submissions)
    for ring in context.rings:
        context.expect(ring)


def _load_blobs(context: Context, state: dict[str, Any]) -> dict[int, Blob]:
    found = {}
    for identifier, number, pieces, shadow, owed in state["blobs"]:
        memory = context.gpu.board.memory
        blob = Blob(number, [(a, s) for a, s in pieces], memory, shadow is not None)
        if shadow is not None:
            blob.load_shadow(shadow, owed)
            context.charge(blob.size)
        context.blobs[identifier] = found[number] = blob
    return found


def _make(saved: dict[str, Any]) -> Object:
    thing = _TYPES[saved["class"]](saved["number"])
    thing.uses, thing.is_released = saved["uses"], saved["is_released"]
    thing.command = tuple(saved["command"])
    thing.failure = Status(saved["failure"])
    for name in _PLAIN[type(thing)]:
        setattr(thing, name, _tuple(saved[name]))
    return thing


def _tuple(value: Any) -> Any:
    return tuple(_tuple(each) for each in value) if isinstance(value, list) else value


def _fill(
    context: Context,
    saved: dict[str, Any],
    things: dict[int, Any],
    works: list[Work],
    blobs: dict[int, Blob],
) -> None:
    """What an object has of others, and the worker's part of it. Parents come first."""
    thing = things[saved["number"]]
    thing.scope = things.get(saved["scope"])
    work = dict(enumerate(works))
    if isinstance(thing, Queue):
        thing.tail, thing.barrier = work.get(saved["tail"]), work.get(saved["barrier"])
        thing.unsent = {works[index]: None for index in saved["unsent"]}
    elif isinstance(thing, Event):
        thing.work = work.get(saved["work"])
    elif isinstance(thing, Buffer):
        thing.blob, thing.parent = blobs.get(saved["blob"]), things.get(saved["parent"])
    elif isinstance(thing, Image):
        thing.blob, thing.buffer = blobs.get(saved["blob"]), things.get(saved["buffer"])
    elif isinstance(thing, Program):
        thing.build = _load_build(context, saved["build"])
    elif isinstance(thing, Kernel):
        thing.program = things[saved["program"]]
        assert thing.program is not None
        assert thing.program.build is not None
        thing.description = thing.program.build.join().kernel(saved["name"])
        thing.arguments = _arguments(saved["arguments"], things)
        thing.sent = [None] * len(thing.arguments)
    elif isinstance(thing, Mapping):
        thing.memory = things[saved["memory"]]
        thing.operation = _tuple(saved["operation"])
    if isinstance(thing, Buffer | Image):
        context.charge(thing.charge)
    if not thing.failure and context.link.worker is not None:
        _recreate(context, thing)
        if saved.get("contents") is not None:
            _restore(context, thing, saved["contents"])


def _recreate(context: Context, thing: Object) -> None:
    operate = context.operate
    if isinstance(thing, Buffer):
        if thing.parent is not None:
            operate("sub_buffer", thing.number, thing.parent.number, thing.origin, thing.size)
        elif thing.blob is not None:
            operate("blob_buffer", thing.number, thing.size, thing.blob.number, thing.blob_offset)
        else:
            operate("buffer", thing.number, thing.size)
    elif isinstance(thing, Image):
        source: tuple[str, int, int] = ("none", 0, 0)
        if thing.buffer is not None:
            source = ("buffer", thing.buffer.number, 0)
        elif thing.blob is not None:
            source = ("blob", thing.blob.number, thing.blob_offset)
        operate("image", thing.number, thing.format, thing.type, thing.shape, thing.pitches, source)
    elif isinstance(thing, Sampler):
        normalized, addressing, filtering = thing.settings
        operate("sampler", thing.number, bool(normalized), addressing, filtering)
    elif isinstance(thing, Program) and thing.is_loaded and thing.build is not None:
        binary = thing.build.join().binary
        if not binary:
            raise ValueError(f"{context.gpu.name}: a program of the snapshot cannot be built")
        operate("program", thing.number, binary)
        for size in thing.groups:
            give_groups(context, thing, size)
    elif isinstance(thing, Kernel) and thing.program is not None:
        assert thing.description is not None
        operate("kernel", thing.number, thing.program.number, thing.description.name)
    elif isinstance(thing, Mapping) and thing.flags & ~MapFlags.READ:
        # The guest's bytes are newer than the device's: nothing is read.
        name, mapping, memory, _, *place = thing.operation
        operate(name, mapping, memory, int(MapFlags.WRITE_INVALIDATE_REGION), *place)


def _restore(context: Context, thing: Buffer | Image, contents: bytes) -> None:
    context.link.flush()
    fd = os.memfd_create("gpu-contents", os.MFD_CLOEXEC)
    try:
        os.write(fd, contents)
        context.operate("restore", thing.number)
        context.link.flush(fd)
    finally:
        os.close(fd)


def _load_build(context: Context, saved: list[Any] | None) -> Build | None:
    if saved is None:
        return None
    recipe, key = _tuple(saved[0]), saved[1]
    builds = context.gpu.builds
    return builds.known(key) if recipe[0] == "binary" else builds.build(recipe)


def _arguments(saved: list[Any], things: dict[int, Any]) -> list[Argument | None]:
    return [
        None if each is None else Argument(each[0], each[1], things.get(each[2])) for each in saved
    ]


def _load_rings(
    context: Context,
    state: dict[str, Any],
    things: dict[int, Any],
    blobs: dict[int, Blob],
    resume: Resume,
) -> dict[tuple[int, int], Submission]:
    found = {}
    for ring, saved_ring in state["rings"]:
        waiting: deque[Submission] = deque()
        for index, saved in enumerate(saved_ring):
            signal = resume(context, ring, saved["tag"])
            submission = Submission(ring, saved["tag"], saved["ready"], signal)
            submission.message, submission.unsent = saved["message"], saved["unsent"]
            submission.outputs = [(blobs[n], o, s) for n, o, s in saved["outputs"] if n in blobs]
            submission.answers = [
                (
                    None if place is None else AnswerPlace(*place),
                    (command[0], command[1]),
                    Status(status),
                    _producer(context, producer, things),
                )
                for place, command, status, producer in saved["answers"]
            ]
            submission.saved_at = saved["at"]
            waiting.append(submission)
            found[ring, index] = submission
        context.rings[ring] = waiting
    return found


def _producer(
    context: Context, saved: list[Any] | None, things: dict[int, Any]
) -> tuple[str, Any] | None:
    if saved is None:
        return None
    kind = saved[0]
    if kind == "record":
        record = KINDS_OF_RECORD[saved[1]]
        return kind, record.unpack(saved[2], 0, len(saved[2]))
    if kind in ("build", "build_info"):
        return kind, _load_build(context, saved[1])
    return kind, things.get(saved[1])


def _fill_work(
    work: Work,
    saved: dict[str, Any],
    things: dict[int, Any],
    works: list[Work],
    blobs: dict[int, Blob],
    submissions: dict[tuple[int, int], Submission],
) -> None:
    for name in (*_WORK, "message"):
        setattr(work, name, _tuple(saved[name]))
    work.queue = things.get(saved["queue"])
    if saved["submission"] is not None:
        work.submission = submissions[tuple(saved["submission"])]
    work.dependents = [works[index] for index in saved["dependents"]]
    work.waits = [works[index] for index in saved["waits"]]
    work.operation = _tuple(saved["operation"])
    work.objects = [things[number] for number in saved["objects"]]
    work.inputs = [(blobs[n], offset, size) for n, offset, size in saved["inputs"]]
    work.outputs = [(blobs[n], offset, size) for n, offset, size in saved["outputs"]]
    if saved["arguments"] is not None:
        work.arguments = tuple(_arguments(saved["arguments"], things))


def _load_untaken(
    context: Context,
    state: dict[str, Any],
    things: dict[int, Any],
    works: list[Work],
    submissions: dict[tuple[int, int], Submission],
) -> None:
    failures = [
        [
            (works[index] if kind == "work" else things.get(index), code)
            for (kind, index), code in failed
        ]
        for failed in state["untaken"]
    ]
    first = context.link.restore(failures)
    holders: list[Submission | Work] = [*submissions.values(), *works]
    for holder in holders:
        holder.message = first + holder.message if holder.message else 0
