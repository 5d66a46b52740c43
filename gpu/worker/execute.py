"""Executes what the hypervisor has checked: one command after another.

The hypervisor decides the order, so no command waits for another's event here. Kernels are enqueued
ahead of the device by at most WINDOW. What one thread does is done by this one where the runtime
can (see gpu.worker.direct), except shortly after what is given to many: the commands alone decide,
never what is done by then. `progress` counts for the watchdog what is done.
"""

from __future__ import annotations

import mmap
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pyopencl

from gpu.worker import direct, groups
from gpu.worker.memory import Memories
from gpu.worker.printed import COUNT, Printed, prints

cl: Any = pyopencl
_low: Any = cl._cl
WINDOW = 256
_FEW = 4
_BEHIND = 16
"""Commands for one thread that follow one for many without waiting for it."""
_NAP = 20e-6
"""Seconds, to which the host's kernel adds some 50."""
_NAPS = 4
OUT_OF_RESOURCES = -5
_STATUS, _COMPLETE = cl.event_info.COMMAND_EXECUTION_STATUS, cl.command_execution_status.COMPLETE
ERROR_IN_WAIT_LIST = -14
MAX_FAILED = 1 << 18
"""Failures that are remembered: more than commands can be pending."""
VALUE, MEMORY, SAMPLER, LOCAL, NULL = range(5)
"""How a kernel's argument is given."""


class _AfterFailureError(Exception):
    """What an operation comes after has failed."""


