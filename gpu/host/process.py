"""The hypervisor's side of a worker process: start it, talk to it, and end it when it hangs.

A worker runs what a guest wrote, so nothing it says is believed: its messages are a few numbers or
JSON, of bounded length, and every field is checked where it is used. It may stop answering at any
time.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import marshal
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gpu.host.folders import WorkerFolder, sweep
from gpu.host.linker import find_linker
from gpu.host.processors import Apart
from gpu.options import OpenClOptions
from gpu.worker import reports
from gpu.worker.sealed import sealed_file
from gpu.worker.spin import Spin

START_SECONDS = 60.0
"""Host time that a worker may take until it has looked at the device."""
MAX_MESSAGE = 4 << 20
MAX_RESULT = 64 << 20
"""Bytes of what a compiler answers."""
_MOST_PARTS = 1 << 20
"""Values in a message, about. Empty ones take twenty times their bytes here."""
_LENGTH = struct.Struct("<I")
DONE = struct.Struct("<BQQ")
"""The usual message of a worker that executes: 1, the message that it has done all of, and the
bytes that it copied so far. JSON never begins with 1."""
_END_SECONDS = 5.0
_PATIENCE = 4
"""Timeouts that pass beyond the first until a worker is ended that did not get to compute."""
_SLICE = 0.05
"""Seconds between looks at the progress of a worker that is waited for."""
_SPIN = 200e-6
"""Seconds of asking again whether there is an answer."""
_RECEIVED_AT_ONCE = 1 << 16
_PASSED_ON = ("OCL_ICD_VENDORS", "OCL_ICD_FILENAMES", "LD_LIBRARY_PATH", "LANG", "POCL_DEVICES")


class WorkerLostError(Exception):
    """The worker died or had to be ended: one sentence why."""


class Worker:
    """One process. It has no part until `begin`. OSError where the host's limits forbid one."""

    def __init__(self, options: OpenClOptions, sharing: str = "auto") -> None:
        self._options = options
        self._timeout = options.timeout / 1e9
        self._kept = WorkerFolder()
        self.folder = self._kept.path
        try:
            self._process, self._socket = self._start()
        except OSError:
            self._kept.close()
            raise
        self._pid = 0
        self._longest = MAX_MESSAGE
        self._socket.setblocking(False)
        self._spin = Spin(self._socket.fileno(), _SPIN)
        self._apart: Apart | None = None
        """Of one that executes short kernels in its own thread."""
        self._received = bytearray()
        self._description: dict[str, Any] | None = None
        self._progress: memoryview | None = None
        self._sent = 0
        self._seen: tuple[int, float, float] | None = None
        """Commands done when it was last seen to go on, when that was, and its processor time."""
        self.is_lost = ""
        """Why it is no more."""
        self.send(
            {
                "platform": options.platform,
                "device": options.device,
                "sharing": sharing,
                "memory": options.memory,
                "linker": find_linker(),
            }
        )

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """The process and this side of its socket."""
        here, there = socket.socketpair()
        with there:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "gpu.worker", str(there.fileno())],
                    pass_fds=(there.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=self.folder,
                    env=self._environment(),
                    start_new_session=True,
                )
            except OSError:
                here.close()
                raise
        return process, here

    def _environment(self) -> dict[str, str]:
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return {
            "POCL_DEVICES": "pthread basic",  # see gpu.worker.direct
            **passed,
            "PATH": os.path.join(self.folder, "bin"),
            "PYTHONPATH": os.pathsep.join(_import_paths()),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": self.folder,
            "TMPDIR": self.folder,
            "POCL_CACHE_DIR": self.folder,
            # So that executing kernels needs no linker; see gpu.worker.groups.
            "POCL_WORK_GROUP_SPECIALIZATION": "0",
            "PYOPENCL_NO_CACHE": "1",
            **reports.SETTINGS,
            "OCLGRIND_LOG": os.path.join(self.folder, reports.LOG),
        }

    # -- talking ------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """What the worker found of OpenCL, or {"error": sentence}."""
        if self._description is None:
            self._pid = int(self.receive(START_SECONDS)["pid"])
            self._description = self.receive(START_SECONDS)
        return self._description

    def begin(self, *part: Any) -> None:
        """Give it its part: ("execute",), or ("compile", recipe)."""
        self._seen = None
        if part[0] == "execute":
            if self.describe()["executes_itself"]:
                self._apart = Apart(self.pid)
            fd = sealed_file("gpu-progress", mmap.PAGESIZE)
            try:
                self._progress = memoryview(mmap.mmap(fd, mmap.PAGESIZE)).cast("Q")
                self.send(part, fd)
            finally:
                os.close(fd)
        else:
            self._timeout = self._options.build_timeout / 1e9
            self._longest = MAX_RESULT
            self.send(part)

    def count(self, commands: int) -> None:
        """So many more commands were sent."""
        if self._progress is not None and self._progress[0] == self._sent:
            self._seen = None
        self._sent += commands

    def send(self, message: Any, fd: int | None = None) -> None:
        """Raises WorkerLostError when it is gone."""
        body = marshal.dumps(message)
        data = memoryview(_LENGTH.pack(len(body)) + body)
        deadline = time.monotonic() + max(START_SECONDS, self._timeout)
        if fd is not None:
            self._write(data[:1], deadline, fd)
            data = data[1:]
        if self._apart is not None:
            self._apart.keep()
        while data:
            data = data[self._write(data, deadline) :]

    def _write(self, data: memoryview, deadline: float, fd: int | None = None) -> int:
        if self.is_lost:
            raise WorkerLostError(self.is_lost)
        while True:
            try:
                if fd is not None:
                    return socket.send_fds(self._socket, [data], [fd])
                return self._socket.send(data)
            except BlockingIOError:
                self._wait_writable(deadline)
            except OSError:
                raise self.lose(self._cause()) from None

    def _wait_writable(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT | select.POLLIN)
        poll.poll(_SLICE * 1000)
        # A worker that can not get rid of its answers reads nothing.
        self._take_in()
        if len(self._received) > MAX_RESULT:
            raise self.lose("the GPU's worker sent nonsense")
        self._look(deadline)

    def receive(self, seconds: float | None = None) -> Any:
        """The next message. Without `seconds`, the command it is at may take its timeout."""
        deadline = None if seconds is None else time.monotonic() + seconds
        looked = time.monotonic()
        message = self.poll() if self._received or self.is_lost else None
        while message is None:
            if not self._spin.wait():
                if self._apart is not None:
                    self._apart.end()
                self._spin.sleep(_SLICE)
            message = self.poll()
            now = time.monotonic()
            # Bytes that come without end are no answer either.
            if message is None and now - looked >= _SLICE:
                looked = now
                self._look(deadline)
        return message

    def poll(self) -> Any:
        """The next message that is there, None where there is none."""
        while True:
            received = self._received
            if len(received) >= _LENGTH.size:
                size = _LENGTH.unpack_from(received)[0]
                if size > self._longest:
                    raise self.lose("the GPU's worker sent nonsense")
                end = _LENGTH.size + size
                if len(received) >= end:
                    body = bytes(received[_LENGTH.size : end])
                    del received[:end]
                    return self._parse(body)
            if self.is_lost:
                raise WorkerLostError(self.is_lost)
            if not self._take_in():
                return None

    def _take_in(self) -> bool:
        """Whether there was something to receive. WorkerLostError where it is gone."""
        try:
            data = self._socket.recv(_RECEIVED_AT_ONCE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            raise self.lose(self._cause())
        self._received += data
        return True

    def _parse(self, body: bytes) -> Any:
        if len(body) == DONE.size and body[0] == 1:
            _, number, copied = DONE.unpack(body)
            return {"done": number, "failed": [], "copied": copied}
        message = None
        try:
            if sum(map(body.count, (b",", b"[", b"{"))) <= _MOST_PARTS:
                message = json.loads(body)
        except (ValueError, RecursionError):
            pass
        if not isinstance(message, dict):
            raise self.lose("the GPU's worker sent nonsense")
        return message

    def check(self) -> None:
        """End it where one command takes too long: WorkerLostError."""
        self._look(None)

    # -- its end ------------------------------------------------------------------------------

    def _look(self, deadline: float | None) -> None:
        """While it is waited for: end it when one command took too long. Where others use the
        host's processors too, it may take longer until it had the time itself."""
        if self._has_ended() and not self._take_in():
            # What it started may still hold its socket.
            raise self.lose(self._cause())
        now = time.monotonic()
        if deadline is not None:
            if now > deadline:
                raise self.lose("the GPU's worker does not answer")
            return
        progress = self._progress[0] if self._progress is not None else 0
        # It only ever grows: a kernel that finds the counter can not play for time with it.
        if self._seen is None or self._seen[0] < progress <= self._sent:
            self._seen = (progress, now, self._processor_seconds())
            return
        _, since, used = self._seen
        over = now - since - self._timeout
        if over > 0 and (
            over > _PATIENCE * self._timeout or self._processor_seconds() - used > self._timeout
        ):
            raise self.lose(f"a command took more than {self._timeout:g} s")

    def _processor_seconds(self) -> float:
        """What the worker has used of the host's processors."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _cause(self) -> str:
        deadline = time.monotonic() + 1
        while not self._has_ended():
            if time.monotonic() > deadline:
                return "the GPU's worker closed its socket"
            time.sleep(_SLICE / 10)
        code = self._end()
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            return f"the GPU's worker was ended by {name}"
        return f"the GPU's worker ended with code {code}"

    def lose(self, reason: str) -> WorkerLostError:
        """Kill it; the error to raise."""
        self.is_lost = self.is_lost or reason
        self.close()
        return WorkerLostError(self.is_lost)

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self.is_lost = self.is_lost or "the GPU's worker was closed"
        self._end()
        self._wait_for_end()
        self._socket.close()
        self._kept.close()

    def _has_ended(self) -> bool:
        """Leaves the exit status to be taken."""
        if self._process.returncode is not None:
            return True
        how = os.WEXITED | os.WNOWAIT | os.WNOHANG
        return os.waitid(os.P_PID, self._process.pid, how) is not None

    def _end(self) -> int:
        """Kill all that it may have started, also where it has ended itself; its exit status. Until
        that is taken, no other process can have its id."""
        if self._process.returncode is None:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
        return self._process.wait()

    def _wait_for_end(self) -> None:
        """The process behind the keeper lets go of its memory before it lets go of the socket."""
        deadline = time.monotonic() + _END_SECONDS
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                if not self._socket.recv(1 << 20):
                    return
        except OSError:
            pass

    @property
    def pid(self) -> int:
        """Of the process that computes; its keeper's until that is known."""
        return self._pid or self._process.pid

    def fileno(self) -> int:
        return self._socket.fileno()


def _import_paths() -> list[str]:
    """Where the worker finds this package, and OpenCL where that is not beside its Python."""
    specs = [importlib.util.find_spec(name) for name in ("gpu", "pyopencl")]
    origins = [spec.origin for spec in specs if spec is not None and spec.origin]
    return list(dict.fromkeys(os.path.dirname(os.path.dirname(origin)) for origin in origins))


def _not_started(error: OSError) -> WorkerLostError:
    reason = os.strerror(error.errno or errno.EIO)  # guests read it: no names of the host's
    return WorkerLostError(f"the GPU's worker cannot be started: {reason}")


class Workers:
    """Starts workers, and keeps one warm so that the next need not wait."""

    def __init__(self, options: OpenClOptions, sharing: str = "auto") -> None:
        self._options = options
        self._sharing = sharing
        self._spare: Worker | None = None
        self._description: dict[str, Any] | None = None
        sweep()

    def warm(self) -> None:
        """Have a spare. WorkerLostError where none can be started."""
        if self._spare is None:
            try:
                self._spare = Worker(self._options, self._sharing)
            except OSError as error:
                raise _not_started(error) from None

    def describe(self) -> dict[str, Any]:
        """The device as a worker found it, or {"error": sentence}."""
        if self._description is None:
            try:
                self.warm()
                assert self._spare is not None
                self._description = self._spare.describe()
            except WorkerLostError as error:
                self._description = {"error": str(error)}
            missing = self._description.get("missing")
            if missing and self._options.sandbox == "required":
                named = ", ".join(missing)
                self._description = {"error": f"the GPU's worker is not sandboxed: no {named}"}
            if "error" in self._description:
                self.close()
        return self._description

    def take(self, *part: Any) -> Worker:
        """A worker with a part to play. Raises WorkerLostError."""
        self.warm()
        worker, self._spare = self._spare, None
        assert worker is not None
        try:
            found = worker.describe()
            if "error" in found:
                raise worker.lose(str(found["error"]))
            worker.begin(*part)
        except WorkerLostError:
            worker.close()
            raise
        except OSError as error:
            worker.close()
            raise _not_started(error) from None
        with suppress(WorkerLostError):  # the next one to need it is told
            self.warm()
        return worker

    def close(self) -> None:
        spare: Sequence[Worker] = (self._spare,) if self._spare is not None else ()
        for worker in spare:
            worker.close()
        self._spare = None
