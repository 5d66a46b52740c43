"""Which of the host's devices is chosen."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gpu.worker import device
from gpu.worker.device import choose


def platform(name: str, *versions: str) -> SimpleNamespace:
    devices = [SimpleNamespace(name=version, version=version, type=2) for version in versions]
    return SimpleNamespace(name=name, get_devices=lambda: devices)


INTERPRETER = platform("Oclgrind", "OpenCL 3.0 Oclgrind")
THREADS, DIRECT = "OpenCL 3.0 PoCL HSTR: pthread-x86_64", "OpenCL 3.0 PoCL HSTR: basic-x86_64"


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [((DIRECT,), DIRECT), ((DIRECT, THREADS), THREADS), ((), "OpenCL 3.0 Oclgrind")],
)
def test_interpreter_is_the_last_to_be_chosen(
    monkeypatch: pytest.MonkeyPatch, versions: tuple[str, ...], chosen: str
) -> None:
    platforms = [INTERPRETER, platform("Portable Computing Language", *versions)]
    monkeypatch.setattr(device.cl, "get_platforms", lambda: platforms)

    assert choose("auto", "auto").name == chosen


def test_device_that_is_named_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    platforms = [platform("Portable Computing Language", THREADS, DIRECT), INTERPRETER]
    monkeypatch.setattr(device.cl, "get_platforms", lambda: platforms)

    assert choose("auto", "basic").name == DIRECT
