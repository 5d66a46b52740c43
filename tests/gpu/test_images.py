"""Commands on images, as the host's OpenCL does them."""

from __future__ import annotations

import struct

from gpu import protocol as p
from gpu.opencl import ChannelOrder, ChannelType, MemObject
from gpu.testing import BULK, CONTEXT, QUEUE, GuestBench

IMAGE = 5
WIDTH, HEIGHT = 8, 4


def test_fill_colors_the_box_and_nothing_else(guest: GuestBench) -> None:
    guest.do(
        p.CreateImage(
            id=IMAGE,
            context=CONTEXT,
            type=MemObject.IMAGE2D,
            width=WIDTH,
            height=HEIGHT,
            channel_order=ChannelOrder.RGBA,
            channel_type=ChannelType.UNSIGNED_INT8,
        )
    )
    color = struct.pack("<4I", 1, 2, 3, 4)

    guest.do(
        p.FillImage(queue=QUEUE, image=IMAGE, origin=(2, 1, 0), region=(3, 2, 1), color=color),
        p.ReadImage(
            queue=QUEUE, image=IMAGE, blob=BULK, origin=(0, 0, 0), region=(WIDTH, HEIGHT, 1)
        ),
    )

    pixels = [guest.read(4 * at, 4) for at in range(WIDTH * HEIGHT)]
    filled = [at for at, pixel in enumerate(pixels) if pixel == bytes((1, 2, 3, 4))]
    assert filled == [x + WIDTH * y for y in (1, 2) for x in (2, 3, 4)]
    assert all(pixel == bytes(4) for at, pixel in enumerate(pixels) if at not in filled)
