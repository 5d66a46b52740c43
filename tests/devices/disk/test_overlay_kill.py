"""kill -9 of a process that writes to a disk: what it was told is flushed is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devices.disk import OverlayMode, commit, open_disk

SLOTS = 64
WRITER = """
import sys
from devices.disk import open_disk
disk = open_disk(sys.argv[1], overlay=sys.argv[2], read_only=False)
number = int(sys.argv[3])
while True:
    number += 1
    disk.write(number % 64 * 1536, number.to_bytes(8, "big") * 192)
    disk.flush()
    print(number, flush=True)
"""


@pytest.mark.parametrize("overlay", ["keep", "none"])
def test_acknowledged_records_survive_kill(tmp_path: Path, overlay: OverlayMode) -> None:
    path = tmp_path / "base.raw"
    path.write_bytes(bytes(SLOTS * 1536))
    acknowledged = 0

    for life in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), overlay, str(acknowledged)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout
        # Every slot is written again and again, and the kill comes in the midst of a write.
        seen = [int(writer.stdout.readline()) for _ in range(SLOTS // 3)]
        time.sleep(0.003 * life)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = max([*seen, *map(int, writer.stdout.read().split())])
        writer.wait()

        disk = open_disk(path, overlay=overlay, read_only=True)
        for number in range(max(1, acknowledged - SLOTS + 2), acknowledged + 1):
            assert disk.read(number % SLOTS * 1536, 1536) == number.to_bytes(8, "big") * 192
        disk.close()

    assert acknowledged > SLOTS


COMMITTER = """
import sys
from devices.disk import commit
commit(sys.argv[1], progress=lambda done, total: print(done, flush=True))
"""


def test_killed_commit_is_finished_by_running_it_again(tmp_path: Path) -> None:
    path = tmp_path / "base.raw"
    path.write_bytes(os.urandom(1 << 20) * 64)
    disk = open_disk(path, overlay="keep", read_only=False)
    for offset in range(0, disk.size - (2 << 20), 3 << 20):
        disk.write(offset + 512, os.urandom(1 << 20))
    expected = disk.read(0, disk.size)
    disk.close()

    committer = subprocess.Popen(
        [sys.executable, "-c", COMMITTER, f"{path}.overlay"], stdout=subprocess.PIPE
    )
    assert committer.stdout
    committer.stdout.readline()
    os.kill(committer.pid, signal.SIGKILL)
    committer.communicate()

    with pytest.raises(Exception, match="a commit of this overlay was interrupted"):
        open_disk(path, overlay="keep", read_only=False)
    commit(f"{path}.overlay")

    assert path.read_bytes() == expected
    assert os.listdir(tmp_path) == ["base.raw"]
