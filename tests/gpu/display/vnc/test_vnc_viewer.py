"""A viewer at a running machine: it sees the picture, and the run is the one without it."""

from __future__ import annotations

import threading
from pathlib import Path

from gpu.display.scanout import Rect
from hypervisor import Machine

DEMO = Path(__file__).parents[4] / "configs" / "gpu-demo.yaml"


def test_viewer_changes_nothing_of_the_run_and_sees_its_picture(connect):
    with Machine.load(DEMO) as alone:
        alone.run(timeout=200)
        digest, picture = alone.state_sha256(), alone.gpu.screenshot()

    with Machine.load(DEMO, "devices.gpu0.display.vnc=0") as watched:
        client = connect(watched.devices["gpu0"].vnc, 16, -223)
        over = threading.Event()

        def look():
            while not over.wait(0.05):
                client.ask()
                client.update()

        viewer = threading.Thread(target=look)
        viewer.start()
        watched.run(timeout=200)
        over.set()
        viewer.join()
        client.ask()
        client.update()
        scanout = watched.devices["gpu0"].scanout

        assert watched.state_sha256() == digest
        assert watched.gpu.screenshot() == picture
        assert (client.screen[..., :3] == scanout.read(Rect(0, 0, *client.size))[..., :3]).all()
