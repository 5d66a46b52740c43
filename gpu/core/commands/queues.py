"""Contexts, queues, events, markers and barriers."""

from __future__ import annotations

from collections.abc import Sequence

from gpu import protocol
from gpu.core.commands.registry import Found, check_scope, handles, refuse
from gpu.core.objects import ClContext, Event, Mapping, Queue
from gpu.core.schedule import Schedule
from gpu.core.work import Producer, Work
from gpu.opencl import QueueProperties, Status


@handles(protocol.GetError)
def get_error(context: Schedule, command: protocol.GetError, found: Found) -> Producer:
    return "error", None


@handles(protocol.Release)
def release(context: Schedule, command: protocol.Release, found: Found) -> None:
    if isinstance(found["id"], Mapping):  # Unmap ends it
        raise refuse(Status.INVALID_VALUE)
    if isinstance(found["id"], Event) and found["id"].is_user:
        _fail_user_event(context, found["id"])
    context.release(command.id)


def _fail_user_event(context: Schedule, event: Event) -> None:
    """Nobody can complete it any more: what waits for it must not do so for ever."""
    work = event.work
    assert work is not None
    if not work.is_sent:
        work.status = Status.EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST
        context.send(work)


@handles(protocol.CreateContext)
def create_context(context: Schedule, command: protocol.CreateContext, found: Found) -> None:
    context.revive()
    if context.lost:
        raise refuse(Status.OUT_OF_RESOURCES)
    scope = ClContext(context.new_number())
    scope.scope = scope
    context.add(command.id, scope)


@handles(protocol.CreateQueue)
def create_queue(context: Schedule, command: protocol.CreateQueue, found: Found) -> None:
    properties = QueueProperties(command.properties)
    queue = Queue(
        context.new_number(),
        found["context"],
        is_in_order=QueueProperties.OUT_OF_ORDER_EXEC_MODE not in properties,
        is_profiling=QueueProperties.PROFILING in properties,
        priority=command.priority,
        unsent={},
        since={},
    )
    context.add(command.id, queue)


# -- events ------------------------------------------------------------------------------------


@handles(protocol.CreateUserEvent)
def create_user_event(context: Schedule, command: protocol.CreateUserEvent, found: Found) -> None:
    work = Work(None)
    work.queued = context.now()
    event = Event(context.new_number(), found["context"], work=work, is_user=True)
    context.add(command.id, event)


@handles(protocol.SetUserEventStatus)
def set_user_event_status(
    context: Schedule, command: protocol.SetUserEventStatus, found: Found
) -> None:
    event = found["event"]
    if not event.is_user:
        raise refuse(Status.INVALID_EVENT)
    if event.work.is_sent:
        raise refuse(Status.INVALID_OPERATION)
    event.work.status = command.status
    context.send(event.work)


@handles(protocol.GetEventStatus)
def get_event_status(context: Schedule, command: protocol.GetEventStatus, found: Found) -> Producer:
    return "event", found["event"]


@handles(protocol.GetEventProfile)
def get_event_profile(
    context: Schedule, command: protocol.GetEventProfile, found: Found
) -> Producer:
    event = found["event"]
    if event.is_user or not event.is_profiling:
        raise refuse(Status.PROFILING_INFO_NOT_AVAILABLE)
    return "profile", event


def waits_of(found: Found, queue: Queue) -> Sequence[Work]:
    """The commands of a wait list."""
    waits = found["wait"]
    if not waits:
        return ()
    check_scope(queue, *waits)
    return [event.work for event in waits]


@handles(protocol.Marker)
def marker(context: Schedule, command: protocol.Marker, found: Found) -> None:
    queue = found["queue"]
    waits = waits_of(found, queue)
    if waits:
        context.enqueue(Work(queue), waits, command.event)
    else:
        context.gather(_after(queue), command.event)


@handles(protocol.Barrier)
def barrier(context: Schedule, command: protocol.Barrier, found: Found) -> None:
    queue = found["queue"]
    waits = waits_of(found, queue)
    work = Work(queue) if waits else _after(queue)
    if waits:
        context.enqueue(work, waits, command.event)
    else:
        context.gather(work, command.event)
    queue.barrier = work


@handles(protocol.Flush)
def flush(context: Schedule, command: protocol.Flush, found: Found) -> None:
    """A submission does so at its end."""


@handles(protocol.Finish)
def finish(context: Schedule, command: protocol.Finish, found: Found) -> None:
    context.gather(_after(found["queue"]))


def _after(queue: Queue) -> Work:
    """A command that does nothing, and is complete when all that its queue was given is."""
    work = Work(queue)
    work.start = queue.end
    return work
