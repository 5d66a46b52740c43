"""Traces for Perfetto (https://ui.perfetto.dev): its native protobuf format, on virtual time.

Tracks: one for each hart, device, interrupt line, virtqueue and GPU queue; the timers share one.
Lines are slices from raise to lower; a hart's slices are interrupts, from the handler's start (or
the acknowledgement, where traps are not traced) to their end; a flow leads from each raise to the
hart that took it. Requests overlap, so a queue has as many tracks below it as were in flight at a
time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from hypervisor.device import BackendError
from hypervisor.events import (
    DeviceEvent,
    Event,
    FirmwareCall,
    GpuCommand,
    InterruptAcknowledge,
    InterruptChange,
    InterruptComplete,
    InterruptTaken,
    MmioAccess,
    TimerFired,
    Trap,
    VirtqueueCompletion,
    VirtqueueRequest,
)

_SEQUENCE = 1
HARTS, DEVICES, LINES = "Harts", "Devices", "Interrupt lines"
VIRTQUEUES, GPU_QUEUES, TIMERS, OTHER = "Virtqueues", "GPU queues", "Timers", "Machine"


class PerfettoWriter:
    """Writes events to a file as they come."""

    def __init__(self, path: str | os.PathLike[str], about: dict[str, Any]) -> None:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protocol

        self._trace = protocol.Trace
        self._event = protocol.TrackEvent
        self.path = Path(path)
        try:
            self._file: BinaryIO = self.path.open("wb")
        except OSError as error:
            raise BackendError(
                f"the trace {self.path} cannot be written: {error.strerror}"
            ) from None
        self._name = str(about.get("machine", "machine"))
        self._tracks: dict[tuple[str, ...], int] = {}
        self._flows = 0
        self._raised: dict[str, int] = {}
        """The flow of each line's last raise, until a hart takes it."""
        self._open: dict[int, int] = {}
        """How many slices are open on a track."""
        self._lanes: dict[tuple[str, str], dict[int, tuple[int, int]]] = {}
        self._last = 0
        self._writers: dict[type[Event], Callable[[Any], None]] = {
            MmioAccess: self._mmio,
            InterruptChange: self._line,
            InterruptAcknowledge: self._acknowledge,
            InterruptComplete: self._complete,
            InterruptTaken: self._on_hart,
            Trap: self._on_hart,
            FirmwareCall: self._on_hart,
            VirtqueueRequest: self._request,
            VirtqueueCompletion: self._completion,
            GpuCommand: self._gpu,
            TimerFired: self._timer,
        }

    def write(self, event: Event) -> None:
        self._last = max(self._last, event.time)
        self._writers.get(type(event), self._other)(event)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """End what still is open, so that it is drawn to the end."""
        if self._file.closed:
            return
        with self._file:
            for track in list(self._open):
                self._end(track, self._last)

    # -- events ----------------------------------------------------------------------------------

    def _mmio(self, event: MmioAccess) -> None:
        arrow = "<-" if event.is_write else "->"
        notes = {"value": f"{event.value:#x}", "fields": event.decoded, "hart": event.hart}
        name = f"{event.register} {arrow} {event.value:#x}"
        self._instant((DEVICES, event.device), event.time, name, notes)

    def _line(self, event: InterruptChange) -> None:
        track = self._track(LINES, f"{event.device} ({event.input})")
        if event.level:
            self._flows += 1
            self._raised[event.device] = self._flows
            self._begin(track, event.time, "raised", flows=[self._flows])
        else:
            self._end(track, event.time)

    def _acknowledge(self, event: InterruptAcknowledge) -> None:
        name = f"{event.line or 'nobody'} ({event.device}.{event.number})"
        flow = self._raised.pop(event.line, None)
        began = event.time
        if event.taken >= 0:
            began += event.taken - event.latency
        notes = {"latency_ns": event.latency, "acknowledged_at": event.time}
        track = self._track(HARTS, f"hart {event.hart}")
        self._begin(track, began, name, notes, ends=[] if flow is None else [flow])

    def _complete(self, event: InterruptComplete) -> None:
        self._end(self._track(HARTS, f"hart {event.hart}"), event.time)

    def _on_hart(self, event: InterruptTaken | Trap | FirmwareCall) -> None:
        self._instant((HARTS, f"hart {event.hart}"), event.time, str(event), {})

    def _request(self, event: VirtqueueRequest) -> None:
        notes = {"readable": event.readable, "writable": event.writable}
        self._lane_begin((VIRTQUEUES, event.subject), event.head, event.time, notes)

    def _completion(self, event: VirtqueueCompletion) -> None:
        self._lane_end((VIRTQUEUES, event.subject), event.head, event.time)

    def _gpu(self, event: GpuCommand) -> None:
        queue = (GPU_QUEUES, event.subject)
        if event.is_end:
            self._lane_end(queue, event.number, event.time)
        else:
            notes = {"detail": event.detail, "number": event.number}
            self._lane_begin(queue, event.number, event.time, notes, event.command)

    def _timer(self, event: TimerFired) -> None:
        self._instant((TIMERS, "timers"), event.time, event.name, {"deadline": event.deadline})

    def _other(self, event: Event) -> None:
        place = (DEVICES, event.device) if isinstance(event, DeviceEvent) else (OTHER, self._name)
        self._instant(place, event.time, str(event), {})

    # -- lanes: what overlaps, side by side ------------------------------------------------------

    def _lane_begin(
        self, queue: tuple[str, str], number: int, time: int, notes: dict[str, Any], name: str = ""
    ) -> None:
        lanes = self._lanes.setdefault(queue, {})
        taken = {lane for lane, _ in lanes.values()}
        lane = next(n for n in range(len(taken) + 1) if n not in taken)
        track = self._track(*queue, f"#{lane}")
        lanes[number] = (lane, track)
        self._begin(track, time, name or f"request {number}", notes)

    def _lane_end(self, queue: tuple[str, str], number: int, time: int) -> None:
        found = self._lanes.get(queue, {}).pop(number, None)
        if found is not None:
            self._end(found[1], time)

    # -- packets ---------------------------------------------------------------------------------

    def _begin(
        self,
        track: int,
        time: int,
        name: str,
        notes: dict[str, Any] | None = None,
        flows: list[int] | None = None,
        ends: list[int] | None = None,
    ) -> None:
        depth = self._open.get(track, 0)
        self._open[track] = depth + 1
        self._write(track, time, self._event.TYPE_SLICE_BEGIN, name, notes, flows, ends)

    def _end(self, track: int, time: int) -> None:
        """End the innermost open slice; a trace that began in the middle of one has none."""
        if depth := self._open.pop(track, 0):
            if depth > 1:
                self._open[track] = depth - 1
            self._write(track, time, self._event.TYPE_SLICE_END)

    def _instant(self, place: tuple[str, str], time: int, name: str, notes: dict[str, Any]) -> None:
        self._write(self._track(*place), time, self._event.TYPE_INSTANT, name, notes)

    def _write(
        self,
        track: int,
        time: int,
        kind: int,
        name: str = "",
        notes: dict[str, Any] | None = None,
        flows: list[int] | None = None,
        ends: list[int] | None = None,
    ) -> None:
        trace = self._trace()
        packet = trace.packet.add(timestamp=time, trusted_packet_sequence_id=_SEQUENCE)
        event = packet.track_event
        event.type = kind
        event.track_uuid = track
        if name:
            event.name = name
        event.flow_ids.extend(flows or ())
        event.terminating_flow_ids.extend(ends or ())
        for key, value in (notes or {}).items():
            if isinstance(value, int):
                event.debug_annotations.add(name=key, int_value=value)
            elif value:
                event.debug_annotations.add(name=key, string_value=str(value))
        self._file.write(trace.SerializeToString())

    def _track(self, *path: str) -> int:
        """The track at a path of names, described at its first use."""
        number = self._tracks.get(path)
        if number is None:
            parent = self._track(*path[:-1]) if len(path) > 1 else 0
            number = self._tracks[path] = len(self._tracks) + 1
            trace = self._trace()
            packet = trace.packet.add(trusted_packet_sequence_id=_SEQUENCE)
            packet.track_descriptor.uuid = number
            packet.track_descriptor.name = path[-1]
            if parent:
                packet.track_descriptor.parent_uuid = parent
            self._file.write(trace.SerializeToString())
        return number
