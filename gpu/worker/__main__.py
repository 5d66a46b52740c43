"""python -m gpu.worker FD: waits for its part, and plays it until the socket is closed."""

from __future__ import annotations

import importlib
import mmap
import os
import socket
import sys
import warnings
from typing import Any

from gpu.worker.channel import Channel
from gpu.worker.printed import Printed
from gpu.worker.sandbox import Sandbox


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)
    channel = Channel(connection)
    warnings.simplefilter("ignore")
    setup = channel.receive()
    sandbox = Sandbox(os.getcwd(), setup["linker"])
    sandbox.enter(connection, lambda pid: channel.send({"pid": pid}))
    try:
        device, description = _open(setup)
    except LookupError as error:
        channel.send({"error": str(error)})
        return
    description["missing"] = sandbox.missing
    channel.send(description)
    try:
        part, *arguments = channel.receive()
        printed = Printed()
        sandbox.lock(part, device.platform.name, setup["memory"])
        if part == "compile":
            _compile(channel, device, *arguments)
        else:
            _execute(channel, device, description["sharing"], printed, *arguments)
    except EOFError:
        pass


def _open(setup: dict[str, str]) -> tuple[Any, dict[str, Any]]:
    try:
        from gpu.worker.device import choose, describe

        # Later there is nothing to import from.
        for name in _LATER:
            importlib.import_module(name)
    except ImportError as error:
        raise LookupError(f"pyopencl cannot be loaded: {error}") from None
    device = choose(setup["platform"], setup["device"])
    description = describe(device)
    if setup["sharing"] != "auto":
        description["sharing"] = setup["sharing"]
    return device, description


_LATER = (
    "gpu.worker.build",
    "gpu.worker.execute",
    "gpu.worker.groups",
    "gpu.worker.reports",
    "numpy",
    "pyopencl.invoker",
    "pyopencl.characterize",
)


def _compile(channel: Channel, device: Any, recipe: Any, binary: bytes) -> None:
    from gpu.worker.build import build, build_for_group

    if recipe[0] == "group":
        channel.send(build_for_group(device, recipe, binary))
    else:
        channel.send(build(device, recipe))


def _execute(channel: Channel, device: Any, sharing: str, printed: Printed) -> None:
    from gpu.worker.execute import Executor
    from gpu.worker.reports import Reports

    progress = channel.take_fd()
    cells = memoryview(mmap.mmap(progress, mmap.PAGESIZE)).cast("Q")
    os.close(progress)
    executor = Executor(device, sharing, printed, cells, channel.take_fd)
    reports = Reports(os.environ.get("OCLGRIND_LOG", ""))
    channel.send({"ready": True})
    while True:
        number, operations = channel.receive()
        failed = executor.run(operations)
        copied = executor.memories.copied
        found = reports.take() if reports.exists else None
        if failed or found:
            done = {"done": number, "failed": failed, "copied": copied}
            channel.send({**done, "found": found} if found else done)
        else:
            channel.done(number, copied)


if __name__ == "__main__":
    try:
        main()
    finally:
        # OpenCL's own end may wait for a kernel that never does.
        os._exit(0)
