"""Linux's own virtio-gpu driver: its console on the display, as pictures and VNC show it."""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpu.display.scanout import Pixels
from hypervisor import Machine

pytestmark = pytest.mark.guest

CONFIGS = Path(__file__).parents[2] / "configs"
PROMPT = "\n# "
CELL = (16, 8)
"""Rows and columns of a character in the kernel's font for screens of this size."""

DESCRIPTION = """
base: {config}
boot: {{command_line: {command_line} vt.global_cursor_default=0}}
devices:
  gpu0: {{display: {{vnc: 0, password: secret}}}}
"""
COMMAND_LINE = {
    "riscv64": "console=tty0 console=ttyS0 no4lvl",
    "aarch64": "console=tty0 console=ttyAMA0",
}
LISTENS = "gpu0: VNC listens on 127.0.0.1:"

Ask = Callable[..., str]


@pytest.fixture(scope="module", params=COMMAND_LINE)
def booted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    path = tmp_path_factory.mktemp("display") / "machine.yaml"
    config = CONFIGS / f"{request.param}-display.yaml"
    path.write_text(DESCRIPTION.format(config=config, command_line=COMMAND_LINE[request.param]))
    with Machine.load(path) as machine:
        machine.console.expect(PROMPT, timeout=400)
        yield machine


@pytest.fixture
def machine(booted: Machine, request: pytest.FixtureRequest) -> Iterator[Machine]:
    yield booted
    request.node.add_report_section("call", "console", booted.console.text[-3000:])


def shown(machine: Machine) -> Pixels:
    return machine.devices["gpu0"].scanout.read()  # type: ignore[attr-defined, no-any-return]


def row_of(pixels: Pixels, number: int) -> list[bytes]:
    """The characters of a text row, each as its pixels."""
    rows, columns = CELL
    line = pixels[number * rows : (number + 1) * rows]
    return [line[:, at : at + columns].tobytes() for at in range(0, line.shape[1], columns)]


def test_driver_binds_and_takes_the_displays_size(machine: Machine, ask: Ask) -> None:
    log = ask(machine, "dmesg | grep -E 'drm|frame buffer'")

    assert "Initialized virtio_gpu" in log
    assert "switching to colour frame buffer device 100x37" in log
    assert ask(machine, "head -n 1 /sys/class/drm/card0-Virtual-1/modes") == "800x600"
    assert not re.search("error|fail|timed out", log, re.IGNORECASE)
    assert [re.sub("[0-9]+$", "", text) for text in machine.messages] == [LISTENS]


def test_boot_messages_are_on_the_display(machine: Machine, ask: Ask) -> None:
    ask(machine, "sleep 0.2")  # the driver brings changes to the display 20 times a second

    pixels = shown(machine)

    lit = [row for row in range(37) if pixels[row * 16 : row * 16 + 16, :, :3].any()]
    assert pixels.shape == (600, 800, 4)
    assert len(lit) > 20


def test_text_is_drawn_where_it_was_written(machine: Machine, ask: Ask) -> None:
    ask(machine, r"printf '\033[2J\033[5;3HABAB' >/dev/tty0; sleep 0.2")

    pixels = shown(machine)

    text = row_of(pixels, 4)
    assert text[2] == text[4] != text[3] == text[5]
    outside = pixels.copy()
    outside[4 * 16 : 5 * 16, 2 * 8 : 6 * 8] = 0
    assert not outside[..., :3].any()


def test_display_is_the_frame_buffer_bit_for_bit(machine: Machine, ask: Ask) -> None:
    ask(machine, r"for n in $(seq 60); do echo line $n >/dev/tty0; done")
    ask(machine, "head -c 2000 /dev/urandom | base64 >/dev/tty0; sleep 0.2")

    guest = ask(machine, "dd if=/dev/fb0 bs=3200 count=600 2>/dev/null | sha256sum").split()[0]

    assert guest == hashlib.sha256(shown(machine).tobytes()).hexdigest()


def test_snapshot_restores_the_picture(machine: Machine, ask: Ask) -> None:
    ask(machine, r"printf '\033[2J\033[1;1Hbefore' >/dev/tty0; sleep 0.2")
    before = shown(machine)
    snapshot = machine.snapshot()
    ask(machine, r"printf '\033[2J\033[9;9Hafter' >/dev/tty0; sleep 0.2")
    after = shown(machine)

    machine.restore(snapshot)
    restored = shown(machine)
    ask(machine, r"printf '\033[2J\033[9;9Hafter' >/dev/tty0; sleep 0.2")

    assert not np.array_equal(before, after)
    assert np.array_equal(before, restored)
    assert np.array_equal(after, shown(machine))


def test_vnc_client_sees_the_console_and_types_into_it(machine: Machine, ask: Ask) -> None:
    client = vncdo(machine, "type", "echo Typed >/tmp/typed", "key", "enter", "pause", "1")

    assert ask(machine, "cat /tmp/typed") == "Typed"
    assert np.array_equal(client, shown(machine)[..., 2::-1])
    assert client.any()


def test_pointer_of_a_vnc_client_reaches_the_tablet(machine: Machine, ask: Ask) -> None:
    tablet = ask(machine, "grep -l tablet /sys/class/input/event*/device/name").split("/")[4]
    ask(machine, f"cat /dev/input/{tablet} >/tmp/events & sleep 0.5")

    vncdo(machine, "move", "400", "300", "click", "1", "pause", "0.5")
    dump = bytes.fromhex(ask(machine, "od -v -A n -t x1 /tmp/events"))

    events = [event[2:] for event in struct.iter_unpack("<qqHHi", dump)]
    assert (3, 0, 400 * 0x7FFF // 799) in events
    assert (3, 1, 300 * 0x7FFF // 599) in events
    assert [value for kind, code, value in events if (kind, code) == (1, 0x110)] == [1, 0]


def vncdo(machine: Machine, *acts: str) -> Pixels:
    """What a real client sees at the end of its acts, while the machine runs."""
    port = re.search("[0-9]+$", machine.messages[0])
    assert port is not None
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        command = [
            *(sys.executable, "-W", "ignore", "-m", "vncdotool.command"),
            *("-s", f"127.0.0.1::{port[0]}", "-p", "secret", *acts, "capture", file.name),
        ]
        with ThreadPoolExecutor(1) as pool:
            client = pool.submit(subprocess.run, command, check=True, timeout=200)
            client.add_done_callback(lambda _: machine.stop())
            machine.run(timeout=300)
            client.result()
        with Image.open(file.name) as picture:
            return np.asarray(picture.convert("RGB"))
