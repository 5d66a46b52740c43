"""A session of keys on a terminal and a fetch over the network, replayed in other processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pexpect
import pytest

from hypervisor.history import History
from hypervisor.machine import Machine
from hypervisor.recording import Recording, Replayer, read_recording

pytestmark = pytest.mark.guest

ROOT = Path(__file__).parents[2]
PROMPT = "\n# "


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording."""
    folder = tmp_path_factory.mktemp("session")
    (folder / "page").write_text("what the world said\n" * 3000)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        guest = pexpect.spawn(
            sys.executable,
            [
                *("-m", "tools.main", "run", "configs/riscv64-network.yaml"),
                *("--record", str(folder / "session.rec")),
            ],
            cwd=str(ROOT),
            timeout=300,
        )
        guest.expect(PROMPT)
        for key in "cat /proc/uptime":
            guest.send(key)
        guest.send("\r")
        guest.expect(PROMPT)
        guest.send(f"wget -q -O - http://10.0.2.2:{server.server_address[1]}/page | md5sum\r")
        guest.expect("[0-9a-f]{32}")
        guest.expect(PROMPT)
        guest.send("\x01x")
        guest.expect(pexpect.EOF)
        guest.close()
        server.shutdown()
    return folder / "session.rec"


@pytest.fixture(scope="module")
def recording(session: Path) -> Recording:
    return read_recording(session)


def replaying(recording: Recording) -> tuple[Machine, Replayer]:
    machine = Machine(recording.description(), offline=True)
    return machine, Replayer(machine, recording)


def test_recording_holds_keys_and_frames_and_is_small(session: Path, recording: Recording) -> None:
    kinds = [item.kind for item in recording.items]

    assert recording.is_whole
    assert kinds.count("console") >= 17
    assert kinds.count("frame") > 40
    assert session.stat().st_size < 200_000


def test_command_replays_it_bit_for_bit(session: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "tools.main", "replay", str(session)),
            *("--console", f"file:{tmp_path / 'console'}"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert "the machine is the same, bit for bit" in result.stderr
    assert "/page | md5sum" in (tmp_path / "console").read_text(errors="replace")


def test_tools_that_were_not_there_change_nothing(recording: Recording, tmp_path: Path) -> None:
    machine, replayer = replaying(recording)
    with machine:
        machine.trace("irq,trap,request", str(tmp_path / "events"))
        symbols = machine.programs[0].symbols
        address = symbols.address_of("do_sys_openat2") if symbols is not None else None
        assert address is not None
        machine.breakpoints.add(address)
        stops = 0
        while (outcome := machine.run(timeout=400)).stop is not None:
            stops += 1
            machine.step()
            if stops == 20:
                machine.breakpoints.watch(machine.cpu[0].registers["sp"], 8, "access", hart=0)
            if stops > 60:
                machine.breakpoints.clear()
        assert outcome.kind == "replayed"
        assert stops > 60
        assert machine.state_sha256() == replayer.state


def test_replay_that_was_taken_back_comes_to_the_same_end(recording: Recording) -> None:
    machine, replayer = replaying(recording)
    with machine:
        machine.history = History(machine)
        half = recording.items[len(recording.items) // 2].at
        machine.run_to(half)
        machine.history.rewind(20_000_000)
        for _ in range(3):
            machine.history.step_back()
        outcome = machine.run(timeout=400)

        assert outcome.kind == "replayed"
        assert machine.state_sha256() == replayer.state
