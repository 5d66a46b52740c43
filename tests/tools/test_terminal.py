"""The console script as a user has it: on a terminal, in pipes, under signals."""

import os
import pty
import signal
import subprocess
import sys
import termios
import time

import pexpect
import pytest

HYPERVISOR = [sys.executable, "-m", "tools.main"]
SLOW = 60
"""Seconds that a loaded host may take for anything here."""


@pytest.fixture
def start(folder):
    """`start("run", "board.yaml")` on a terminal of its own."""
    children = []

    def spawn(*arguments):
        child = pexpect.spawn(
            HYPERVISOR[0], [*HYPERVISOR[1:], *arguments], timeout=SLOW, cwd=folder, echo=True
        )
        children.append(child)
        return child

    yield spawn
    for child in children:
        child.close(force=True)


@pytest.fixture
def process(folder):
    """`process("run", ...)` with pipes."""
    started = []

    def popen(*arguments, **options):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options
        child = subprocess.Popen([*HYPERVISOR, *arguments], cwd=folder, **pipes)
        started.append(child)
        return child

    yield popen
    for child in started:
        child.kill()
        child.communicate()


def modes(child):
    """What raw mode changes, without what ptys change by themselves."""
    iflag, oflag, _, lflag, *_ = termios.tcgetattr(child.child_fd)
    return iflag, oflag, lflag


def code_of(child):
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def test_typed_text_reaches_the_guest_and_power_off_ends_with_0(start):
    child = start("run", "board.yaml")
    child.expect_exact("guest ready")

    child.send("hello")
    child.expect_exact("hello")
    child.send("q")

    assert code_of(child) == 0


def test_terminal_is_raw_while_the_guest_runs_and_restored_after(start):
    child = start("run", "board.yaml")
    before = modes(child)
    child.expect_exact("guest ready")
    during = modes(child)

    child.send("\x01x")
    child.expect_exact("stopped by its user")
    after = modes(child)

    assert not during[2] & (termios.ECHO | termios.ICANON | termios.ISIG)
    assert after == before
    assert code_of(child) == 0


def test_escape_h_helps_and_escape_escape_sends_it(start):
    child = start("run", "board.yaml")
    child.expect_exact("guest ready")

    child.send("\x01h")
    child.expect_exact("Ctrl-A x: leave")
    child.send("\x01\x01")
    child.expect_exact("\x01")
    child.send("\x01zq")

    assert code_of(child) == 0


def test_control_c_goes_to_the_guest(start):
    child = start("run", "board.yaml")
    child.expect_exact("guest ready")

    child.send("\x03")
    child.expect_exact("\x03")
    child.send("q")

    assert code_of(child) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_restores_the_terminal(start, number):
    child = start("run", "board.yaml")
    before = modes(child)
    child.expect_exact("guest ready")

    os.kill(child.pid, number)
    child.expect_exact("stopped by its user")

    assert modes(child) == before
    assert code_of(child) == 128 + number


