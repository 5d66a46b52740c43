"""A real Linux traced: the worst interrupt latency of each line, and Perfetto's view of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from hypervisor import Machine
from hypervisor.trace import TraceReader
from hypervisor.trace.database import database

pytestmark = pytest.mark.guest

Restored = Callable[[int], Machine]
Ask = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


def test_shell_command_is_traced_from_key_to_answer(
    restored: Restored, ask: Ask, folder: Path
) -> None:
    machine = restored(1)
    traces = [
        machine.trace("all,trap,taken", folder / "shell.hvt"),
        machine.trace("interrupts,mmio:uart0", folder / "shell.pftrace"),
    ]

    answer = ask(machine, "echo traced | tr a-z A-Z")
    for trace in traces:
        trace.close()

    assert answer.strip() == "TRACED"
    with TraceReader(folder / "shell.hvt") as reader:
        found = database(reader)
    lines = found.execute("SELECT line, count, worst FROM latency").fetchall()
    assert [line for line, _, _ in lines] == ["uart0"]
    _, count, worst = lines[0]
    assert count >= len("echo traced")
    # A pending interrupt waits while the kernel masks it: long, and not without end.
    assert 0 < worst < 10_000_000
    kinds = {row[0] for row in found.execute("SELECT DISTINCT kind FROM events")}
    assert {"mmio", "irq", "ack", "eoi", "taken", "trap", "timer", "firmware"} <= kinds
    late = found.execute("SELECT count(*) FROM ack WHERE taken > latency OR taken < -1").fetchone()
    assert late == (0,)
    _check_perfetto(folder / "shell.pftrace", count)


def _check_perfetto(path: Path, acknowledged: int) -> None:
    trace = Trace.FromString(path.read_bytes())
    tracks = {
        packet.track_descriptor.uuid: packet.track_descriptor.name
        for packet in trace.packet
        if packet.HasField("track_descriptor")
    }
    assert {"hart 0", "uart0", "uart0 (plic.10)"} <= set(tracks.values())
    raised, taken = {}, {}
    for packet in trace.packet:
        event = packet.track_event
        place = (packet.timestamp, tracks.get(event.track_uuid, ""))
        raised |= dict.fromkeys(event.flow_ids, place)
        taken |= dict.fromkeys(event.terminating_flow_ids, place)
    assert len(taken) >= acknowledged - 1
    assert {track for _, track in taken.values()} == {"hart 0"}
    assert all(raised[flow][1] == "uart0 (plic.10)" for flow in taken)
    assert all(raised[flow][0] <= time for flow, (time, _) in taken.items())


def test_tracing_does_not_change_the_run(restored: Restored, ask: Ask, folder: Path) -> None:
    plain, traced = restored(4), restored(4)
    traced.trace("all,trap,taken", folder / "four.hvt")

    for machine in (plain, traced):
        ask(machine, "cat /proc/interrupts; sleep 0.2; nproc")

    assert traced.state_sha256() == plain.state_sha256()
