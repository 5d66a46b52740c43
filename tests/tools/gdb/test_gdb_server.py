"""The GDB server as a client sees it."""

from __future__ import annotations

import errno
import random
import re
import socket
import threading
import time

import pytest

from tools.gdb.server import parse_place

RAM = 0x8000_0000
DATA = 0x8008_0000
PC = 32
HALT = "li t0, 0x5555\n li t1, 0x100000\n sw t0, (t1)\n 9: j 9b\n"


def pc_of(client):
    return int.from_bytes(bytes.fromhex(client.ask(f"p{PC:x}")), "little")


def register(client, number):
    return int.from_bytes(bytes.fromhex(client.ask(f"p{number:x}")), "little")


S0, S1, S2 = 8, 9, 18


def test_machine_waits_at_its_first_instruction(client):
    assert client.ask("?").startswith("T05thread:1;") or client.ask("?") == "S05"
    assert pc_of(client) == RAM


def test_step_executes_one_instruction(client, bench):
    client.ask("?")
    places = []
    while register(client, S1) != 8:
        assert client.ask("vCont;s:1;c") == "T05thread:1;"
        places.append(pc_of(client))

    assert places[0] > RAM
    assert bench.machine.memory.read(DATA, 8) == bytes(8)


def test_breakpoint_stops_the_machine_and_is_removed(client):
    client.ask("?")
    while register(client, S1) != 8:
        client.ask("s")
    there = pc_of(client)

    placed = client.ask(f"Z0,{there:x},4")
    stops = [client.ask("vCont;c") for _ in range(3)]
    count = register(client, S1)
    client.ask(f"z0,{there:x},4")
    client.send("vCont;c")
    client.socket.sendall(b"\x03")

    assert (placed, stops, count) == ("OK", ["T05thread:1;swbreak:;"] * 3, 11)
    assert client.receive() == "T02thread:1;"
    assert register(client, S1) >= 11


@pytest.mark.parametrize(("kind", "word"), [(2, "watch"), (3, "rwatch"), (4, "awatch")])
def test_watchpoint_names_the_virtual_address(kind, word, client):
    client.ask("?")
    client.ask(f"Z{kind},{DATA + 4:x},2")

    assert client.ask("c") == f"T05thread:1;{word}:{DATA + 4:x};"


def test_watchpoint_where_no_ram_is_is_refused(client):
    assert client.ask("Z2,100000,4") == "E04"


def test_memory_and_registers_can_be_changed(client, bench):
    client.ask("?")

    written = (
        client.ask(f"M{DATA + 8:x},4:01020304"),
        client.ask(f"X{DATA + 12:x},2:".encode() + b"\xff#"),
    )
    assert written == ("OK", "OK")
    assert client.ask(f"m{DATA + 8:x},8") == "01020304ff230000"
    assert client.ask(f"P{S0:x}=8877665544332211") == "OK"
    assert register(client, S0) == 0x1122334455667788
    assert bench.machine.cpu[0].registers["s0"] == 0x1122334455667788


def test_all_registers_are_written_back_as_they_were(client):
    everything = client.ask("g")

    assert client.ask("G" + everything) == "OK"
    assert client.ask("g") == everything


@pytest.mark.parametrize(
    "packet", ["m0,8", "m80100000,4", "M80100000,1:00", "mffffffffffffffff,10"]
)
def test_memory_that_is_no_ram_is_an_error(packet, client):
    assert client.ask(packet) == "E0e"


def test_description_names_system_registers(client):
    text = client.ask("qXfer:features:read:target.xml:0,3fff")
    names = re.findall(r'<reg name="(\w+)"', text)

    assert text.startswith('l<?xml version="1.0"?>')
    assert {"satp", "stvec", "mstatus", "scause", "fcsr", "priv"} <= set(names)
    assert names.index("pc") == PC
    number = names.index("mhartid")
    assert client.ask(f"p{number:x}") == "00" * 8


def test_long_answers_come_in_parts(client):
    whole = client.ask("qXfer:features:read:target.xml:0,3fff")[1:]
    parts, at = "", 0
    while True:
        part = client.ask(f"qXfer:features:read:target.xml:{at:x},100")
        parts += part[1:]
        at = len(parts)
        if part[0] == "l":
            break

    assert parts == whole


def test_harts_are_threads(bench_of):
    client = bench_of("csrr s0, mhartid\n1: addi s1, s1, 1\n j 1b", harts=3).connect()
    client.ask("?")

    assert client.ask("qfThreadInfo") == "m1,2,3"
    assert client.ask("qsThreadInfo") == "l"
    assert bytes.fromhex(client.ask("qThreadExtraInfo,2")) == b"hart 1 (running)"
    assert [client.ask("T3"), client.ask("T4")] == ["OK", "E01"]
    assert client.ask("vCont;s:3;c") == "T05thread:3;"
    assert client.ask("vCont;s:2") == "T05thread:2;"
    assert [client.ask("Hg3"), register(client, S0)] == ["OK", 2]


