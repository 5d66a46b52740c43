"""`hypervisor run --record` and `hypervisor replay`, as commands."""

from __future__ import annotations


def record(command):
    return command(
        *("run", "board.yaml", "--record", "run.rec", "--timeout", "60"),
        *("--until", "ready", "--send", "xq"),
    )


def test_recorded_run_is_replayed(folder, command):
    recorded = record(command)
    replayed = command("replay", "run.rec")

    assert (recorded.code, replayed.code) == (0, 0)
    assert replayed.out == recorded.out
    assert "the machine is the same, bit for bit" in replayed.err


def test_other_guest_is_refused(folder, command):
    record(command)
    (folder / "guest.bin").write_bytes((folder / "guest.bin").read_bytes() + b"\0")

    result = command("replay", "run.rec")

    assert result.code == 3
    assert "guest.bin is not what it was when run.rec was recorded" in result.err


def test_file_that_is_no_recording_is_refused(folder, command):
    result = command("replay", "board.yaml")

    assert (result.code, result.err) == (3, "board.yaml is not a recording\n")


def test_host_randomness_and_date_are_chosen_and_kept(folder, command):
    options = ("--set", "boot.rng_seed=host", "--set", "clock.epoch=host")

    recorded = command("run", "board.yaml", "--record", "r", "--until", "ready", *options)

    assert recorded.code == 0
    assert command("replay", "r").code == 0


def test_recording_begins_at_a_snapshot(folder, command):
    command("run", "board.yaml", "--until", "ready", "--snapshot", "s", "--timeout", "60")
    recorded = command(
        *("run", "board.yaml", "--restore", "s", "--record", "r", "--send", "xq"),
        *("--timeout", "60"),
    )
    (folder / "s").rename(folder / "moved")

    lost = command("replay", "r")
    replayed = command("replay", "r", "--restore", "moved")

    assert recorded.code == 0
    assert lost.code == 3
    assert "--restore names it where it is now" in lost.err
    assert replayed.code == 0
    assert "the machine is the same, bit for bit" in replayed.err


def test_snapshot_for_a_recording_that_has_none_is_refused(folder, command):
    record(command)

    result = command("replay", "run.rec", "--restore", "s")

    assert result.code == 2
    assert "begins when the machine is switched on: no --restore" in result.err


def test_replay_is_traced(folder, command):
    record(command)

    result = command("replay", "run.rec", "--trace", "mmio:uart0.THR", "--trace-to", "t.txt")

    assert result.code == 0
    assert "mmio uart0.THR <- 0x78 (1 bytes)" in (folder / "t.txt").read_text()


def test_disk_that_is_written_in_place_is_replayed_and_not_gone_back_with(folder, command):
    (folder / "disk.img").write_bytes(bytes(1 << 16))
    text = (folder / "board.yaml").read_text()
    device = "  disk0: {type: virtio.blk, at: 0x1000_1000, irq: plic.1, file: disk.img}\n"
    (folder / "board.yaml").write_text(text + device)
    options = ("--record", "r", "--until", "ready", "--timeout", "60")
    recorded = command("run", "board.yaml", *options)

    replayed = command("replay", "r")
    history = command("run", "board.yaml", "--history", "--until", "ready", "--timeout", "60")
    (folder / "disk.img").write_bytes(bytes(1 << 15) + b"x" * (1 << 15))

    assert (recorded.code, replayed.code, history.code) == (0, 0, 3)
    assert "disk0 writes to" in history.err
    assert "disk.img is not what it was when r was recorded" in command("replay", "r").err


def test_recording_to_where_nothing_can_be_written(folder, command):
    result = command("run", "board.yaml", "--record", "none/r")

    assert result.code == 3
    assert "cannot be written" in result.err


def test_cut_recording_says_so(folder, command):
    record(command)
    (folder / "run.rec").write_bytes((folder / "run.rec").read_bytes()[:-40])

    result = command("replay", "run.rec")

    assert result.code == 0
    assert "the recording ends here, without the end of its run" in result.err


def test_history_needs_no_debugger(folder, command):
    result = command("run", "board.yaml", "--history", "--until", "ready", "--timeout", "60")

    assert result.code == 0
