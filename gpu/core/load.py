"""A context from plain data, as gpu.core.save has it: it gets a new worker, in which everything is
made anew."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any

from gpu import protocol
from gpu.core.answers import KINDS_OF_RECORD
from gpu.core.blobs import Blob
from gpu.core.context import Context
from gpu.core.objects import (
    Argument,
    Buffer,
    Event,
    Image,
    Kernel,
    Launch,
    Mapping,
    Object,
    Program,
    Queue,
    Sampler,
)
from gpu.core.saved_fields import PLAIN, TYPES, WORK
from gpu.core.work import Submission, Work
from gpu.core.work_groups import give_groups
from gpu.host.builds import Build
from gpu.host.findings import parse_findings
from gpu.host.process import WorkerLostError
from gpu.opencl import MapFlags, Status
from gpu.protocol import AnswerPlace

Resume = Callable[[Context, int, int], Callable[[], None]]
"""The `signal` of a submission that a snapshot carried, by its context, ring and tag."""


def load_context(context: Context, state: dict[str, Any], resume: Resume) -> None:
    """Fill a new context. ValueError where the host can not have been the snapshot's."""
    blobs = _load_blobs(context, state)
    if state["has_worker"]:
        try:
            context.link.start(list(blobs.values()))
        except WorkerLostError as error:
            raise ValueError(f"{context.gpu.name}: {error}") from None
        if state["printed"]:
            context.operate("restore_printed", state["printed"])
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
    context.hold(sum(work.host for work in held))
    context.commands = state["commands"]
    context.numbers = state["numbers"]
    latched = state["latched"]
    if latched is not None:
        context.latched = protocol.LatchedError.unpack(latched, 0, len(latched))
    _load_untaken(context, state, things, works, submissions)
    for build in context.under_way:
        built = build.join()
        if built.status != Status.SUCCESS:
            reason = built.log.partition("\n")[0] or built.status.name
            raise ValueError(
                f"{context.gpu.name}: a program of the snapshot cannot be built: {reason}"
            )
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
    thing = TYPES[saved["class"]](saved["number"])
    thing.uses, thing.is_released = saved["uses"], saved["is_released"]
    thing.command = tuple(saved["command"])
    thing.failure = Status(saved["failure"])
    for name in PLAIN[type(thing)]:
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
        thing.gathered = work.get(saved["gathered"])
        thing.since = {works[index]: None for index in saved["since"]}
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
        thing.sent = (None,) * len(thing.arguments)
        thing.launches = {
            grid: Launch(operation, local_size, items, cost, is_ready=True)
            for grid, operation, local_size, items, cost in _tuple(saved["launches"])
        }
    elif isinstance(thing, Mapping):
        thing.memory = things[saved["memory"]]
        thing.operation = _tuple(saved["operation"])
    if isinstance(thing, Buffer | Image):
        context.charge(thing.charge)
    thing.host = saved["host"]
    context.hold(thing.host)
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
        if context.gpu.limits.has_groups:
            for size in thing.groups:
                if reason := give_groups(context, thing, size):
                    raise ValueError(
                        f"{context.gpu.name}: a program of the snapshot cannot be compiled for"
                        f" work-groups of {size}: {reason}"
                    )
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
        write_file(fd, contents)
        context.operate("restore", thing.number)
        context.link.flush(fd)
    finally:
        os.close(fd)


def write_file(fd: int, data: bytes) -> None:
    """All of the data, of which one call writes no more than about 2 GiB."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _load_build(context: Context, saved: list[Any] | None) -> Build | None:
    if saved is None:
        return None
    recipe, key, failure = _tuple(saved[0]), saved[1], saved[2]
    builds = context.gpu.builds
    if failure is not None:
        failed = builds.failed(recipe, key, Status(failure[0]), failure[1])
        context.keep(failed)
        return failed
    same = (b for b in context.under_way if b.key == key and b.recipe == recipe)
    found = next(same, None)
    if found is None:
        found = builds.known(key) if recipe[0] == "binary" else builds.build(recipe)
        context.under_way.append(found)
    context.keep(found)
    return found


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
            submission.weight = saved["weight"]
            context.pending += submission.weight
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
    for name in (*WORK, "message"):
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
    if not work.is_sent:
        work.host = work.held_bytes


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
    found = [parse_findings(each) for each in state["found"]]
    first = context.link.restore(failures, found)
    holders: list[Submission | Work] = [*submissions.values(), *works]
    for holder in holders:
        holder.message = first + holder.message if holder.message else 0