def test_power_off_ends_the_session(bench_of):
    bench = bench_of(HALT)
    client = bench.connect()
    client.ask("?")

    assert client.ask("c") == "W00"
    bench.finish()
    assert bench.outcome.kind == "power-off"


def test_failed_machine_can_be_looked_at(bench_of):
    client = bench_of("csrw mtvec, zero\n unimp\n").connect()
    client.ask("?")
    client.send("c")
    said = ""
    while (answer := client.receive()).startswith("O"):
        said += bytes.fromhex(answer[1:]).decode()

    assert answer == "T06thread:1;"
    assert "trap with no handler" in said


def test_kill_ends_the_machine(bench):
    client = bench.connect()
    client.ask("?")
    client.send("k")
    bench.finish()

    assert (bench.outcome.kind, bench.outcome.sentence) == ("stopped", "ended by its debugger")


@pytest.mark.parametrize("leave", [lambda client: client.ask("D"), lambda client: None])
def test_client_that_detaches_or_vanishes_leaves_a_machine_that_runs(leave, bench):
    client = bench.connect()
    client.ask("?")
    client.ask(f"Z0,{RAM:x},4")
    client.ask(f"Z2,{DATA:x},8")
    leave(client)
    client.socket.close()
    bench.wait_for(lambda: bench.machine.clock.cell.units > 10_000)
    again = bench.connect()

    assert again.ask("qC") == "QC1"
    assert len(bench.machine.breakpoints) == 0
    assert register(again, S1) > 100


def test_no_ack_mode(client):
    assert client.ask("QStartNoAckMode") == "OK"
    assert client.ask("?")


def test_physical_memory_mode(client):
    assert client.ask("qqemu.PhyMemMode") == "0"
    assert client.ask("Qqemu.PhyMemMode:1") == "OK"
    assert client.ask("qqemu.PhyMemMode") == "1"
    assert client.ask(f"m{RAM:x},2")


def test_monitor_command_prints(client):
    answer = client.ask("qRcmd," + b"history".hex())

    assert bytes.fromhex(answer[1:]) == b"no history is kept; `history on` keeps one from then on\n"
    assert client.receive() == "OK"


def test_random_packets_do_no_harm(bench):
    chance = random.Random(1)
    commands = [
        "m",
        "M",
        "X",
        "Z0,",
        "z2,",
        "Hg",
        "T",
        "p",
        "P",
        "G",
        "qXfer:",
        "vCont;",
        "qRcmd,",
        "Q",
    ]
    client = bench.connect()
    client.ask("QStartNoAckMode")
    for _ in range(300):
        noise = "".join(
            chance.choice("0123456789abcdef,;:=-xyz ") for _ in range(chance.randrange(20))
        )
        command = chance.choice(commands).replace("vCont;", "vCont;t")
        client.ask(command + noise)
    for _ in range(20):
        client.socket.sendall(
            bytes(chance.randrange(1, 256) for _ in range(200)).replace(b"\x03", b"")
        )
    client.socket.close()
    again = bench.connect()

    assert again.ask("qC") == "QC1"


def test_client_that_floods_waits_for_the_machine(bench):
    """What it sends beyond the bound stays in its socket."""
    client = bench.connect()
    client.ask("?")
    begun, go_on = threading.Event(), threading.Event()

    def hold():
        begun.set()
        go_on.wait(60)

    bench.control.post(hold)
    begun.wait(60)
    for _ in range(500):
        client.send("qC")
    time.sleep(0.5)
    waiting = len(bench.control._work)
    go_on.set()

    assert 0 < waiting <= 64
    assert [client.receive() for _ in range(500)] == ["QC1"] * 500


def test_server_that_cannot_open_files_looks_again_later(bench, monkeypatch):
    refused = iter([OSError(errno.EMFILE, "too many open files")] * 3)
    accept, calls = socket.socket.accept, []

    def limited(listening):
        calls.append(time.monotonic())
        for error in refused:
            raise error
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", limited)

    assert bench.connect().ask("qC") == "QC1"
    assert len(calls) == 4
    assert calls[3] - calls[0] >= 0.29


@pytest.mark.parametrize("text", ["nonsense", ":", "host:99999", "1.2.3.4:-1"])
def test_place_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        parse_place(text)


def test_place_without_host_is_the_loopback():
    assert parse_place(":1234") == ("127.0.0.1", 1234)
    assert parse_place("[::1]:1234") == ("::1", 1234)
