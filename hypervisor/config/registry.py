"""Device types by name: installed ones (entry points), and classes in files of the user's own."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from hypervisor.config.problem import suggestion
from hypervisor.device import Device

GROUP = "hypervisor.devices"

FindDevice = Callable[[str, str], type[Device]]
"""A device type's name and the directory of the file that says it, to its class. Raises
DeviceTypeError."""


class DeviceTypeError(Exception):
    """A device type cannot be had: one sentence."""


def find_device(name: str, directory: str = "") -> type[Device]:
    """The class of device type `name`: an installed one's, or `./file.py:Class` below `directory`.

    Only what is named is imported. Raises DeviceTypeError.
    """
    if is_own_file(name):
        return _from_file(name, directory)
    return _installed(name)


def is_own_file(name: str) -> bool:
    """Whether a type names a file of the user's own."""
    return name.rpartition(":")[0].endswith(".py")


def device_types() -> list[str]:
    """The names of all installed device types, sorted."""
    return sorted(_entry_points())


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _installed(name: str) -> type[Device]:
    entry = _entry_points().get(name)
    if entry is None:
        if name.endswith(".py"):
            raise DeviceTypeError(f"'{name}' names no class; write '{name}:CLASS'")
        raise DeviceTypeError(f"no device type '{name}'{suggestion(name, device_types())}")
    try:
        found = entry.load()
    except Exception as error:
        raise DeviceTypeError(
            f"device type '{name}' is installed ({entry.value}) but cannot be imported: "
            f"{_reason(error)}"
        ) from None
    return _checked(found, entry.value)


def _from_file(name: str, directory: str) -> type[Device]:
    file, _, class_name = name.rpartition(":")
    path = os.path.normpath(os.path.join(directory, os.path.expanduser(file)))
    module = _run(path)
    found = vars(module).get(class_name)
    if found is None:
        classes = [each for each, value in vars(module).items() if _is_model(value, module)]
        raise DeviceTypeError(
            f"{path} has no class '{class_name}'{suggestion(class_name, classes)}"
        )
    return _checked(found, f"'{class_name}' in {path}")


def _run(path: str) -> ModuleType:
    """Run a user's file as a module of its own."""
    digest = hashlib.sha256(os.path.realpath(path).encode(errors="replace")).hexdigest()
    spec = importlib.util.spec_from_file_location(f"hypervisor_own_{digest[:16]}", path)
    if spec is None or spec.loader is None:
        raise DeviceTypeError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # pydantic and dataclasses look classes' modules up by name.
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise DeviceTypeError(_failure(path, error)) from None
    return module


def _failure(path: str, error: BaseException) -> str:
    if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError) and (
        error.filename == path or error.filename == os.path.abspath(path)
    ):
        return f"cannot read {path}: {error.strerror}"
    if isinstance(error, SyntaxError) and error.filename in (path, os.path.abspath(path)):
        return f"{path}:{error.lineno}:{error.offset}: {error.msg}"
    own = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if os.path.abspath(frame.filename) == os.path.abspath(path)
    ]
    place = f"{path}:{own[-1]}" if own else path
    return f"{place}: {_reason(error)}"


def _reason(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _is_model(value: Any, module: ModuleType) -> bool:
    return isinstance(value, type) and value.__module__ == module.__name__


def _checked(found: Any, where: str) -> type[Device]:
    if not (isinstance(found, type) and issubclass(found, Device)):
        raise DeviceTypeError(
            f"{where} is not a device: it must derive from hypervisor.device.Device"
        )
    return found