class Executor:
    """The device's side of one guest context."""

    def __init__(
        self,
        device: Any,
        sharing: str,
        printed: Printed,
        progress: memoryview,
        take_fd: Callable[[], int],
    ) -> None:
        self._take_fd = take_fd
        self._printed = printed
        self._device = device
        self._direct = direct.beside(device)
        self._devices = [device] if self._direct is None else [device, self._direct]
        self._context = cl.Context(self._devices)
        self._queue = cl.CommandQueue(self._context, device)
        self._own_queue = self._queue
        """Of what one thread does."""
        if self._direct is not None:
            self._own_queue = cl.CommandQueue(self._context, self._direct)
        self._behind = _BEHIND
        """Commands for one thread since the last for many, if that may not be done."""
        self._progress = progress
        self._running: deque[tuple[int, Any, Any]] = deque()
        """Of each its index in its message, its event, and the numbers of those it comes after."""
        self._before = 0
        """Operations of earlier messages: they are numbered from 1."""
        self._failed: dict[int, None] = {}
        """The numbers of operations that failed."""
        self._failures: list[tuple[int, int]] = []
        """Index and error of those that failed of the message that is being executed."""
        self.memories = memories = Memories(self._context, self._queue, sharing)
        self._programs: dict[int, Any] = {}
        self._kernels: dict[int, Any] = {}
        self._printing: set[int] = set()
        """Programs that print, and their kernels."""
        self._unset: dict[int, dict[int, tuple[Any, ...]]] = {}
        """Arguments that kernels were given for runs that failed before they were set, by kernel
        and index. They are set before the next run, which is sent only what is new since."""
        self._groups = groups.Groups() if groups.is_supported(device) else None
        self._operations: dict[str, Callable[..., Any]] = {
            "grant": self._grant,
            "revoke": self._revoke,
            "buffer": memories.buffer,
            "copied_buffer": memories.copied_buffer,
            "blob_buffer": memories.blob_buffer,
            "sub_buffer": memories.sub_buffer,
            "image": memories.image,
            "sampler": memories.sampler,
            "map": self._after_all(memories.map),
            "map_image": self._after_all(memories.map_image),
            "unmap": self._after_all(memories.unmap),
            "program": self._program,
            "group": self._group,
            "kernel": self._kernel,
            "drop": self._drop,
            "range": self._range,
            "read_printed": self._read_printed,
            "save_printed": self._save_printed,
            "restore_printed": self._restore_printed,
            "read": self._read,
            "write": self._write,
            "write_inline": self._write_inline,
            "read_rect": self._read_rect,
            "write_rect": self._write_rect,
            "copy": self._copy,
            "copy_rect": self._copy_rect,
            "fill": self._fill,
            "read_image": self._read_image,
            "write_image": self._write_image,
            "copy_image": self._copy_image,
            "image_to_buffer": self._image_to_buffer,
            "buffer_to_image": self._buffer_to_image,
            "fill_image": self._fill_image,
            "nothing": self._nothing,
            "failed": self._note_failed,
            "save": self._save,
            "restore": self._restore,
        }

    def run(self, operations: list[tuple[Any, ...]]) -> list[tuple[int, int]]:
        """Execute all; (index, error) of those that failed. One that comes "after" others is not
        done where one of those failed."""
        self._failures = []
        calls, running = self._operations, self._running
        for index, operation in enumerate(operations):
            after: Any = ()
            if operation[0] == "after":
                _, after, operation = operation
            try:
                if after and self._has_failed(after):
                    if operation[0] == "range":
                        self._keep_unset(*operation[1:3])
                    raise _AfterFailureError
                event = calls[operation[0]](*operation[1:])
                if after and event is None:
                    self._settle_until(0)
                    if self._has_failed(after):
                        raise _AfterFailureError
            except cl.Error as error:
                self._fail(index, error.code)
            except _AfterFailureError:
                self._fail(index, ERROR_IN_WAIT_LIST)
            except Exception:  # what it names could not be made, or memory is short
                self._fail(index, OUT_OF_RESOURCES)
            else:
                if event is not None:
                    running.append((index, event, after))
                    if len(running) > WINDOW:
                        self._settle_until(WINDOW // 2)
                    continue
            self._progress[0] += 1
        self._settle_until(0)
        self._before += len(operations)
        return self._failures

    def _settle_until(self, count: int) -> None:
        """Wait until no more than `count` run. To be woken by each of many short commands would
        cost more than they do: those are given a moment."""
        running = self._running
        naps = 0
        if count == 0:
            self._behind = _BEHIND
        while len(running) > count:
            is_many = len(running) > count + _FEW
            is_busy = is_many and running[0][1].get_info(_STATUS) > _COMPLETE
            if is_busy and naps < _NAPS:
                naps += 1
                time.sleep(_NAP)
            else:
                naps = 0
                self._settle()

    def _settle(self) -> None:
        index, event, after = self._running.popleft()
        try:
            event.wait()
        except cl.Error as error:
            self._fail(index, error.code)
        else:
            if after and self._has_failed(after):
                self._fail(index, ERROR_IN_WAIT_LIST)
        self._progress[0] += 1

    def _has_failed(self, numbers: list[int]) -> bool:
        return not self._failed.keys().isdisjoint(numbers)

    def _fail(self, index: int, code: int) -> None:
        self._failures.append((index, code))
        self._failed[self._before + index + 1] = None
        if len(self._failed) > MAX_FAILED:
            del self._failed[next(iter(self._failed))]

    def _own(self) -> Any:
        """The queue of what one thread does. That is this one, and it would wait for what the
        others do: a few commands follow in their queue instead."""
        if self._own_queue is self._queue:
            return self._queue
        if self._behind < _BEHIND:
            self._behind += 1
            return self._queue
        self._settle_until(0)
        return self._own_queue

    def _nothing(self) -> None:
        """A marker: it may come after others that fail."""

    def _note_failed(self, numbers: list[int]) -> None:
        """These failed at a worker before."""
        self._failed.update(dict.fromkeys(numbers))

    def _after_all(self, call: Callable[..., Any]) -> Callable[..., None]:
        """What changes memory from this thread waits for the device."""

        def run(*arguments: Any) -> None:
            self._queue.finish()
            call(*arguments)

        return run

    def _grant(self, blob: int, pieces: list[tuple[int, int]]) -> None:
        fd = self._take_fd()
        try:
            self.memories.grant(blob, fd, pieces)
        finally:
            os.close(fd)

    def _revoke(self, blob: int) -> None:
        self._queue.finish()
        self.memories.revoke(blob)

    # -- programs -----------------------------------------------------------------------------

    def _program(self, number: int, binary: bytes) -> None:
        binaries = [binary]
        if self._direct is not None:
            binaries.append(direct.binary_for(self._direct, self._device, binary))
        program = _low._Program(self._context, self._devices, binaries)
        program._build(b"", self._devices)
        self._programs[number] = program
        if prints(binary):
            self._printing.add(number)
        if self._groups is not None:
            self._groups.program(number, binary)

    def _group(self, program: int, size: str, objects: dict[str, bytes]) -> None:
        """Kernels of a program, compiled for work-groups of one size."""
        if self._groups is not None:
            self._groups.add(program, size, objects)

    def _kernel(self, number: int, program: int, name: str) -> None:
        self._kernels[number] = _low.Kernel(self._programs[program], name)
        if program in self._printing:
            self._printing.add(number)
        if self._groups is not None:
            self._groups.kernel(number, program, name)

    def _drop(self, number: int) -> None:
        self._unset.pop(number, None)
        self._printing.discard(number)
        if self._running and self.memories.owns_pages(number):
            # OpenCL keeps an object until its commands are done, and not the memory that it is on.
            self._queue.finish()
        for table in (
            self.memories.objects,
            self.memories.samplers,
            self._programs,
            self._kernels,
        ):
            if table.pop(number, None) is not None:
                return

    def _range(
        self,
        number: int,
        arguments: list[tuple[Any, ...]],
        global_size: tuple[int, ...],
        local_size: tuple[int, ...] | None,
        offset: tuple[int, ...] | None,
    ) -> Any:
        kernel = self._kernels[number]
        if self._unset:
            self._keep_unset(number, arguments)
            arguments = list(self._unset.pop(number, {}).values())
        if arguments:
            try:
                self._set(kernel, arguments)
            except Exception:
                self._keep_unset(number, arguments)
                raise
        if self._groups is not None and local_size is not None:
            self._groups.prepare(number, local_size, offset)
        if number in self._printing:
            self._settle_until(0)
            queue = self._own_queue
        elif global_size == local_size:
            queue = self._own()
        else:
            self._behind, queue = 0, self._queue
        event = _low.enqueue_nd_range_kernel(queue, kernel, global_size, local_size, offset)
        if number in self._printing:
            queue.finish()
            self._printed.collect()
        return event

    def _set(self, kernel: Any, arguments: list[tuple[Any, ...]]) -> None:
        for index, kind, value in arguments:
            if kind == MEMORY:
                kernel.set_arg(index, self.memories.objects[value].handle)
            elif kind == VALUE:
                kernel.set_arg(index, value)
            elif kind == LOCAL:
                kernel.set_arg(index, cl.LocalMemory(value))
            elif kind == SAMPLER:
                kernel.set_arg(index, self.memories.samplers[value])
            else:
                kernel.set_arg(index, None)

    def _keep_unset(self, number: int, arguments: list[tuple[Any, ...]]) -> None:
        if arguments and number in self._kernels:
            unset = self._unset.setdefault(number, {})
            unset.update((argument[0], argument) for argument in arguments)

    # -- what kernels print -------------------------------------------------------------------

    def _read_printed(self, blob: int, at: int, size: int) -> None:
        self._settle_until(0)
        text = self._printed.take(size - COUNT.size)
        data = COUNT.pack(len(text)) + text
        self.memories.blobs[blob].bytes[at : at + size] = data.ljust(size, b"\0")

    def _save_printed(self) -> None:
        fd = self._take_fd()
        try:
            os.pwrite(fd, self._printed.text, 0)
        finally:
            os.close(fd)

    def _restore_printed(self, text: bytes) -> None:
        self._printed.text[:] = text

    # -- copies -------------------------------------------------------------------------------

    def _read(self, memory: int, offset: int, size: int, blob: int, at: int) -> Any:
        target = self.memories.blobs[blob].bytes[at : at + size]
        handle = self.memories.objects[memory].handle
        return _low._enqueue_read_buffer(self._own(), handle, target, offset, is_blocking=False)

    def _write(self, memory: int, offset: int, size: int, blob: int, at: int) -> Any:
        source = self.memories.blobs[blob].bytes[at : at + size]
        handle = self.memories.objects[memory].handle
        return _low._enqueue_write_buffer(self._own(), handle, source, offset, is_blocking=False)

    def _write_inline(self, memory: int, offset: int, data: bytes) -> Any:
        handle = self.memories.objects[memory].handle
        return _low._enqueue_write_buffer(self._own(), handle, data, offset, is_blocking=False)

    def _read_rect(self, memory: int, blob: int, at: int, *box: Any) -> Any:
        return self._rectangle(_low._enqueue_read_buffer_rect, memory, blob, at, *box)

    def _write_rect(self, memory: int, blob: int, at: int, *box: Any) -> Any:
        return self._rectangle(_low._enqueue_write_buffer_rect, memory, blob, at, *box)

    def _rectangle(self, call: Any, memory: int, blob: int, at: int, *box: Any) -> Any:
        handle = self.memories.objects[memory].handle
        host = self.memories.blobs[blob].bytes[at:]
        return call(self._own(), handle, host, *box, is_blocking=False)

    def _copy(self, source: int, target: int, size: int, at: int, to: int) -> Any:
        objects = self.memories.objects
        return _low._enqueue_copy_buffer(
            self._own(), objects[source].handle, objects[target].handle, size, at, to
        )

    def _copy_rect(self, source: int, target: int, at: Any, to: Any, *box: Any) -> Any:
        # PoCL 3.0 crashes where a sub-buffer is the target: the whole, and a place in it, do.
        one, other = self.memories.objects[source], self.memories.objects[target]
        at, to = (at[0] + one.origin, *at[1:]), (to[0] + other.origin, *to[1:])
        return _low._enqueue_copy_buffer_rect(self._own(), one.root, other.root, at, to, *box)

    def _fill(self, memory: int, pattern: bytes, offset: int, size: int) -> Any:
        handle = self.memories.objects[memory].handle
        return self.memories.fill(self._own(), handle, pattern, offset, size)

    def _read_image(
        self,
        image: int,
        origin: Any,
        region: Any,
        pitches: tuple[int, int],
        blob: int,
        at: int,
        size: int,
    ) -> Any:
        host = self.memories.blobs[blob].bytes[at : at + size]
        handle = self.memories.objects[image].handle
        return _low._enqueue_read_image(
            self._own(), handle, origin, region, host, *pitches, is_blocking=False
        )

    def _write_image(
        self,
        image: int,
        origin: Any,
        region: Any,
        pitches: tuple[int, int],
        blob: int,
        at: int,
        size: int,
    ) -> Any:
        host = self.memories.blobs[blob].bytes[at : at + size]
        handle = self.memories.objects[image].handle
        return _low._enqueue_write_image(
            self._own(), handle, origin, region, host, *pitches, is_blocking=False
        )

    def _copy_image(self, source: int, target: int, *box: Any) -> Any:
        objects = self.memories.objects
        return _low._enqueue_copy_image(
            self._own(), objects[source].handle, objects[target].handle, *box
        )

    def _image_to_buffer(
        self, image: int, buffer: int, origin: Any, region: Any, offset: int
    ) -> Any:
        target = self.memories.objects[buffer]
        handle = self.memories.objects[image].handle
        return _low._enqueue_copy_image_to_buffer(
            self._own(), handle, target.root, origin, region, target.origin + offset
        )

    def _buffer_to_image(
        self, buffer: int, image: int, offset: int, origin: Any, region: Any
    ) -> Any:
        source = self.memories.objects[buffer]
        handle = self.memories.objects[image].handle
        return _low._enqueue_copy_buffer_to_image(
            self._own(), source.root, handle, source.origin + offset, origin, region
        )

    def _fill_image(self, image: int, color: bytes, origin: Any, region: Any) -> Any:
        handle = self.memories.objects[image].handle
        return _low.enqueue_fill_image(self._own(), handle, color, origin, region)

    # -- snapshots ----------------------------------------------------------------------------

    def _file(self, size: int) -> mmap.mmap:
        fd = self._take_fd()
        try:
            return mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def _save(self, number: int) -> None:
        """Write an object's contents to a file of the hypervisor's."""
        memory = self.memories.objects[number]
        with self._file(memory.size) as file:
            view = memoryview(file)
            if memory.shape:
                _low._enqueue_read_image(
                    self._queue, memory.handle, (0, 0, 0), memory.shape, view, *memory.pitches
                )
            else:
                _low._enqueue_read_buffer(self._queue, memory.handle, view)
            view.release()

    def _restore(self, number: int) -> None:
        memory = self.memories.objects[number]
        with self._file(memory.size) as file:
            view = memoryview(file)
            if memory.shape:
                _low._enqueue_write_image(
                    self._queue, memory.handle, (0, 0, 0), memory.shape, view, *memory.pitches
                )
            else:
                _low._enqueue_write_buffer(self._queue, memory.handle, view)
            view.release()