def test_signal_while_the_machine_is_built_ends_it(folder, process):
    (folder / "slow.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    child = process("run", "board.yaml", "--set", "devices.s.type=./slow.py:S", "--stats", "s.json")
    assert child.stdout.readline() == b"here\n"

    child.terminate()

    assert child.wait(SLOW) == 128 + signal.SIGTERM
    assert child.stderr.read() == b"interrupted\n"
    assert '"exit": 143' in (folder / "s.json").read_text()


def test_message_after_the_guests_output_begins_a_line(start):
    child = start("run", "board.yaml")
    child.expect_exact("guest ready")

    child.send("abc")
    child.expect_exact("abc")
    child.send("\x01x")

    child.expect_exact("\r\nhypervisor: stopped by its user")


def test_error_while_running_restores_the_terminal(start, folder):
    (folder / "bomb.py").write_text(
        "from hypervisor.device import Device\n"
        "class Bomb(Device):\n"
        "    address_size = 0x1000\n"
        "    def __init__(self, *args):\n"
        "        super().__init__(*args)\n"
        "        self.timer('fuse', self.explode).arm(1_000_000)\n"
        "    def reset(self):\n"
        "        pass\n"
        "    def explode(self):\n"
        "        raise RuntimeError('boom')\n"
    )
    child = start("run", "board.yaml", "--set", "devices.b={type: ./bomb.py:Bomb, at: 0x2000_0000}")
    before = modes(child)

    child.expect_exact("RuntimeError: boom")

    assert modes(child) == before
    assert code_of(child) == 70


def test_script_that_ends_in_until_leaves_the_terminal_alone(start):
    child = start("run", "board.yaml", "--until", "never")
    before = modes(child)
    child.expect_exact("guest ready")

    during = modes(child)
    child.sendintr()

    assert during == before
    assert code_of(child) == 130


def test_progress_and_colour_are_for_terminals_only(folder, start, process):
    on_terminal = start("devices", "ns16550a")
    on_terminal.expect(pexpect.EOF)
    piped, _ = process("devices", "ns16550a").communicate(timeout=SLOW)

    assert b"\x1b[1m" in on_terminal.before
    assert b"\x1b" not in piped


def test_no_color_is_respected(folder, monkeypatch, start):
    monkeypatch.setenv("NO_COLOR", "1")

    child = start("devices", "ns16550a")
    child.expect(pexpect.EOF)

    assert b"\x1b" not in child.before


def test_piped_input_is_typed_and_its_end_does_not_end_the_guest(process):
    child = process("run", "board.yaml", "--timeout", "3")

    out, err = child.communicate(b"abc", timeout=SLOW)

    assert out == b"guest ready\nabc"
    assert b"3 seconds ran out" in err
    assert child.returncode == 124


def test_input_from_a_file_makes_equal_runs(folder, process):
    (folder / "keys").write_text("some keys, then q")
    states = set()

    for _ in range(2):
        with (folder / "keys").open() as keys:
            process("run", "board.yaml", "--stats", "s.json", stdin=keys).communicate(timeout=SLOW)
        states.add((folder / "s.json").read_text().split('"virtual_ns"')[1])

    assert len(states) == 1


def test_closed_standard_streams_do_no_harm(folder):
    command = f"{HYPERVISOR[0]} -m tools.main run board.yaml --stats s.json --send abcq"

    code = subprocess.call(f"{command} <&- >&- 2>&-", shell=True, cwd=folder, timeout=SLOW)

    assert code == 0
    assert '"outcome": "power-off"' in (folder / "s.json").read_text()


def test_reader_that_leaves_does_not_end_the_guest(folder, process):
    child = process("run", "board.yaml", "--console", "stdio", "--stats", "s.json")
    assert child.stdout.read(5) == b"guest"
    child.stdout.close()

    child.stdin.write(b"abc")
    child.stdin.flush()
    time.sleep(0.2)
    child.stdin.write(b"q")
    child.stdin.flush()

    assert child.wait(SLOW) == 0
    assert child.stderr.read() == b""


def test_reader_that_stalls_holds_the_run_no_longer_than_its_time(folder, assemble, process):
    flood = "li s1, 0x10000000\n li a0, 'x'\n1: sb a0, 0(s1)\n j 1b\n"
    (folder / "guest.bin").write_bytes(assemble(flood))

    child = process("run", "board.yaml", "--timeout", "2", "--until", "never")

    assert child.wait(SLOW) == 124


def test_output_that_nobody_reads_is_no_error_to_report(process):
    reader, writer = os.pipe()
    os.close(reader)

    child = process("schema", stdout=writer)
    os.close(writer)

    assert child.stderr.read() == b""
    assert child.wait(SLOW) == 1


def test_device_tree_is_source_on_a_terminal_and_a_blob_in_a_pipe(start, process):
    on_terminal = start("dtb", "board.yaml")
    on_terminal.expect(pexpect.EOF)
    piped, _ = process("dtb", "board.yaml").communicate(timeout=SLOW)

    assert on_terminal.before.startswith(b"/dts-v1/;")
    assert piped[:4] == bytes.fromhex("d00dfeed")


def test_terminal_that_takes_no_output_does_not_hold_up_the_end(folder):
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [*HYPERVISOR, "run", "board.yaml", "--timeout", "2"],
        cwd=folder, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    termios.tcflow(theirs, termios.TCOOFF)

    try:
        assert child.wait(SLOW) == 124
    finally:
        child.kill()
        child.wait()
        os.close(ours)
        os.close(theirs)


def test_escape_c_is_the_monitor_and_back(start):
    child = start("run", "board.yaml")
    child.expect_exact("guest ready")

    child.send("\x01c")
    child.expect_exact("(hypervisor) ")
    child.send("info nothinj\x7fg\r")
    child.expect_exact("there is no `info nothing`")
    child.send("stop\r")
    child.send("info status\r")
    child.expect_exact("is paused at")
    child.send("cont\r")
    child.expect_exact("(hypervisor) ")
    child.send("\x01c")
    child.expect_exact("the guest's console:")
    child.send("q")

    assert code_of(child) == 0


def test_monitor_on_standard_input_quits(process):
    child = process("run", "board.yaml", "--monitor", "stdio", "--paused")

    out, _ = child.communicate(b"info status\nquit\n", timeout=SLOW)

    assert b"is paused at 0.000000000 s" in out
    assert child.returncode == 0


def test_monitor_place_that_is_none_is_a_sentence(process):
    child = process("run", "board.yaml", "--qmp", "nowhere")

    _, err = child.communicate(timeout=SLOW)

    assert child.returncode == 2
    assert b"'nowhere' is not unix:PATH or tcp:HOST:PORT" in err


def test_inspector_runs_a_machine_and_leaves_nothing(start):
    child = start("inspect", "board.yaml")
    child.expect_exact("uart0")
    child.expect_exact("running")

    child.send("\x11")

    assert code_of(child) == 0


def test_inspector_of_a_wrong_description_says_what_is_wrong(process):
    child = process("inspect", "nothing.yaml")

    _, err = child.communicate(timeout=SLOW)

    assert child.returncode == 3
    assert b"nothing.yaml" in err
